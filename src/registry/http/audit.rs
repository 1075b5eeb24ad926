//! Who did what, and who was not let: records for auditors, under the log target `audit`.
//!
//! # Guarantees
//! - Each record has all of its fields: there is one place that writes them, and an event can't be made without its own.
//! - No password and no token is ever in one. A user name is in it as far as it can be one.
//! - What somebody with a valid credential has done, or was not let do, is always recorded, and waits for the log where that
//!   stalls. The other records anybody can cause, as many as he likes: without room for them they are dropped and counted.

use std::fmt::Display;
use std::net::IpAddr;

use http::Method;
use http::request::Parts;

use super::Route;
use super::error::RequestError;
use super::record::Names;
use crate::oci::{Digest, Reference, RepositoryName};
use crate::policy::Identity;
use crate::registry::auth::AuthError;
use crate::registry::content::{ContentError, UploadId};
use crate::telemetry::{RequestId, UNVERIFIED};

/// Characters of a user name that nobody has verified.
const USER: usize = 64;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A manifest is stored, perhaps under a tag.
    Push {
        repository: &'a RepositoryName,
        reference: &'a Reference,
        digest: &'a Digest,
    },
    /// A blob has been uploaded whole.
    Upload {
        repository: &'a RepositoryName,
        digest: &'a Digest,
    },
    /// A blob has been taken over from another repository.
    Mount {
        repository: &'a RepositoryName,
        /// Nothing if the client left it to the registry.
        from: Option<&'a RepositoryName>,
        digest: &'a Digest,
    },
    CancelUpload {
        repository: &'a RepositoryName,
        upload: &'a UploadId,
    },
    /// A tag or, by its digest, a manifest.
    DeleteManifest {
        repository: &'a RepositoryName,
        reference: &'a Reference,
    },
    DeleteBlob {
        repository: &'a RepositoryName,
        digest: &'a Digest,
    },
    /// With all that is in it.
    DeleteRepository {
        repository: &'a RepositoryName,
        /// Why some of it is still there.
        failure: Option<&'a ContentError>,
    },
    /// A credential was shown for a token, and was good.
    Login,
    /// A token with these scopes, which may be fewer than were asked for.
    Token {
        scope: &'a str,
    },
}

/// What all records of one request say.
#[derive(Clone, Copy, Debug)]
pub struct AuditContext<'a> {
    pub method: &'a Method,
    /// The client's address.
    pub remote: IpAddr,
    pub request_id: RequestId,
}

impl AuditContext<'_> {
    /// Records what somebody has done.
    pub fn done(&self, identity: &Identity, event: Event<'_>) {
        let record = match event {
            Event::Push { repository, reference, digest } => Record {
                repository: Some(repository),
                reference: Some(reference),
                digest: Some(digest),
                ..Record::new("push")
            },
            Event::Upload { repository, digest } => {
                Record { repository: Some(repository), digest: Some(digest), ..Record::new("upload") }
            }
            Event::Mount { repository, from, digest } => {
                let from = from.map(|from| from as &dyn Display);
                Record { repository: Some(repository), from, digest: Some(digest), ..Record::new("mount") }
            }
            Event::CancelUpload { repository, upload } => {
                Record { repository: Some(repository), reference: Some(upload), ..Record::new("cancel-upload") }
            }
            Event::DeleteManifest { repository, reference } => {
                let event = if matches!(reference, Reference::Tag(_)) { "delete-tag" } else { "delete-manifest" };
                Record { repository: Some(repository), reference: Some(reference), ..Record::new(event) }
            }
            Event::DeleteBlob { repository, digest } => {
                Record { repository: Some(repository), digest: Some(digest), ..Record::new("delete-blob") }
            }
            Event::DeleteRepository { repository, failure } => Record {
                result: if failure.is_some() { "failed" } else { "done" },
                repository: Some(repository),
                reason: failure.map(|failure| failure as &dyn Display),
                ..Record::new("delete-repository")
            },
            Event::Login => Record::new("login"),
            Event::Token { scope } => Record { scope: Some(scope), ..Record::new("token") },
        };
        self.write(identity, *identity != Identity::Anonymous, &record);
    }

    /// Records that somebody was turned away. That a client is asked to log in, or to come with a token that fits, is
    /// part of every login and no record.
    ///
    /// What it asked for is read from the request again: refusals are rare.
    pub fn refused(&self, error: &RequestError, names: &Names, parts: &Parts) {
        let Names { identity, user } = names;
        let event = match error {
            RequestError::Auth(AuthError::Required | AuthError::InsufficientScope) => return,
            RequestError::Auth(AuthError::Denied(_)) => "denied",
            RequestError::Auth(AuthError::Password(_) | AuthError::Certificate(_)) => "login",
            error if error.is_denial() => "denied",
            RequestError::Auth(_) if user.is_some() => "login",
            RequestError::Auth(_) => "denied",
            _ => return,
        };
        let route = Route::parse(self.method, parts.uri.path(), parts.uri.query().unwrap_or_default()).ok();
        let target = route.as_ref().map(Route::target).unwrap_or_default();
        let user = user.as_deref().map(shown_user);
        // Who has failed to log in is nobody, also where the form came in an anonymous request.
        let identity = identity.as_deref().filter(|_| event == "denied");
        let record = Record {
            result: "refused",
            reason: Some(error),
            user: user.as_deref(),
            repository: target.repository.map(|name| name as &dyn Display),
            reference: target.reference.map(|reference| reference as &dyn Display),
            digest: target.digest.map(|digest| digest as &dyn Display),
            ..Record::new(event)
        };
        self.write(&identity.unwrap_or("-"), identity.is_some(), &record);
    }

    fn write(&self, identity: &dyn Display, is_verified: bool, record: &Record<'_>) {
        let Self { method, remote, request_id } = *self;
        let Record { event, result, reason, user, repository, from, reference, digest, scope } = *record;
        // The name of an event is known before it happens.
        macro_rules! write {
            ($name:expr) => {
                tracing::info!(
                    name: $name,
                    target: "audit",
                    event,
                    result,
                    %identity,
                    user,
                    method = method.as_str(),
                    repository = repository.map(tracing::field::display),
                    from = from.map(tracing::field::display),
                    reference = reference.map(tracing::field::display),
                    digest = digest.map(tracing::field::display),
                    scope,
                    reason = reason.map(tracing::field::display),
                    %remote,
                    request_id = request_id.as_str(),
                )
            };
        }
        if is_verified { write!("verified") } else { write!(UNVERIFIED) }
    }
}

/// The fields of any event.
#[derive(Clone, Copy)]
struct Record<'a> {
    event: &'static str,
    /// `done`, `refused`, or `failed` if it was begun.
    result: &'static str,
    /// Why it was not done.
    reason: Option<&'a dyn Display>,
    user: Option<&'a str>,
    repository: Option<&'a dyn Display>,
    from: Option<&'a dyn Display>,
    reference: Option<&'a dyn Display>,
    digest: Option<&'a dyn Display>,
    scope: Option<&'a str>,
}

impl Record<'_> {
    fn new(event: &'static str) -> Self {
        Self {
            event,
            result: "done",
            reason: None,
            user: None,
            repository: None,
            from: None,
            reference: None,
            digest: None,
            scope: None,
        }
    }
}

/// A user name that came with a wrong password may be anything.
fn shown_user(user: &str) -> String {
    let mut shown: String = user.chars().take(USER).flat_map(char::escape_debug).collect();
    if user.chars().nth(USER).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_cut_and_escaped() {
        assert_eq!(shown_user("robot/ns/dev"), "robot/ns/dev");
        assert_eq!(shown_user("a\n\u{1b}[31m\"b"), "a\\n\\u{1b}[31m\\\"b");
        assert_eq!(shown_user(&"ä".repeat(USER)), "ä".repeat(USER));
        assert_eq!(shown_user(&"ä".repeat(USER + 1)), format!("{}…", "ä".repeat(USER)));
    }
}
