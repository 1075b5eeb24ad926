//! The process dies: what is left in the folder is all that the next one knows.

use super::*;

/// Runs `work` in a runtime of its own, which is then torn down whatever it is doing.
fn in_a_process_that_dies<F: Future<Output = ()>>(work: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(work);
    runtime.shutdown_background();
}

fn in_a_new_process<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn an_upload_goes_on_after_the_process_died_in_the_middle_of_a_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let (app, blob) = (repository("app"), large());
    let (sent, id_cell) = (1_200_000, std::sync::OnceLock::new());
    in_a_process_that_dies(async {
        let content = Content::new(reopen(&path).await);
        let id = UploadId::random();
        id_cell.set(id).unwrap();
        content.append_upload(&id, None, body(&blob[..300_000])).await.unwrap();
        // A client that is never done.
        let chunk = body(&blob[300_000..sent]).chain(futures::stream::pending()).boxed();
        tokio::spawn({
            let content = content.clone();
            async move { content.append_upload(&id, None, chunk).await }
        });
        // What waits for a whole block is lost.
        while content.upload_status(&id).await.unwrap() <= 300_000 {
            tokio::task::yield_now().await;
        }
    });
    in_a_new_process(async {
        let id = *id_cell.get().unwrap();
        let content = Content::new(reopen(&path).await);
        let offset = content.upload_status(&id).await.unwrap();
        assert!((300_001..=sent as u64).contains(&offset), "{offset}");
        let digest = Digest::sha256(&blob);
        content.finish_upload(&app, &id, Some(offset), body(&blob[offset as usize..]), &digest).await.unwrap();
        assert!(read_blob(&content, &app, &digest).await == blob);
    });
}

#[test]
fn a_wrong_digest_is_noticed_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let app = repository("app");
    let id = in_a_new_process(async {
        let content = Content::new(reopen(&path).await);
        let id = UploadId::random();
        content.append_upload(&id, None, body(b"content")).await.unwrap();
        id
    });
    in_a_new_process(async {
        let content = Content::new(reopen(&path).await);
        let error = content.finish_upload(&app, &id, None, body(b""), &Digest::sha256(b"")).await;
        assert_error!(error, ContentError::DigestMismatch { .. });
    });
}

#[test]
fn everything_is_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let app = repository("team/app");
    let digest =
        in_a_new_process(async { push_image(&Content::new(reopen(&path).await), &app, "one", Some("Latest")).await });
    in_a_new_process(async {
        let content = Content::new(reopen(&path).await);
        assert_eq!(content.list_repositories(None, 10).await.unwrap().0, std::slice::from_ref(&app));
        assert_eq!(content.list_tags(&app, None, ALL).await.unwrap().0, [tag("Latest")]);
        assert_eq!(content.get_manifest(&app, &Reference::Tag(tag("Latest"))).await.unwrap().digest, digest);
    });
}

#[test]
fn what_a_dead_process_left_is_removed_as_abandoned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let app = repository("app");
    in_a_process_that_dies(async {
        let store = reopen(&path).await;
        let content = Content::new(store.clone());
        let (blob, digest) = (large(), Digest::sha256(b"never known"));
        let endless = body(&blob).chain(futures::stream::pending()).boxed();
        tokio::spawn(async move { content.put_blob(&app, &digest, endless).await });
        while store.stage_list(None, 10).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    in_a_new_process(async {
        let store = reopen(&path).await;
        let content = Content::new(store.clone());
        let later = SystemTime::now() + Duration::from_secs(7200);
        assert_eq!(content.remove_abandoned_uploads(Duration::from_secs(3600), later).await.unwrap(), 1);
        assert_eq!(store.stage_list(None, 10).await.unwrap(), []);
    });
}
