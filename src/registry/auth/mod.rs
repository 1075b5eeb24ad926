//! Who is asking, and what their token lets them ask for: credentials, tokens, challenges.
//!
//! # Flow
//! A request without credentials is answered with a [`challenge`] that names `/token`. There the client shows its
//! credential ([`authenticate`]) and says what it wants ([`TokenRequest`]); it gets a short [token](token) for the part
//! of that which the policy allows now. Each request then shows the token, and [`Caller::permit`] decides. A client
//! certificate that came with the connection counts where a request shows nothing else ([`ClientCertificate`]).
//!
//! # Guarantees
//! - A token is only an upper bound: each request is decided by the policy of its own moment ([`Live`]), so that a
//!   revocation works at once, whatever tokens are about.
//! - What others vouch for is verified with them or with their keys, and ends with what the Registry says about them
//!   ([`external`]).
//! - Bad credentials are refused, never taken for none.
//! - A user's tokens end with him and with his password; what was verified once is remembered for a minute at most, and only
//!   together with what it was verified against ([`logins`]).
//! - Guessing is slowed down where it happens, and locks nobody else out ([`failures`]).
//! - Nothing here logs or prints a credential or a token.

pub mod authenticate;
pub mod challenge;
mod client_certificates;
mod error;
mod external;
mod failures;
mod grant;
mod htpasswd;
mod live;
mod logins;
pub mod token;
mod token_request;
mod turns;

#[cfg(test)]
mod properties;

pub use authenticate::{Attempt, Authenticator, Caller, Credentials};
pub use client_certificates::{Authorities, CertificateRefusal, ClientCertificate};
pub use error::AuthError;
pub use external::{ExternalTokenError, Issuers, ReviewError, Reviewed, TokenReviewer};
pub use grant::{TokenResponse, issue};
pub use htpasswd::{HtpasswdFile, HtpasswdFileError};
pub use live::{Live, Published};
pub use token_request::{FormGrant, Scope, TokenForm, TokenRequest, TokenRequestError};
