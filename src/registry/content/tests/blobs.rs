//! Blobs: held by repositories, stored once.

use super::*;

over_each_store! {
    async fn a_small_blob_is_read_as_it_was_put(fixture) {
        let (content, app) = (&fixture.content, repository("team/app"));
        let digest = push_blob(content, &app, b"content").await;
        assert_eq!(content.stat_blob(&app, &digest).await.unwrap(), Blob { size: 7 });
        assert_eq!(read_blob(content, &app, &digest).await, b"content");
        fixture.assert_no_upload_left().await;
    }

    async fn a_large_blob_is_read_as_it_was_put(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_blob(content, &app, &large()).await;
        assert!(read_blob(content, &app, &digest).await == large());
        fixture.assert_no_upload_left().await;
    }

    async fn an_empty_blob_is_a_blob(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_blob(content, &app, b"").await;
        assert_eq!(content.stat_blob(&app, &digest).await.unwrap(), Blob { size: 0 });
        assert_eq!(read_blob(content, &app, &digest).await, b"");
    }

    async fn a_blob_may_have_a_sha512_digest(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for blob in [b"small".to_vec(), large()] {
            let digest = Digest::of(Algorithm::Sha512, &blob);
            content.put_blob(&app, &digest, body(&blob)).await.unwrap();
            assert!(read_blob(content, &app, &digest).await == blob);
        }
    }

    async fn a_range_of_a_blob_is_read(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_blob(content, &app, b"0123456789").await;
        let part = content.read_blob(&app, &digest, Some(ByteRange::Inclusive(2, 4))).await.unwrap();
        assert_eq!((part.start, part.size, part.total), (2, 3, 10));
        assert_eq!(read_all(part.stream).await, b"234");
        let outside = content.read_blob(&app, &digest, Some(ByteRange::From(10))).await;
        assert_error!(outside, ContentError::RangeNotSatisfiable { size: 10 });
    }

    async fn content_under_a_wrong_digest_is_refused(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for blob in [b"small".to_vec(), large()] {
            let wrong = Digest::sha256(b"other");
            let error = content.put_blob(&app, &wrong, body(&blob)).await;
            assert_error!(error, ContentError::DigestMismatch { .. });
            assert_error!(content.stat_blob(&app, &wrong).await, ContentError::BlobUnknown);
            assert!(!content.exists(&keys::blob(&wrong)).await.unwrap());
        }
        fixture.assert_no_upload_left().await;
    }

    async fn a_body_that_breaks_off_leaves_nothing(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        for blob in [b"small".to_vec(), large()] {
            let digest = Digest::sha256(&blob);
            let error = content.put_blob(&app, &digest, broken_body(&blob)).await;
            assert_error!(error, ContentError::Body(_));
            assert_error!(content.stat_blob(&app, &digest).await, ContentError::BlobUnknown);
        }
        fixture.assert_no_upload_left().await;
    }

    async fn a_repository_knows_only_its_own_blobs(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("app/other"));
        let digest = push_blob(content, &app, b"content").await;
        assert_error!(content.stat_blob(&other, &digest).await, ContentError::BlobUnknown);
        assert_error!(content.read_blob(&other, &digest, None).await, ContentError::BlobUnknown);
        // Not even its size.
        let outside = Some(ByteRange::From(1000));
        assert_error!(content.read_blob(&other, &digest, outside).await, ContentError::BlobUnknown);
    }

    async fn a_mounted_blob_belongs_to_both(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("other"));
        let digest = push_blob(content, &app, b"content").await;
        assert!(content.mount_blob(&app, &other, &digest).await.unwrap());
        content.delete_blob(&app, &digest).await.unwrap();
        assert_eq!(read_blob(content, &other, &digest).await, b"content");
        assert_error!(content.stat_blob(&app, &digest).await, ContentError::BlobUnknown);
    }

    async fn what_a_repository_does_not_hold_cannot_be_mounted_from_it(fixture) {
        let (content, app, other) = (&fixture.content, repository("app"), repository("other"));
        let digest = push_blob(content, &app, b"content").await;
        assert!(!content.mount_blob(&other, &repository("third"), &digest).await.unwrap());
        assert_error!(content.stat_blob(&repository("third"), &digest).await, ContentError::BlobUnknown);
    }

    async fn a_blob_is_deleted_once(fixture) {
        let (content, app) = (&fixture.content, repository("app"));
        let digest = push_blob(content, &app, b"content").await;
        content.delete_blob(&app, &digest).await.unwrap();
        assert_error!(content.delete_blob(&app, &digest).await, ContentError::BlobUnknown);
        push_blob(content, &app, b"content").await;
        assert_eq!(read_blob(content, &app, &digest).await, b"content");
    }
}
