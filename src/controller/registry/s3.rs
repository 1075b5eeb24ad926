//! What a Registry takes from others to get at its bucket: looked at, never changed. The pods read it from volumes.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::super::context::{Context, ReconcileError};
use super::super::status::Verdict;
use super::build::names;
use crate::api::v1alpha1::{CertificateEntry, Registry, S3CredentialsKeys, S3CredentialsSecret};

type Data = BTreeMap<String, ByteString>;

/// Whether anything is taken from objects that are not ours, and of whose changes nothing tells.
pub(super) fn depends_on_others(registry: &Registry) -> bool {
    let storage = registry.spec.storage.s3.as_ref();
    storage.is_some_and(|s3| s3.credentials_secret_ref.is_some() || s3.certificate_authority.is_some())
}

/// What keeps the pods from the bucket, as far as it is seen from here.
pub(super) async fn problem(registry: &Registry, context: &Context) -> Result<Option<Verdict>, ReconcileError> {
    let Some(storage) = &registry.spec.storage.s3 else { return Ok(None) };
    let namespace = names::namespace(registry);
    if let Some(reference) = &storage.credentials_secret_ref {
        let data = secret(&namespace, &reference.name, context).await?;
        if let Some(problem) = judge_credentials(&namespace, reference, data.as_ref()) {
            return Ok(Some(problem));
        }
    }
    let Some(authority) = &storage.certificate_authority else { return Ok(None) };
    if let Some(entry) = &authority.secret_ref {
        let data = secret(&namespace, &entry.name, context).await?;
        let text = data.as_ref().map(|data| data.get(&entry.key).map(|value| value.0.as_slice()));
        return Ok(judge_authority("Secret", &namespace, entry, text));
    }
    let Some(entry) = &authority.config_map_ref else { return Ok(None) };
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    let map = api.get_opt(&entry.name).await?;
    let text = map.as_ref().map(|map| map.data.as_ref().and_then(|data| data.get(&entry.key)).map(String::as_bytes));
    Ok(judge_authority("ConfigMap", &namespace, entry, text))
}

async fn secret(namespace: &str, name: &str, context: &Context) -> Result<Option<Data>, ReconcileError> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), namespace);
    Ok(api.get_opt(name).await?.map(|secret| secret.data.unwrap_or_default()))
}

fn judge_credentials(namespace: &str, reference: &S3CredentialsSecret, data: Option<&Data>) -> Option<Verdict> {
    let S3CredentialsSecret { name, keys } = reference;
    // A session token may be missing.
    let S3CredentialsKeys { access_key_id, secret_access_key, session_token: _ } = keys;
    let needed = [access_key_id.as_str(), secret_access_key.as_str()];
    let Some(data) = data else {
        let message = format!(
            "there is no Secret {name} in namespace {namespace}: `kubectl -n {namespace} create secret generic {name} --from-file={access_key_id} --from-file={secret_access_key}`"
        );
        return Some(Verdict::no("CredentialsSecretMissing", message));
    };
    let is_missing = |key: &&str| data.get(*key).is_none_or(|value| value.0.trim_ascii().is_empty());
    let missing: Vec<&str> = needed.into_iter().filter(is_missing).collect();
    let message = format!(
        "Secret {name} has no entry {}: put the access key there, or name its entries in storage.s3.credentialsSecretRef.keys",
        missing.join(" and no entry ")
    );
    (!missing.is_empty()).then(|| Verdict::no("CredentialsSecretMissing", message))
}

/// The text of the entry, if there is one, of the object, if there is one.
fn judge_authority(
    kind: &str,
    namespace: &str,
    entry: &CertificateEntry,
    text: Option<Option<&[u8]>>,
) -> Option<Verdict> {
    let CertificateEntry { name, key } = entry;
    let message = match text {
        None => format!("there is no {kind} {name} in namespace {namespace}: make it with the certificates in {key}"),
        Some(None) => format!(
            "{kind} {name} has no entry {key}: put the certificates there, or name their entry in storage.s3.certificateAuthority"
        ),
        Some(Some(text)) => {
            let certificates = CertificateDer::pem_slice_iter(text).collect::<Result<Vec<_>, _>>();
            if certificates.is_ok_and(|certificates| !certificates.is_empty()) {
                return None;
            }
            return Some(Verdict::no(
                "CertificateAuthorityInvalid",
                format!("{kind} {name}, {key}: not a list of certificates in PEM"),
            ));
        }
    };
    Some(Verdict::no("CertificateAuthorityMissing", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn data(keys: &[&str]) -> Data {
        keys.iter().map(|key| ((*key).to_owned(), ByteString(b"hush".to_vec()))).collect()
    }

    #[rstest]
    #[case::missing(
        None,
        Some("kubectl -n ns create secret generic key --from-file=accessKeyId --from-file=secretAccessKey")
    )]
    #[case::empty(Some(data(&[])), Some("no entry accessKeyId and no entry secretAccessKey"))]
    #[case::half(Some(data(&["accessKeyId"])), Some("no entry secretAccessKey"))]
    #[case::other_names(Some(data(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])), Some("credentialsSecretRef.keys"))]
    #[case::whole(Some(data(&["accessKeyId", "secretAccessKey"])), None)]
    fn an_access_key_is_asked_for(#[case] data: Option<Data>, #[case] expected: Option<&str>) {
        let reference = S3CredentialsSecret { name: "key".to_owned(), keys: S3CredentialsKeys::default() };
        let verdict = judge_credentials("ns", &reference, data.as_ref());
        match (verdict, expected) {
            (None, None) => {}
            (Some(Verdict { holds: false, reason, message }), Some(text)) => {
                assert_eq!(reason, "CredentialsSecretMissing");
                assert!(message.contains(text) && !message.contains("hush"), "{message}");
            }
            (verdict, _) => panic!("{verdict:?}"),
        }
    }

    #[rstest]
    #[case::missing(None, "CertificateAuthorityMissing", "there is no Secret trust in namespace ns")]
    #[case::no_entry(Some(None), "CertificateAuthorityMissing", "has no entry ca.crt")]
    #[case::no_certificate(Some(Some("hello")), "CertificateAuthorityInvalid", "not a list of certificates")]
    fn an_authority_is_asked_for(#[case] text: Option<Option<&str>>, #[case] expected: &str, #[case] words: &str) {
        let entry = CertificateEntry { name: "trust".to_owned(), key: "ca.crt".to_owned() };
        let text = text.map(|text| text.map(str::as_bytes));
        let verdict = judge_authority("Secret", "ns", &entry, text).unwrap();
        assert!(!verdict.holds && verdict.reason == expected && verdict.message.contains(words), "{verdict:?}");
    }

    #[test]
    fn a_certificate_is_one() {
        let key = rcgen::generate_simple_self_signed(vec!["s3.test".to_owned()]).unwrap();
        let entry = CertificateEntry { name: "trust".to_owned(), key: "ca.crt".to_owned() };
        assert_eq!(judge_authority("Secret", "ns", &entry, Some(Some(key.cert.pem().as_bytes()))), None);
    }
}
