//! The deletion of whole repositories.

use futures::future::join_all;

use super::*;

/// The keys below the repository, and its place in the catalogue.
async fn left(store: &Arc<dyn ObjectStore>, of: &RepositoryName) -> Vec<String> {
    let page = store.list(&keys::repository(of), None, ALL, false).await.unwrap();
    let mut left: Vec<_> = page.entries.iter().map(|entry| entry.as_str().to_owned()).collect();
    if store.head(&keys::catalogue_entry(of)).await.is_ok() {
        left.push("catalogue".to_owned());
    }
    left
}

over_each_store! {
    async fn a_repository_goes_with_all_that_is_in_it_and_nothing_else(fixture) {
        let (content, app, other) = (&fixture.content, repository("team/app"), repository("team/app/more"));
        let first = push_image(content, &app, "one", Some("v1")).await;
        push_image(content, &app, "two", Some("Latest")).await;
        let config = push_blob(content, &app, b"config").await;
        content.put_manifest(&app, image("referrer", &config, Some(&first), None)).await.unwrap();
        let children = [digest_of(&image("one", &config, None, None)), digest_of(&image("two", &config, None, None))];
        content.put_manifest(&app, index(&[&children[0], &children[1]])).await.unwrap();
        push_blob(content, &app, b"in no manifest").await;
        let kept = push_image(content, &other, "one", Some("v1")).await;
        // So that something is in memory.
        content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap();

        content.delete_repository(&app, &none()).await.unwrap();
        assert_eq!(left(&fixture.store, &app).await, [""; 0]);
        assert_error!(content.list_tags(&app, None, ALL).await, ContentError::RepositoryUnknown);
        assert_error!(content.get_manifest(&app, &Reference::Tag(tag("v1"))).await, ContentError::ManifestUnknown);
        assert_error!(content.stat_blob(&app, &config).await, ContentError::BlobUnknown);
        assert_error!(content.delete_repository(&app, &none()).await, ContentError::RepositoryUnknown);
        assert_eq!(content.list_repositories(None, ALL).await.unwrap().0, std::slice::from_ref(&other));
        assert_eq!(content.get_manifest(&other, &Reference::Tag(tag("v1"))).await.unwrap().digest, kept);
        assert_eq!(read_blob(content, &other, &config).await, b"config");

        // The name is free again.
        let anew = push_image(content, &app, "three", Some("v1")).await;
        assert_eq!(content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap().digest, anew);
    }

    async fn what_holds_no_manifest_goes_too(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        push_blob(content, &app, b"alone").await;
        content.delete_repository(&app, &none()).await.unwrap();
        assert_eq!(left(&fixture.store, &app).await, [""; 0]);
    }

    async fn an_immutable_tag_keeps_all_of_it(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        push_image(content, &app, "one", Some("latest")).await;
        let digest = push_image(content, &app, "two", Some("v1.0")).await;
        let before = left(&fixture.store, &app).await;
        match content.delete_repository(&app, &ImmutableTags::new(["v*"])).await {
            Err(ContentError::TagImmutable { tag: kept, digest: at }) => assert_eq!((kept, at), (tag("v1.0"), digest)),
            other => panic!("{other:?}"),
        }
        assert_eq!(left(&fixture.store, &app).await, before);
        content.delete_repository(&app, &ImmutableTags::new(["x*"])).await.unwrap();
    }

    async fn more_than_a_page_is_deleted(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let count = if fixture.store.is_shared() { 100 } else { PAGE + 100 };
        for start in (0..count).step_by(50) {
            let pushes = (start..start + 50).map(|n| {
                content.put_manifest(&app, image(&n.to_string(), &config, None, Some(&format!("v{n}"))))
            });
            for pushed in join_all(pushes).await {
                pushed.unwrap();
            }
        }
        content.delete_repository(&app, &none()).await.unwrap();
        assert_eq!(left(&fixture.store, &app).await, [""; 0]);
    }

    async fn a_push_meanwhile_is_whole_or_gone(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for round in 0..if fixture.store.is_shared() { 5 } else { 50 } {
            push_image(content, &app, "one", Some("v1")).await;
            let (none, name) = (none(), format!("new {round}"));
            let push = async {
                // As a client does: its blob may be gone by the time that it comes with the manifest.
                let config = push_blob(content, &app, b"config").await;
                content.put_manifest(&app, image(&name, &config, None, Some("v2"))).await
            };
            let (deleted, pushed) = tokio::join!(content.delete_repository(&app, &none), push);
            deleted.unwrap();
            let listed = content.list_repositories(None, ALL).await.unwrap().0;
            match pushed {
                Ok(digest) => {
                    let there = content.get_manifest(&app, &Reference::Tag(tag("v2"))).await;
                    let by_digest = content.get_manifest(&app, &Reference::Digest(digest)).await;
                    assert_eq!(there.is_ok(), by_digest.is_ok());
                    assert_eq!(there.is_ok(), !listed.is_empty());
                    if there.is_ok() {
                        read_blob(content, &app, &Digest::sha256(b"config")).await;
                    }
                }
                Err(error) => assert_error!(Err::<(), _>(error), ContentError::ManifestBlobUnknown(_)),
            }
        }
    }
}
