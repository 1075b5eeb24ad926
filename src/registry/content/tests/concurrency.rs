//! Many at once.

use futures::future::{join_all, try_join_all};

use super::*;

over_each_store! {
    async fn no_tag_is_lost_when_many_are_pushed_at_once(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let pushes = (0..32).map(|n| {
            let (content, app, new) = (content.clone(), app.clone(), image("one", &config, None, Some(&format!("v{n:02}"))));
            tokio::spawn(async move { content.put_manifest(&app, new).await.unwrap() })
        });
        try_join_all(pushes).await.unwrap();
        let expected: Vec<_> = (0..32).map(|n| tag(&format!("v{n:02}"))).collect();
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap(), (expected, false));
    }

    async fn one_blob_can_be_pushed_by_many_at_once(fixture) {
        let (content, blob) = (&fixture.content, large());
        let digest = Digest::sha256(&blob);
        let pushes = (0..16).map(|n| {
            let (content, app) = (content.clone(), repository(&format!("app{}", n % 4)));
            let (blob, digest) = (blob.clone(), digest.clone());
            tokio::spawn(async move {
                if n % 2 == 0 {
                    return content.put_blob(&app, &digest, body(&blob)).await.unwrap();
                }
                let id = UploadId::random();
                content.append_upload(&id, None, body(&blob)).await.unwrap();
                content.finish_upload(&app, &id, None, body(b""), &digest).await.unwrap();
            })
        });
        try_join_all(pushes).await.unwrap();
        for n in 0..4 {
            assert!(read_blob(content, &repository(&format!("app{n}")), &digest).await == blob);
        }
        fixture.assert_no_upload_left().await;
    }

    async fn a_session_may_be_finished_by_many(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for round in 0..30u8 {
            let id = UploadId::random();
            content.append_upload(&id, None, body(&[round])).await.unwrap();
            let digest = Digest::sha256(&[round]);
            let finishes = (0..8).map(|_| content.finish_upload(&app, &id, None, body(b""), &digest));
            let results = join_all(finishes).await;
            assert!(results.iter().any(Result::is_ok));
            for result in results {
                assert!(matches!(result, Ok(()) | Err(ContentError::UploadBusy)), "{result:?}");
            }
            assert_eq!(read_blob(content, &app, &digest).await, [round]);
        }
    }

    /// Other content must not slip under a digest between the check and the publication.
    async fn appends_at_the_same_time_never_spoil_what_is_published(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for round in 0..20u8 {
            let id = UploadId::random();
            content.append_upload(&id, None, body(&[round; 1000])).await.unwrap();
            let digest = Digest::sha256(&[round; 1000]);
            let finish = content.finish_upload(&app, &id, None, body(b""), &digest);
            let append = content.append_upload(&id, None, body(b"more"));
            if tokio::join!(append, finish).1.is_ok() {
                assert_eq!(read_blob(content, &app, &digest).await, [round; 1000]);
            }
        }
    }

    /// Readers keep what they have read in memory while the tag moves.
    async fn a_tag_that_has_moved_is_never_read_as_it_was(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        let read = async || content.get_manifest(&app, &Reference::Tag(tag("v1"))).await.unwrap().digest.clone();
        content.put_manifest(&app, image("first", &config, None, Some("v1"))).await.unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let reads = (0..4).map(async |_| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                read().await;
                tokio::task::yield_now().await;
            }
        });
        let moves = async {
            for round in 0..100 {
                let moved = content.put_manifest(&app, image(&round.to_string(), &config, None, Some("v1"))).await;
                assert_eq!(read().await, moved.unwrap());
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        tokio::join!(join_all(reads), moves);
    }

    async fn a_tag_never_points_to_nothing_when_its_manifest_is_deleted_meanwhile(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let config = push_blob(content, &app, b"config").await;
        for _ in 0..20 {
            let new = image("one", &config, None, Some("v1"));
            let digest = digest_of(&new);
            content.put_manifest(&app, new.clone()).await.unwrap();
            let none = none();
            let deletion = content.delete_manifest(&app, &digest, &none);
            let (pushed, deleted) = tokio::join!(content.put_manifest(&app, new), deletion);
            pushed.unwrap();
            deleted.unwrap();
            let tagged = !content.list_tags(&app, None, ALL).await.unwrap().0.is_empty();
            let there = content.get_manifest(&app, &Reference::Digest(digest)).await.is_ok();
            let listed = !content.list_repositories(None, 1).await.unwrap().0.is_empty();
            assert_eq!((tagged, listed), (there, there));
        }
    }
}

/// In two processes, which share no lock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_elsewhere_leaves_nothing_that_points_to_nothing() {
    let store = Arc::new(MemoryStore::shared());
    let (one, two) = (Content::new(store.clone()), Content::new(store.clone()));
    let app = repository("app");
    let config = push_blob(&one, &app, b"config").await;
    let (subject, none) = (Digest::sha256(b"subject"), none());
    for round in 0..2000 {
        let push = || one.put_manifest(&app, image("one", &config, Some(&subject), Some("v1")));
        let digest = push().await.unwrap();
        let (again, delete) = (
            tokio::spawn({
                let (one, app, new) = (one.clone(), app.clone(), image("one", &config, Some(&subject), Some("v1")));
                async move { one.put_manifest(&app, new).await }
            }),
            two.delete_manifest(&app, &digest, &none),
        );
        let (again, deleted) = tokio::join!(again, delete);
        again.unwrap().unwrap();
        deleted.unwrap();
        let reader = Content::new(store.clone());
        let is_there = reader.get_manifest(&app, &Reference::Digest(digest.clone())).await.is_ok();
        let tagged = reader.list_tags(&app, None, ALL).await.unwrap().0;
        let referrers = store.list(&keys::referrers(&app, &subject), None, 10, true).await.unwrap().entries.len();
        let listed = reader.list_repositories(None, ALL).await.unwrap().0;
        assert!(is_there || tagged.is_empty(), "{round}: a tag points to nothing");
        assert!(!is_there || (referrers == 1 && listed == [app.clone()]), "{round}: {referrers} {listed:?}");
    }
}

/// In two processes: the tag belongs to the manifest that it was moved to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_is_moved_stays_when_its_old_manifest_is_deleted_elsewhere() {
    let store = Arc::new(MemoryStore::shared());
    let (one, two) = (Content::new(store.clone()), Content::new(store.clone()));
    let (app, none) = (repository("app"), none());
    let config = push_blob(&one, &app, b"config").await;
    for round in 0..1000 {
        let old = one.put_manifest(&app, image("old", &config, None, Some("v1"))).await.unwrap();
        let moved = tokio::spawn({
            let (one, app, new) = (one.clone(), app.clone(), image("new", &config, None, Some("v1")));
            async move { one.put_manifest(&app, new).await }
        });
        let (moved, deleted) = tokio::join!(moved, two.delete_manifest(&app, &old, &none));
        deleted.unwrap();
        let reader = Content::new(store.clone());
        let found = reader.get_manifest(&app, &Reference::Tag(tag("v1"))).await;
        assert_eq!(found.map(|found| found.digest.clone()).ok(), Some(moved.unwrap().unwrap()), "{round}");
    }
}
