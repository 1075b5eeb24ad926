//! What the service can do, found out by trying.

use aws_sdk_s3::primitives::ByteStream;
use uuid::Uuid;

use super::super::StorageError;
use super::bucket::{Bucket, is};
use super::error::{Failure, storage_error};

/// Which conditions on writes the service decides itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditional {
    /// `If-None-Match: *`.
    pub if_absent: bool,
    /// `If-Match`.
    pub if_match: bool,
}

impl Conditional {
    /// Whether several processes can write to the bucket.
    #[cfg(test)]
    pub fn is_complete(self) -> bool {
        self.if_absent && self.if_match
    }
}

const ACTION: &str = "write to the bucket";

/// Writes an object and removes it again.
pub(super) async fn probe(bucket: &Bucket) -> Result<Conditional, StorageError> {
    let name = format!("{}probe/{}", bucket.prefix, Uuid::new_v4());
    let put = || bucket.client.put_object().bucket(&bucket.name).key(&name).body(ByteStream::from_static(b"probe"));
    put().send().await.map_err(storage_error(ACTION, &name))?;
    // Some services pass over what they don't know, others say so.
    let if_absent = match put().if_none_match("*").send().await {
        Ok(_) => false,
        Err(error) if is(&error, Failure::Condition) => true,
        Err(error) if is(&error, Failure::Unsupported) => false,
        Err(error) => return Err(storage_error(ACTION, &name)(error)),
    };
    const STALE: &str = "\"00000000000000000000000000000000\"";
    let replaces = match put().if_match(STALE).send().await {
        Ok(_) => true,
        Err(error) if is(&error, Failure::Condition) => false,
        Err(error) if is(&error, Failure::Unsupported) => true,
        Err(error) => return Err(storage_error(ACTION, &name)(error)),
    };
    bucket.delete(&name).await?;
    // Some look at what is there only, and make an object where there is none.
    let creates = match put().if_match(STALE).send().await {
        Ok(_) => true,
        Err(error) if is(&error, Failure::Condition) || is(&error, Failure::NotFound) => false,
        Err(error) if is(&error, Failure::Unsupported) => true,
        Err(error) => return Err(storage_error(ACTION, &name)(error)),
    };
    if creates {
        bucket.delete(&name).await?;
    }
    Ok(Conditional { if_absent, if_match: !replaces && !creates })
}
