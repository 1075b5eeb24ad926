//! Upload sessions.

use super::*;

over_each_store! {
    async fn chunks_add_up_to_a_blob(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let id = UploadId::random();
        assert_eq!(content.upload_status(&id).await.unwrap(), 0);
        let (one, rest) = blob.split_at(700_000);
        let (two, three) = rest.split_at(1);
        assert_eq!(content.append_upload(&id, Some(0), body(one)).await.unwrap(), 700_000);
        assert_eq!(content.append_upload(&id, None, body(two)).await.unwrap(), 700_001);
        assert_eq!(content.upload_status(&id).await.unwrap(), 700_001);
        let digest = Digest::sha256(&blob);
        content.finish_upload(&app, &id, Some(700_001), body(three), &digest).await.unwrap();
        assert!(read_blob(content, &app, &digest).await == blob);
        assert_error!(content.upload_status(&id).await, ContentError::UploadUnknown);
        fixture.assert_no_upload_left().await;
    }

    async fn a_session_may_end_with_its_first_body(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for blob in [b"".to_vec(), b"small".to_vec(), large()] {
            let id = UploadId::random();
            let digest = Digest::sha256(&blob);
            content.finish_upload(&app, &id, None, body(&blob), &digest).await.unwrap();
            assert!(read_blob(content, &app, &digest).await == blob);
        }
        fixture.assert_no_upload_left().await;
    }

    async fn a_session_may_end_without_a_body(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let id = UploadId::random();
        content.append_upload(&id, None, body(&blob)).await.unwrap();
        let digest = Digest::sha256(&blob);
        content.finish_upload(&app, &id, Some(blob.len() as u64), body(b""), &digest).await.unwrap();
        assert!(read_blob(content, &app, &digest).await == blob);
    }

    /// The hash that was computed on the way is of the other algorithm.
    async fn a_session_may_end_with_a_sha512_digest(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let id = UploadId::random();
        content.append_upload(&id, None, body(&blob)).await.unwrap();
        let digest = Digest::of(Algorithm::Sha512, &blob);
        content.finish_upload(&app, &id, None, body(b""), &digest).await.unwrap();
        assert!(read_blob(content, &app, &digest).await == blob);
    }

    async fn a_chunk_out_of_order_changes_nothing(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let id = UploadId::random();
        let early = content.append_upload(&id, Some(5), body(b"late")).await;
        assert_error!(early, ContentError::OffsetMismatch { expected: 0 });
        content.append_upload(&id, None, body(b"01234")).await.unwrap();
        for wrong in [0, 4, 6] {
            let append = content.append_upload(&id, Some(wrong), body(b"x")).await;
            assert_error!(append, ContentError::OffsetMismatch { expected: 5 });
            let finish = content.finish_upload(&app, &id, Some(wrong), body(b"x"), &Digest::sha256(b"x")).await;
            assert_error!(finish, ContentError::OffsetMismatch { expected: 5 });
        }
        assert_eq!(content.upload_status(&id).await.unwrap(), 5);
        content.finish_upload(&app, &id, Some(5), body(b"56"), &Digest::sha256(b"0123456")).await.unwrap();
    }

    async fn a_wrong_digest_ends_the_session(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for first in [None, Some(b"first")] {
            let id = UploadId::random();
            if let Some(first) = first {
                content.append_upload(&id, None, body(first)).await.unwrap();
            }
            let wrong = Digest::sha256(b"other");
            let error = content.finish_upload(&app, &id, None, body(b"second"), &wrong).await;
            assert_error!(error, ContentError::DigestMismatch { .. });
            assert_error!(content.upload_status(&id).await, ContentError::UploadUnknown);
            assert!(!content.exists(&keys::blob(&wrong)).await.unwrap());
        }
        fixture.assert_no_upload_left().await;
    }

    async fn what_arrived_of_a_broken_chunk_stays(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let id = UploadId::random();
        let (one, two) = blob.split_at(900_000);
        assert_error!(content.append_upload(&id, None, broken_body(one)).await, ContentError::Body(_));
        assert_eq!(content.upload_status(&id).await.unwrap(), 900_000);
        let digest = Digest::sha256(&blob);
        content.finish_upload(&app, &id, Some(900_000), body(two), &digest).await.unwrap();
        assert!(read_blob(content, &app, &digest).await == blob);
    }

    async fn what_arrived_of_a_broken_last_body_stays(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let id = UploadId::random();
        let digest = Digest::sha256(b"first second");
        let broken = content.finish_upload(&app, &id, None, broken_body(b"first "), &digest).await;
        assert_error!(broken, ContentError::Body(_));
        assert_eq!(content.upload_status(&id).await.unwrap(), 6);
        content.finish_upload(&app, &id, Some(6), body(b"second"), &digest).await.unwrap();
        assert_eq!(read_blob(content, &app, &digest).await, b"first second");
    }

    /// What one replica remembers of the hash is no longer right when another has written.
    async fn two_replicas_take_turns_with_a_session(fixture) {
        let (one, app) = (&fixture.content, repository("app"));
        let two = Content::new(fixture.store.clone());
        let id = UploadId::random();
        one.append_upload(&id, Some(0), body(b"a")).await.unwrap();
        two.append_upload(&id, Some(1), body(b"b")).await.unwrap();
        one.append_upload(&id, Some(2), body(b"c")).await.unwrap();
        two.append_upload(&id, Some(3), body(b"d")).await.unwrap();
        one.finish_upload(&app, &id, Some(4), body(b"e"), &Digest::sha256(b"abcde")).await.unwrap();
    }

    /// The answer to the first try may have been lost, with the process or without it.
    async fn a_session_that_has_ended_may_be_ended_again(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let (id, digest) = (UploadId::random(), Digest::sha256(&blob));
        content.append_upload(&id, None, body(&blob)).await.unwrap();
        content.finish_upload(&app, &id, None, body(b""), &digest).await.unwrap();
        for again in [content, &Content::new(fixture.store.clone())] {
            again.finish_upload(&app, &id, None, body(b""), &digest).await.unwrap();
        }
        let elsewhere = content.finish_upload(&repository("other"), &id, None, body(b""), &digest).await;
        assert_error!(elsewhere, ContentError::UploadUnknown);
    }

    async fn a_cancelled_session_is_gone(fixture) {
        let content = &fixture.content;
        let id = UploadId::random();
        content.append_upload(&id, None, body(b"x")).await.unwrap();
        content.cancel_upload(&id).await.unwrap();
        assert_error!(content.cancel_upload(&id).await, ContentError::UploadUnknown);
        assert_error!(content.append_upload(&id, None, body(b"x")).await, ContentError::UploadUnknown);
        fixture.assert_no_upload_left().await;
    }

    async fn a_second_writer_is_refused(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let id = UploadId::random();
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let first = tokio::spawn({
            let content = content.clone();
            async move { content.append_upload(&id, None, receiver.boxed()).await }
        });
        sender.unbounded_send(Ok(Bytes::from_static(b"first"))).unwrap();
        while !sender.is_empty() {
            tokio::task::yield_now().await;
        }
        assert_error!(content.append_upload(&id, None, body(b"x")).await, ContentError::UploadBusy);
        assert_error!(content.cancel_upload(&id).await, ContentError::UploadBusy);
        let finish = content.finish_upload(&app, &id, None, body(b""), &Digest::sha256(b"first")).await;
        assert_error!(finish, ContentError::UploadBusy);
        drop(sender);
        assert_eq!(first.await.unwrap().unwrap(), 5);
        content.finish_upload(&app, &id, None, body(b""), &Digest::sha256(b"first")).await.unwrap();
    }

    async fn a_caller_that_goes_away_leaves_a_session_that_goes_on(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let id = UploadId::random();
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let caller = tokio::spawn({
            let content = content.clone();
            async move { content.append_upload(&id, None, receiver.boxed()).await }
        });
        sender.unbounded_send(Ok(Bytes::from_static(b"first "))).unwrap();
        while !sender.is_empty() {
            tokio::task::yield_now().await;
        }
        caller.abort();
        drop(sender);
        let digest = Digest::sha256(b"first second");
        loop {
            match content.finish_upload(&app, &id, Some(6), body(b"second"), &digest).await {
                Err(ContentError::UploadBusy) => tokio::task::yield_now().await,
                other => break other.unwrap(),
            }
        }
        assert_eq!(read_blob(content, &app, &digest).await, b"first second");
    }

    async fn abandoned_sessions_are_removed(fixture) {
        let content = &fixture.content;
        let begun = UploadId::random();
        content.append_upload(&begun, None, body(b"x")).await.unwrap();
        fixture.store.stage_create(&crate::registry::storage::StageId::random()).await.unwrap();
        let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
        assert_eq!(content.remove_abandoned_uploads(day, now).await.unwrap(), 0);
        assert_eq!(content.upload_status(&begun).await.unwrap(), 1);
        assert_eq!(content.remove_abandoned_uploads(day, now + 2 * day).await.unwrap(), 2);
        assert_error!(content.upload_status(&begun).await, ContentError::UploadUnknown);
        fixture.assert_no_upload_left().await;
    }

    /// Somebody goes on with it after it was listed as old.
    async fn a_session_that_is_gone_on_with_in_time_is_not_abandoned(fixture) {
        let content = &fixture.content;
        let ids = [UploadId::random(), UploadId::random()];
        for id in &ids {
            content.append_upload(id, None, body(b"x")).await.unwrap();
        }
        let listed = fixture.store.stage_list(None, 10).await.unwrap();
        let limit = listed.iter().map(|stage| stage.modified).max().unwrap();
        // Some stores know whole seconds only.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        content.append_upload(&ids[0], None, body(b"y")).await.unwrap();
        assert_eq!(content.remove_page(&listed, None, limit).await.unwrap(), 1);
        assert_eq!(content.upload_status(&ids[0]).await.unwrap(), 2);
        assert_error!(content.upload_status(&ids[1]).await, ContentError::UploadUnknown);
    }

    /// The client asks again, because the answer was an error of the server.
    async fn an_upload_whose_blob_could_not_be_linked_is_over(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let (id, digest) = (UploadId::random(), Digest::sha256(&blob));
        let link = keys::blob_link(&app, &digest);
        let in_the_way = crate::registry::storage::Key::new(link.as_str().rsplit_once('/').unwrap().0).unwrap();
        fixture.store.put(&in_the_way, Bytes::new(), Condition::Always).await.unwrap();
        content.append_upload(&id, None, body(&blob)).await.unwrap();
        let finish = async || content.finish_upload(&app, &id, None, body(b""), &digest).await;
        assert_error!(finish().await, ContentError::Storage(StorageError::KeyConflict(_)));
        fixture.store.delete(&in_the_way, DeleteCondition::Always).await.unwrap();
        assert_error!(finish().await, ContentError::UploadUnknown);
        push_blob(content, &app, &blob).await;
        finish().await.unwrap();
    }

    async fn a_session_that_is_written_to_is_not_abandoned(fixture) {
        let content = &fixture.content;
        let id = UploadId::random();
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let append = content.append_upload(&id, None, receiver.boxed());
        let check = async {
            sender.unbounded_send(Ok(Bytes::from_static(b"x"))).unwrap();
            while !sender.is_empty() {
                tokio::task::yield_now().await;
            }
            let later = SystemTime::now() + Duration::from_secs(10);
            assert_eq!(content.remove_abandoned_uploads(Duration::from_secs(1), later).await.unwrap(), 0);
            drop(sender);
        };
        assert_eq!(tokio::join!(append, check).0.unwrap(), 1);
    }

    async fn uploads_of_any_age_can_be_removed(fixture) {
        let content = &fixture.content;
        content.append_upload(&UploadId::random(), None, body(b"x")).await.unwrap();
        let later = SystemTime::now() + Duration::from_millis(10);
        assert_eq!(content.remove_abandoned_uploads(Duration::ZERO, later).await.unwrap(), 1);
        fixture.assert_no_upload_left().await;
    }

    /// The content is a blob already, the repository doesn't hold it yet: who goes on has to send it again.
    async fn an_upload_that_died_between_publication_and_link_starts_again(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let (id, digest) = (UploadId::random(), Digest::sha256(&blob));
        content.append_upload(&id, None, body(&blob)).await.unwrap();
        let writer = fixture.store.stage_append(&id.stage(), blob.len() as u64).await.unwrap();
        writer.publish(&keys::blob(&digest)).await.unwrap();
        assert_eq!(content.upload_status(&id).await.unwrap(), 0);
        let unproven = content.finish_upload(&app, &UploadId::random(), None, body(b""), &digest).await;
        assert_error!(unproven, ContentError::UploadUnknown);
        content.finish_upload(&app, &id, Some(0), body(&blob), &digest).await.unwrap();
        assert!(read_blob(content, &app, &digest).await == blob);
    }

    /// Nobody gets at content by naming its digest.
    async fn a_fresh_session_can_not_be_finished_with_the_digest_of_others_content(fixture) {
        let (content, app, blob) = (&fixture.content, repository("app"), large());
        let digest = push_blob(content, &repository("secret"), &blob).await;
        let finished = content.finish_upload(&app, &UploadId::random(), None, body(b""), &digest).await;
        assert_error!(finished, ContentError::UploadUnknown);
        assert_error!(content.stat_blob(&app, &digest).await, ContentError::BlobUnknown);
    }
}

/// One that can't be removed must not keep the others.
#[tokio::test]
async fn abandoned_sessions_are_removed_beside_one_that_can_not_be() {
    let store = MemoryStore::new();
    let content = Content::new(Arc::new(store.clone()));
    let mut ids = [(); 3].map(|()| UploadId::random());
    ids.sort();
    for id in &ids {
        content.append_upload(id, None, body(b"x")).await.unwrap();
    }
    store.make_stuck(ids[1].stage());
    let later = SystemTime::now() + Duration::from_secs(10);
    assert_eq!(content.remove_abandoned_uploads(Duration::ZERO, later).await.unwrap(), 2);
    let left: Vec<_> = store.stage_list(None, 10).await.unwrap().iter().map(|stage| stage.id).collect();
    assert_eq!(left, [ids[1].stage()]);
}
