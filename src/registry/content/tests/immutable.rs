//! Tags that neither move nor go.

use futures::future::join_all;

use super::*;

fn v() -> ImmutableTags {
    ImmutableTags::new(["v*"])
}

fn immutable(new: NewManifest) -> NewManifest {
    NewManifest { is_immutable: true, ..new }
}

/// Sixteen pushes of one tag at the same time, each of another image, spread over these.
async fn race(contents: &[Content]) {
    let app = repository("app");
    let config = push_blob(&contents[0], &app, b"config").await;
    for round in 0..4 {
        let name = format!("v{round}");
        let pushes = (0..16).map(|n| {
            let new = immutable(image(&format!("{round}-{n}"), &config, None, Some(&name)));
            let (content, app) = (contents[n % contents.len()].clone(), app.clone());
            tokio::spawn(async move { content.put_manifest(&app, new).await })
        });
        let results: Vec<_> = join_all(pushes).await.into_iter().map(Result::unwrap).collect();
        let won: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok()).collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for refused in results.iter().filter_map(|result| result.as_ref().err()) {
            match refused {
                ContentError::TagImmutable { tag, digest } => assert_eq!((tag.as_str(), digest), (&*name, won[0])),
                other => panic!("{other:?}"),
            }
        }
        for content in contents {
            let stored = content.get_manifest(&app, &Reference::Tag(tag(&name))).await.unwrap();
            assert_eq!(stored.digest, *won[0]);
        }
    }
}

over_each_store! {
    async fn an_immutable_tag_stays_where_it_is(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let first = immutable(image("first", &config, None, Some("v1")));
        content.put_manifest(&app, first.clone()).await.unwrap();
        let second = immutable(image("second", &config, None, Some("v1")));
        assert_error!(content.put_manifest(&app, second.clone()).await, ContentError::TagImmutable { .. });
        let stored = content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap();
        assert_eq!(stored.digest, digest_of(&first));
        let refused = content.get_manifest(&app, &Reference::Digest(digest_of(&second))).await;
        assert_error!(refused, ContentError::ManifestUnknown);
    }

    async fn the_same_manifest_is_pushed_again_to_an_immutable_tag(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let new = immutable(image("one", &config, None, Some("v1")));
        for _ in 0..2 {
            assert_eq!(content.put_manifest(&app, new.clone()).await.unwrap(), digest_of(&new));
        }
    }

    async fn an_immutable_tag_is_not_deleted(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_image(content, &app, "one", Some("v1")).await;
        push_image(content, &app, "one", Some("other")).await;
        match content.delete_tag(&app, &tag("v1"), &v()).await {
            Err(ContentError::TagImmutable { tag, digest: known }) => assert_eq!((tag.as_str(), known), ("v1", digest)),
            other => panic!("{other:?}"),
        }
        assert_error!(content.delete_tag(&app, &tag("v2"), &v()).await, ContentError::ManifestUnknown);
        content.delete_tag(&app, &tag("other"), &v()).await.unwrap();
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap().0, [tag("v1")]);
    }

    async fn a_manifest_with_an_immutable_tag_is_not_deleted(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let kept = push_image(content, &app, "kept", Some("v1")).await;
        push_image(content, &app, "kept", Some("latest")).await;
        let free = push_image(content, &app, "free", Some("other")).await;
        // The second time it is known which tags there are.
        for _ in 0..2 {
            assert_error!(content.delete_manifest(&app, &kept, &v()).await, ContentError::TagImmutable { .. });
        }
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap().0, [tag("latest"), tag("other"), tag("v1")]);
        content.delete_manifest(&app, &free, &v()).await.unwrap();
        content.delete_manifest(&app, &kept, &none()).await.unwrap();
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap().0, []);
    }

    async fn of_many_pushes_of_an_immutable_tag_one_wins(fixture) {
        race(std::slice::from_ref(&fixture.content)).await;
    }
}

#[cfg(feature = "s3")]
mod replicas_over_s3 {
    use super::*;
    use crate::registry::storage::s3::server::S3Server;
    use crate::registry::storage::s3::{Purpose, S3Store};

    async fn replica(server: &S3Server) -> Content {
        Content::new(Arc::new(S3Store::connect(&server.settings(), Purpose::Write).await.unwrap()))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a service: make test"]
    async fn of_many_pushes_of_an_immutable_tag_to_two_replicas_one_wins() {
        let server = S3Server::start();
        race(&[replica(&server).await, replica(&server).await]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "needs a service: make test"]
    async fn a_manifest_whose_immutable_tag_came_by_another_replica_is_not_deleted() {
        let server = S3Server::start();
        let (one, two) = (replica(&server).await, replica(&server).await);
        let app = repository("app");
        let digest = push_image(&one, &app, "one", None).await;
        push_image(&two, &app, "one", Some("v1")).await;
        assert_error!(one.delete_manifest(&app, &digest, &v()).await, ContentError::TagImmutable { .. });
        two.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap();
    }
}
