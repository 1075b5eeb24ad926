//! What a token is worth.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::token::{Access, AccessClaims, AccessKind};
use super::{Caller, Live, Published};
use crate::oci::RepositoryName;
use crate::policy::tests::{Everything, NOW, actions, everything, identities, repositories};
use crate::policy::{Decision, Identity, KeySet, Operation, Provider, SigningKey, Users, authorize};

fn published(all: &Everything, has_password_file: bool) -> Arc<Published> {
    let users = if has_password_file { format!("u:$2y$04${}", ".".repeat(53)) } else { String::new() };
    let live = Live::new();
    live.publish_users(Arc::new(Users::parse(users.as_bytes()).unwrap()));
    let keys = KeySet::new(SigningKey::from_seed(&[1; 32]).unwrap(), vec![]);
    live.publish(Arc::new(all.snapshot()), Arc::new(keys));
    live.current().unwrap()
}

/// What the provider of this identity says now; `None` if nobody vouches for it.
fn present_stamp(published: &Published, identity: &Identity) -> Option<String> {
    let user = identity.user()?;
    let stamp = match user.provider {
        Provider::Htpasswd => published.users.stamp(&user.name),
        _ => published.snapshot.registry.providers.stamp(&user.provider),
    };
    stamp.map(str::to_owned)
}

/// What a token was made for: anything.
fn access() -> impl Strategy<Value = Vec<Access>> {
    let actions =
        vec(select(["pull", "push", "delete", "delete-repository", "*", "change-visibility"].as_slice()), 0..6);
    let one = (repositories(), actions).prop_map(|(name, actions): (RepositoryName, Vec<&str>)| Access {
        kind: AccessKind::Repository,
        name,
        actions: actions.into_iter().map(str::to_owned).collect(),
    });
    vec(one, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// A token is never worth more than the policy allows now, nor than it was made for, nor than who is still known.
    #[test]
    fn a_token_is_an_upper_bound(
        all in everything(), identity in identities(), access in access(), has_password_file: bool, other_stamp: bool,
        action in actions(), repository in repositories(), exp in 0..200i64,
    ) {
        let published = published(&all, has_password_file);
        let present = present_stamp(&published, &identity);
        let stamp = if other_stamp { Some("other".to_owned()) } else { present.clone() };
        let is_known = identity.user().is_none() || (present.is_some() && stamp == present);
        let claims =
            AccessClaims { aud: "r".to_owned(), iat: 0, exp, jti: String::new(), identity: identity.clone(), stamp, access };
        let operation = Operation { action, repository };
        let is_covered = claims.covers(&operation);
        let permitted = Caller::Token(Arc::new(claims)).permit(&published, &operation, NOW).is_ok();
        let allowed = authorize(&published.snapshot, &identity, &operation, NOW) == Decision::Allow;
        if permitted {
            prop_assert!(allowed && is_covered && is_known, "{} {:?}", identity, operation);
        }
        // The token takes nothing away either from who is known and trusted.
        let is_trusted = identity.user().is_none_or(|user| published.snapshot.registry.providers.trust(user));
        prop_assert_eq!(permitted, allowed && is_covered && is_known && is_trusted);
    }

    /// What has ended or is another Registry's is refused before anything is asked of it.
    #[test]
    fn a_token_is_for_here_and_now(all in everything(), identity in identities(), exp in 0..200i64, is_ours: bool) {
        let published = published(&all, true);
        let aud = if is_ours { "r" } else { "other" }.to_owned();
        let claims = AccessClaims { aud, iat: 0, exp, jti: String::new(), identity, stamp: None, access: vec![] };
        let token = claims.sign(&published).unwrap();
        let verified = super::token::TokenCache::default().verify(&token, &published, NOW);
        prop_assert_eq!(verified.is_ok(), is_ours && exp > NOW.as_second());
    }
}
