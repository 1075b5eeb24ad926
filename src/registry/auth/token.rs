//! The registry's own tokens: short-lived access tokens, and refresh tokens for clients that ask for them.
//!
//! Both are JWTs signed with the Registry's key (EdDSA, with the key's `kid`), each of its own `typ`, so that one can't be
//! shown in place of the other or of a credential.
//!
//! There is no `nbf`: a token is good from the moment it is given, also at a replica whose clock is behind. Against one
//! whose clock is ahead, a token lives a little longer than the client is told ([`super::grant`]).

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::Published;
use crate::oci::RepositoryName;
use crate::policy::{CredentialError, Group, Identity, Operation, Provider};

const ACCESS_TYPE: &str = "landfast-access+jwt";
const REFRESH_TYPE: &str = "landfast-refresh+jwt";
/// Bytes of tokens that the cache stands for. What it keeps of a token is about as long as the token.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessClaims {
    /// UID of the Registry.
    pub aud: String,
    /// Issued at, in seconds since the epoch.
    pub iat: i64,
    /// Expiry, in seconds since the epoch.
    pub exp: i64,
    /// Tells one token from another in a log of theirs.
    pub jti: String,
    pub identity: Identity,
    /// Of a user: stands for the password that the token was given for ([`Users::stamp`](crate::policy::Users::stamp)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
    pub access: Vec<Access>,
}

/// Actions on one resource, as Docker's token specification writes them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    #[serde(rename = "type")]
    pub kind: AccessKind,
    pub name: RepositoryName,
    pub actions: Vec<String>,
}

/// Kind of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccessKind {
    Repository,
    /// The registry as such: its catalogue.
    Registry,
}

/// What the catalogue is called in a scope, and the one action on it.
pub(super) const CATALOG: &str = "catalog";
pub(super) const EVERY_ACTION: &str = "*";

impl AccessClaims {
    pub fn sign(&self, published: &Published) -> Result<String, CredentialError> {
        published.keys.sign(ACCESS_TYPE, self)
    }

    /// Whether the token was made for this.
    pub fn covers(&self, operation: &Operation) -> bool {
        let wanted = operation.action.scope_name();
        self.allows(AccessKind::Repository, operation.repository.as_str(), wanted)
    }

    /// Whether the token was made for the catalogue.
    pub fn covers_catalog(&self) -> bool {
        self.allows(AccessKind::Registry, CATALOG, EVERY_ACTION)
    }

    fn allows(&self, kind: AccessKind, name: &str, wanted: &str) -> bool {
        let about = |access: &&Access| access.kind == kind && access.name.as_str() == name;
        self.access.iter().filter(about).any(|access| access.actions.iter().any(|action| action == wanted))
    }

    fn check(&self, published: &Published, now: Timestamp) -> Result<(), CredentialError> {
        check(&self.aud, self.exp, published, now)
    }
}

/// What a refresh token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshClaims {
    /// UID of the Registry.
    pub aud: String,
    /// Issued at, in seconds since the epoch.
    pub iat: i64,
    /// Expiry, in seconds since the epoch.
    pub exp: i64,
    pub identity: Identity,
    /// As in [`AccessClaims`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

impl RefreshClaims {
    pub fn sign(&self, published: &Published) -> Result<String, CredentialError> {
        published.keys.sign(REFRESH_TYPE, self)
    }

    /// Verifies a refresh token. Whether its identity is still valid is the caller's to ask.
    pub fn verify(token: &str, published: &Published, now: Timestamp) -> Result<Self, CredentialError> {
        let claims: Self = published.keys.verify(REFRESH_TYPE, token)?;
        check(&claims.aud, claims.exp, published, now)?;
        Ok(claims)
    }
}

fn check(audience: &str, expiry: i64, published: &Published, now: Timestamp) -> Result<(), CredentialError> {
    if audience != published.snapshot.registry.uid {
        return Err(CredentialError::Audience);
    }
    if expiry <= now.as_second() {
        return Err(CredentialError::Expired);
    }
    Ok(())
}

/// Which keys verified it, and the token's SHA-256.
type CacheKey = (u64, [u8; 32]);

/// Access tokens whose signature has been verified: one costs a hash instead of a curve operation.
///
/// Only the signature is remembered. Audience and expiry are looked at each time, and other keys are another entry.
#[derive(Clone)]
pub struct TokenCache {
    verified: Cache<CacheKey, Arc<AccessClaims>>,
}

impl Default for TokenCache {
    fn default() -> Self {
        let weigher = |_: &CacheKey, claims: &Arc<AccessClaims>| weight(claims);
        Self { verified: Cache::builder().max_capacity(CACHE_BYTES).weigher(weigher).build() }
    }
}

/// About how many bytes the cache keeps of a token.
fn weight(claims: &AccessClaims) -> u32 {
    let provider = |provider: &Provider| match provider {
        Provider::Oidc(name) => name.len() + 16,
        Provider::Htpasswd | Provider::Certificate | Provider::Kubernetes => 0,
    };
    let user = claims.identity.user().map_or(0, |user| user.name.len() + provider(&user.provider));
    let group = |group: &Group| group.name.len() + provider(&group.provider) + 64;
    let groups = claims.identity.groups().iter().map(group).sum::<usize>();
    let actions = |access: &Access| access.actions.iter().map(|action| action.len() + 32).sum::<usize>();
    let access = |access: &Access| access.name.as_str().len() + 96 + actions(access);
    let access = claims.access.iter().map(access).sum::<usize>();
    u32::try_from(512 + user + groups + access).unwrap_or(u32::MAX)
}

impl TokenCache {
    /// Verifies an access token.
    pub fn verify(
        &self,
        token: &str,
        published: &Published,
        now: Timestamp,
    ) -> Result<Arc<AccessClaims>, CredentialError> {
        let key = (published.keys_generation, sha2::Sha256::digest(token).into());
        if let Some(claims) = self.verified.get(&key) {
            if let Err(error) = claims.check(published, now) {
                self.verified.invalidate(&key);
                return Err(error);
            }
            return Ok(claims);
        }
        let claims: Arc<AccessClaims> = Arc::new(published.keys.verify(ACCESS_TYPE, token)?);
        claims.check(published, now)?;
        self.verified.insert(key, Arc::clone(&claims));
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::User;

    #[test]
    fn a_token_weighs_what_it_says() {
        let provider = Provider::Oidc("corp".to_owned());
        let group = |number| Group::of(provider.clone(), &format!("{number:0>40}")).unwrap();
        let user = User::of(provider.clone(), &"u".repeat(200)).unwrap();
        let claims = |groups, access| AccessClaims {
            aud: "r".to_owned(),
            iat: 0,
            exp: 0,
            jti: String::new(),
            identity: Identity::of(user.clone(), groups),
            stamp: None,
            access,
        };
        let access = Access { kind: AccessKind::Repository, name: "team/app".parse().unwrap(), actions: vec![] };
        for claims in [claims((0..100).map(group).collect(), vec![]), claims(vec![], vec![access; 32])] {
            let written = serde_json::to_vec(&claims).unwrap().len();
            assert!(weight(&claims) as usize >= written, "{} {written}", weight(&claims));
        }
    }
}
