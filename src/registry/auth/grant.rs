//! Makes tokens: what is asked for, as far as the policy allows it now.

use k8s_openapi::jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::authenticate::Caller;
use super::token::{Access, AccessClaims, AccessKind, CATALOG, EVERY_ACTION, RefreshClaims};
use super::{AuthError, Published, Scope, TokenRequest};
use crate::policy::{Decision, Identity, Operation, Provider, Snapshot, authorize};

/// Clients take a token that lasts less for one that lasts so long (Docker's token specification, `expires_in`).
const SHORTEST_LIFE: i64 = 60;
const REFRESH_LIFE: i64 = 24 * 60 * 60;
/// Seconds that a token lives longer than is said: so far may the clocks of replicas be apart.
const SKEW: i64 = 30;

/// The answer of `/token`, in Docker's form and in OAuth's at the same time.
#[derive(Serialize)]
pub struct TokenResponse {
    token: String,
    access_token: String,
    expires_in: i64,
    /// RFC 3339, whole seconds.
    issued_at: String,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
}

impl TokenResponse {
    /// What the token is good for, as far as the policy stays as it is.
    pub fn scope(&self) -> &str {
        &self.scope
    }
}

/// Makes an access token, and a refresh token if one is wanted and the caller may have one.
pub fn issue(
    published: &Published,
    caller: &Caller,
    request: &TokenRequest,
    with_refresh: bool,
    now: Timestamp,
) -> Result<TokenResponse, AuthError> {
    let (identity, registry) = (caller.identity(), &published.snapshot.registry);
    let access = grant(&published.snapshot, identity, &request.scopes, now);
    let iat = now.as_second();
    // Neither outlives the credential that it was given for.
    let ends = |life: i64| caller.expires().map_or(iat + life, |end| end.min(iat + life));
    let life = i64::try_from(registry.token_ttl).unwrap_or(REFRESH_LIFE).clamp(SHORTEST_LIFE, REFRESH_LIFE);
    let stamp = caller.stamp().map(str::to_owned);
    let claims = AccessClaims {
        aud: registry.uid.clone(),
        iat,
        exp: ends(life + SKEW),
        jti: Uuid::new_v4().to_string(),
        identity: identity.clone(),
        stamp: stamp.clone(),
        access,
    };
    let refresh = (with_refresh && may_refresh(identity)).then(|| RefreshClaims {
        aud: registry.uid.clone(),
        iat,
        exp: ends(REFRESH_LIFE),
        identity: identity.clone(),
        stamp,
    });
    let token = claims.sign(published).map_err(AuthError::Signing)?;
    Ok(TokenResponse {
        access_token: token.clone(),
        token,
        expires_in: ends(life) - iat,
        issued_at: Timestamp::from_second(iat).unwrap_or(now).to_string(),
        scope: scope_text(&claims.access),
        refresh_token: refresh.map(|claims| claims.sign(published)).transpose().map_err(AuthError::Signing)?,
    })
}

/// Whether a login may be gone on with by a refresh token. Whom another provider vouches for has to be vouched for again:
/// only the provider knows when he has gone, or has left a group.
fn may_refresh(identity: &Identity) -> bool {
    match identity.user().map(|user| &user.provider) {
        None => *identity != Identity::Anonymous,
        Some(Provider::Htpasswd) => true,
        Some(Provider::Oidc(_) | Provider::Certificate | Provider::Kubernetes) => false,
    }
}

/// The part of what is asked for that is allowed.
fn grant(snapshot: &Snapshot, identity: &Identity, scopes: &[Scope], now: Timestamp) -> Vec<Access> {
    let mut granted: Vec<Access> = Vec::new();
    for scope in scopes {
        let (repository, actions) = match scope {
            Scope::Repository { repository, actions } => (repository, actions),
            // Whoever it is: the catalogue shows what its reader may view.
            Scope::Catalog => {
                granted.extend(CATALOG.parse().map(|name| Access {
                    kind: AccessKind::Registry,
                    name,
                    actions: vec![EVERY_ACTION.to_owned()],
                }));
                continue;
            }
        };
        let allowed = actions.iter().filter(|&&action| {
            let operation = Operation { action, repository: repository.clone() };
            authorize(snapshot, identity, &operation, now) == Decision::Allow
        });
        let allowed: Vec<String> = allowed.map(|action| action.scope_name().to_owned()).collect();
        if !allowed.is_empty() {
            granted.push(Access { kind: AccessKind::Repository, name: repository.clone(), actions: allowed });
        }
    }
    granted
}

fn scope_text(access: &[Access]) -> String {
    let kind = |kind| match kind {
        AccessKind::Repository => "repository",
        AccessKind::Registry => "registry",
    };
    let scope = |access: &Access| format!("{}:{}:{}", kind(access.kind), access.name, access.actions.join(","));
    access.iter().map(scope).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CredentialSubject, Group, User};
    use rstest::rstest;

    #[rstest]
    #[case::password("htpasswd:alice", true)]
    #[case::issuer("oidc:corp:alice", false)]
    #[case::certificate("certificate:alice", false)]
    #[case::service_account("kubernetes:system:serviceaccount:team:ci", false)]
    fn only_whom_the_registry_knows_itself_may_refresh(#[case] user: &str, #[case] expected: bool) {
        let user: User = user.parse().unwrap();
        assert_eq!(may_refresh(&Identity::User(user.clone())), expected);
        if let Ok(group) = Group::of(user.provider.clone(), "staff") {
            assert_eq!(may_refresh(&Identity::of(user, vec![group])), expected);
        }
    }

    #[test]
    fn robots_may_refresh_and_nobody_may_not() {
        let (member, namespace, name) = ("m".to_owned(), "ns".to_owned(), "ci".to_owned());
        assert!(may_refresh(&Identity::Credential(CredentialSubject::Robot {
            member,
            namespace,
            name,
            generation: 0
        })));
        assert!(!may_refresh(&Identity::Anonymous));
    }
}
