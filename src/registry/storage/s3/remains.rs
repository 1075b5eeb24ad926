//! What processes that died in the middle have left in the bucket, besides staged uploads.

use std::time::SystemTime;

use aws_sdk_s3::primitives::DateTime;

use super::super::StorageError;
use super::bucket::{Bucket, is};
use super::error::{Failure, storage_error};

/// Entries that are asked for at once.
const PAGE: usize = 1000;

/// Aborts objects that were being put together, and removes what was written to see what the service can do, if it was
/// begun at `limit` or before.
pub(super) async fn remove(bucket: &Bucket, limit: SystemTime) -> Result<usize, StorageError> {
    Ok(abort_unfinished(bucket, limit).await? + remove_probes(bucket, limit).await?)
}

fn is_old(begun: Option<DateTime>, limit: SystemTime) -> bool {
    begun.and_then(|begun| SystemTime::try_from(begun).ok()).is_some_and(|begun| begun <= limit)
}

/// Some services list none of them, and have a rule of their own for those.
async fn abort_unfinished(bucket: &Bucket, limit: SystemTime) -> Result<usize, StorageError> {
    const ACTION: &str = "list unfinished objects";
    let (mut aborted, mut after_key, mut after_id) = (0, None, None);
    loop {
        let list = bucket.client.list_multipart_uploads().bucket(&bucket.name).prefix(bucket.objects());
        let list = list.set_key_marker(after_key.take()).set_upload_id_marker(after_id.take());
        let page = match list.send().await {
            Err(error) if is(&error, Failure::Unsupported) => return Ok(aborted),
            other => other.map_err(storage_error(ACTION, &bucket.name))?,
        };
        for upload in page.uploads().iter().filter(|upload| is_old(upload.initiated, limit)) {
            let abort = bucket.client.abort_multipart_upload().bucket(&bucket.name);
            match abort.set_key(upload.key.clone()).set_upload_id(upload.upload_id.clone()).send().await {
                Ok(_) => aborted += 1,
                Err(error) if is(&error, Failure::NotFound) => {}
                Err(error) => return Err(storage_error("abort an unfinished object", &bucket.name)(error)),
            }
        }
        (after_key, after_id) = (page.next_key_marker, page.next_upload_id_marker);
        if page.is_truncated != Some(true) || after_key.is_none() {
            return Ok(aborted);
        }
    }
}

async fn remove_probes(bucket: &Bucket, limit: SystemTime) -> Result<usize, StorageError> {
    let page = bucket.list_page(&format!("{}probe/", bucket.prefix), None, PAGE, false).await?;
    let old = page.objects.into_iter().filter(|object| is_old(object.last_modified, limit));
    let names: Vec<String> = old.filter_map(|object| object.key).collect();
    bucket.delete_all(&names).await?;
    Ok(names.len())
}
