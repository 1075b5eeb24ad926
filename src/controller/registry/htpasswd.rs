//! The users that a Registry takes from a Secret: looked at, never changed. The pods read it from a volume.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::super::context::{Context, ReconcileError};
use super::super::status::Verdict;
use super::build::names;
use crate::api::v1alpha1::{HtpasswdSecret, Registry};
use crate::policy::Users;

/// What keeps the users from logging in, if there are to be any.
pub(super) async fn problem(registry: &Registry, context: &Context) -> Result<Option<Verdict>, ReconcileError> {
    let Some(reference) = &registry.spec.authentication.htpasswd_secret_ref else { return Ok(None) };
    let namespace = names::namespace(registry);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let secret = api.get_opt(&reference.name).await?;
    Ok(judge(&namespace, reference, secret.as_ref()))
}

fn judge(namespace: &str, reference: &HtpasswdSecret, secret: Option<&Secret>) -> Option<Verdict> {
    let HtpasswdSecret { name, key } = reference;
    let Some(secret) = secret else {
        let message = format!(
            "there is no Secret {name} in namespace {namespace}: make a file with `htpasswd -Bc {key} <user>`, then `kubectl -n {namespace} create secret generic {name} --from-file={key}`"
        );
        return Some(Verdict::no("HtpasswdNotFound", message));
    };
    let Some(content) = secret.data.as_ref().and_then(|data| data.get(key)) else {
        let message = format!(
            "Secret {name} has no entry {key}: put the password file there, or name its entry in authentication.htpasswdSecretRef.key"
        );
        return Some(Verdict::no("HtpasswdNotFound", message));
    };
    let error = Users::parse(&content.0).err()?;
    let message = format!("Secret {name}, {key}: {error}; until then the users from before stay");
    Some(Verdict::no("HtpasswdInvalid", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::ByteString;
    use rstest::rstest;
    use std::collections::BTreeMap;

    #[rstest]
    #[case::missing(None, Some(("HtpasswdNotFound", "kubectl -n ns create secret generic people --from-file=htpasswd")))]
    #[case::no_entry(Some(("users", "")), Some(("HtpasswdNotFound", "has no entry htpasswd")))]
    #[case::nobody(Some(("htpasswd", "")), None)]
    #[case::md5(Some(("htpasswd", "# x\nalice:$apr1$a$b")), Some(("HtpasswdInvalid", "line 2: the password is stored as Apache's MD5")))]
    fn says_what_to_do(#[case] entry: Option<(&str, &str)>, #[case] expected: Option<(&str, &str)>) {
        let secret = entry.map(|(key, text)| Secret {
            data: Some(BTreeMap::from([(key.to_owned(), ByteString(text.as_bytes().to_vec()))])),
            ..Secret::default()
        });
        let reference = HtpasswdSecret { name: "people".to_owned(), key: "htpasswd".to_owned() };
        match (judge("ns", &reference, secret.as_ref()), expected) {
            (None, None) => {}
            (Some(Verdict { holds: false, reason, message }), Some((expected, text))) => {
                assert!(reason == expected && message.contains(text), "{reason}: {message}");
            }
            (verdict, _) => panic!("{verdict:?}"),
        }
    }
}
