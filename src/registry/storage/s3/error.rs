//! What the service's answers mean.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use super::super::StorageError;

/// What came of a request, as far as anybody here wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    NotFound,
    /// A condition does not hold.
    Condition,
    /// Another request to the same key was faster; what came of it has to be looked at.
    Conflict,
    Range,
    /// The service can't do this kind of request.
    Unsupported,
    /// The key lies below another, or others below it, in a service that keeps files.
    KeyConflict,
    OutOfSpace,
    TooLarge,
    /// It may or may not have been done. To be tried again.
    Transient,
    Other,
}

pub(super) fn failure<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Failure {
    let Some(response) = error.raw_response() else {
        return match error {
            SdkError::ConstructionFailure(_) => Failure::Other,
            // No answer, or half of one.
            _ => Failure::Transient,
        };
    };
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    match (response.status().as_u16(), code) {
        (
            _,
            "ObjectParentIsFile"
            | "ExistingObjectIsDirectory"
            | "XMinioParentIsObject"
            | "XMinioObjectExistsAsDirectory",
        ) => Failure::KeyConflict,
        (_, "XMinioStorageFull" | "QuotaExceeded" | "XAmzQuotaExceeded") | (507, _) => Failure::OutOfSpace,
        (_, "EntityTooLarge") => Failure::TooLarge,
        // A bucket that went away is nothing that a caller expects to be missing.
        (_, "NoSuchBucket") => Failure::Other,
        // Somebody else's answer, such as that of a proxy without a service behind it.
        (404, "") => Failure::Transient,
        (404, _) => Failure::NotFound,
        (412, _) => Failure::Condition,
        (409, _) => Failure::Conflict,
        (416, _) => Failure::Range,
        (501 | 405, _) => Failure::Unsupported,
        (408 | 429 | 500 | 502 | 503 | 504, _) => Failure::Transient,
        // An upload that stalled, or a clock that went wrong for a moment.
        (400, "RequestTimeout") => Failure::Transient,
        (200..=299, _) => Failure::Transient,
        _ => Failure::Other,
    }
}

/// The error of a store, for a request about `name`.
pub(super) fn storage_error<E>(
    action: &'static str,
    name: &str,
) -> impl FnOnce(SdkError<E, HttpResponse>) -> StorageError
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    move |error| match failure(&error) {
        Failure::NotFound => StorageError::NotFound(name.to_owned()),
        Failure::Condition => StorageError::PreconditionFailed(name.to_owned()),
        Failure::KeyConflict => StorageError::KeyConflict(name.to_owned()),
        Failure::OutOfSpace => StorageError::OutOfSpace,
        Failure::TooLarge => StorageError::TooLarge,
        Failure::Transient | Failure::Conflict => StorageError::Unavailable { action, source: text(&error).into() },
        Failure::Range | Failure::Unsupported | Failure::Other => {
            StorageError::Io { action, source: std::io::Error::other(text(&error)) }
        }
    }
}

/// Everything that is known of an error but its secrets: a request's headers are not among what it prints.
pub(super) fn text<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
{
    match (error.code(), error.message(), error.raw_response()) {
        (Some(code), Some(message), Some(response)) => format!("{} {code}: {message}", response.status().as_u16()),
        (Some(code), None, Some(response)) => format!("{} {code}", response.status().as_u16()),
        (None, _, Some(response)) => format!("answer {}", response.status().as_u16()),
        _ => DisplayErrorContext(error).to_string(),
    }
}
