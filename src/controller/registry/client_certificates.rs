//! The authorities of client certificates: whether the registry will be able to read them.

use super::super::status::Verdict;
use crate::api::v1alpha1::Registry;
use crate::policy::trust_anchors;

/// What keeps the holders of certificates from logging in, if they are to.
pub(super) fn problem(registry: &Registry) -> Option<Verdict> {
    let certificates = registry.spec.authentication.client_certificates.as_ref()?;
    let error = trust_anchors(&certificates.certificate_authority).err()?;
    let message = format!(
        "authentication.clientCertificates.certificateAuthority: {error}; until it is corrected nobody can log in with a certificate"
    );
    Some(Verdict::no("ClientCertificatesInvalid", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::ClientCertificates;

    fn judge(authority: Option<&str>) -> Option<String> {
        let mut registry: Registry = serde_json::from_value(serde_json::json!({
            "apiVersion": "landfast.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "main"}, "spec": {"storage": {"emptyDir": {}}},
        }))
        .unwrap();
        registry.spec.authentication.client_certificates =
            authority.map(|pem| ClientCertificates { certificate_authority: pem.to_owned() });
        problem(&registry).map(|verdict| verdict.message.to_string())
    }

    #[test]
    fn says_which_certificate_is_none() {
        let good = rcgen::generate_simple_self_signed(vec!["authority".to_owned()]).unwrap().cert.pem();
        assert_eq!((judge(None), judge(Some(&good))), (None, None));
        let bad = format!("{good}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let message = judge(Some(&bad)).unwrap();
        assert!(message.contains("certificate 2 in it can't be read"), "{message}");
    }
}
