//! The authorities of issuers' servers: whether the registry will be able to read them.

use super::super::status::Verdict;
use crate::api::v1alpha1::Registry;
use crate::policy::trust_anchors;

/// What keeps the users of an issuer from logging in.
pub(super) fn problem(registry: &Registry) -> Option<Verdict> {
    registry.spec.authentication.oidc.iter().find_map(|issuer| {
        let error = trust_anchors(issuer.certificate_authority.as_ref()?).err()?;
        let name = &issuer.name;
        let message = format!(
            "authentication.oidc: the certificateAuthority of {name}: {error}; until it is corrected nobody can log in with a token of {name}"
        );
        Some(Verdict::no("OIDCIssuerInvalid", message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(authorities: &[Option<&str>]) -> Option<String> {
        let issuer = |(number, authority): (usize, &Option<&str>)| {
            let mut issuer = serde_json::json!({
                "name": format!("i{number}"), "issuerURL": "https://i.example", "audiences": ["r"],
            });
            if let Some(pem) = authority {
                issuer["certificateAuthority"] = (*pem).into();
            }
            issuer
        };
        let issuers: Vec<_> = authorities.iter().enumerate().map(issuer).collect();
        let registry: Registry = serde_json::from_value(serde_json::json!({
            "apiVersion": "landfast.dev/v1alpha1", "kind": "Registry", "metadata": {"name": "main"},
            "spec": {"storage": {"emptyDir": {}}, "authentication": {"oidc": issuers}},
        }))
        .unwrap();
        problem(&registry).map(|verdict| verdict.message.to_string())
    }

    #[test]
    fn says_whose_certificates_are_none() {
        let good = rcgen::generate_simple_self_signed(vec!["authority".to_owned()]).unwrap().cert.pem();
        assert_eq!((judge(&[]), judge(&[None, Some(&good)])), (None, None));
        let message = judge(&[Some(&good), Some("-----BEGIN CERTIFICATE-----")]).unwrap();
        assert!(message.contains("the certificateAuthority of i1"), "{message}");
    }
}
