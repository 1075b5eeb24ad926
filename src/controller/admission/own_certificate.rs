//! The certificate that the operator makes for its webhook: authority and certificate, in one Secret.
//!
//! # Guarantees
//! Both lie in one object and are written at once: no replica ever serves a certificate of an authority that the Secret
//! doesn't hold. How one authority follows another is told in [`certificates`](crate::controller::certificates).

use k8s_openapi::jiff::Timestamp;

use super::SERVICE;
use crate::controller::certificates::{Authority, CertificateError, SecretData, Serving, service_names};

/// Where the authority's entries lie in the Secret, whose `tls.crt` and `tls.key` are those of the certificate.
const AUTHORITY: [(&str, &str); 5] = [
    ("tls.crt", "authority.crt"),
    ("tls.key", "authority.key"),
    ("next.crt", "next.crt"),
    ("next.key", "next.key"),
    ("previous.crt", "previous.crt"),
];
const SERVING: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

/// What the Secret is to hold, and what follows from it.
#[derive(Debug)]
pub(super) struct OwnCertificate {
    pub data: SecretData,
    /// Whether it differs from what the Secret holds.
    pub changed: bool,
    /// The authorities to trust, in PEM.
    pub bundle: String,
    /// When there is something to do next.
    pub due_at: Timestamp,
    /// What was found wrong and put right.
    pub notes: Vec<String>,
}

/// The entries of the Secret that are the operator's.
pub(super) fn owned_entries() -> impl Iterator<Item = &'static str> {
    SERVING.into_iter().chain(AUTHORITY.into_iter().map(|(_, entry)| entry))
}

/// Plans the data of the Secret.
pub(super) fn plan(
    existing: Option<&SecretData>,
    namespace: &str,
    now: Timestamp,
) -> Result<OwnCertificate, CertificateError> {
    let authority = Authority::plan("landfast webhook", existing.map(authority_of).as_ref(), now)?;
    let serving = Serving::plan(existing, &authority.value, &service_names(SERVICE, namespace), now)?;
    let mut data = serving.value.data();
    let mut parts = authority.value.data();
    data.extend(AUTHORITY.into_iter().filter_map(|(part, entry)| Some((entry.to_owned(), parts.remove(part)?))));
    let notes = authority.notes.into_iter().chain(serving.notes).collect();
    let due_at = serving.value.renew_at().min(authority.value.due_at());
    let changed = authority.changed || serving.changed;
    Ok(OwnCertificate { data, changed, bundle: authority.value.bundle(), due_at, notes })
}

fn authority_of(data: &SecretData) -> SecretData {
    let part = |(part, entry): (&str, &str)| Some((part.to_owned(), data.get(entry)?.clone()));
    AUTHORITY.into_iter().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::controller::certificates::inspect;
    use k8s_openapi::jiff::SignedDuration;

    fn start() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn planned(existing: Option<&SecretData>, now: Timestamp) -> OwnCertificate {
        plan(existing, "ops", now).unwrap()
    }

    #[test]
    fn the_same_bytes_come_out_while_nothing_is_due() {
        let first = planned(None, start());
        assert!(first.changed);
        let again = planned(Some(&first.data), start());
        assert!(!again.changed && again.notes.is_empty());
        assert_eq!((again.data, again.bundle), (first.data, first.bundle));
    }

    #[test]
    fn the_secret_serves_and_says_whom_to_trust() {
        let first = planned(None, start());
        let provided = inspect(&first.data).unwrap();
        assert_eq!(provided.ca_bundle, Some(first.bundle));
        assert!(first.due_at < provided.not_after);
    }

    #[test]
    fn a_new_certificate_keeps_the_authority() {
        let first = planned(None, start());
        let mut spoiled = first.data.clone();
        spoiled.remove("tls.key");
        let mended = planned(Some(&spoiled), start());
        assert!(mended.changed && !mended.notes.is_empty());
        assert_eq!(mended.bundle, first.bundle);
        assert_ne!(mended.data["tls.crt"], first.data["tls.crt"]);
        let due = planned(Some(&first.data), first.due_at);
        assert!(due.changed);
        assert_eq!(due.bundle, first.bundle);
    }

    #[test]
    fn the_bundle_knows_the_next_authority_before_it_signs() {
        let (mut data, mut bundle) = (planned(None, start()).data, planned(None, start()).bundle);
        let mut authorities = BTreeSet::new();
        for month in 0..(12 * 12) {
            let plan = planned(Some(&data), start() + SignedDuration::from_hours(30 * 24) * month);
            let signs = String::from_utf8(plan.data["authority.crt"].0.clone()).unwrap();
            assert!(
                month == 0 || bundle.contains(&signs),
                "month {month}: who read the bundle before does not trust it"
            );
            authorities.insert(signs);
            (data, bundle) = (plan.data, plan.bundle);
        }
        assert_eq!(authorities.len(), 2);
    }

    #[test]
    fn all_that_is_written_is_known_as_owned() {
        let late = start() + SignedDuration::from_hours(24) * (9 * 365);
        let mut data = planned(None, start()).data;
        let mut seen: BTreeSet<String> = data.keys().cloned().collect();
        for days in [0, 30, 60] {
            data = planned(Some(&data), late + SignedDuration::from_hours(24) * days).data;
            seen.extend(data.keys().cloned());
        }
        assert_eq!(seen, owned_entries().map(str::to_owned).collect());
    }
}
