//! Telling the API server whom to trust: the `caBundle` of the ValidatingWebhookConfiguration.
//!
//! # Guarantees
//! - Only this field is written, and only where it differs.
//! - Who else writes it is overruled at once a few times, then ever more slowly: two never write for ever.

use std::time::Instant;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::{Value, json};

use super::CONFIGURATION;
use crate::controller::apply::{QUIET, delay, resource_version};

/// What to do about the configuration now.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// It is as it should be.
    Nothing,
    /// Server-side apply of this.
    Write(Value),
    /// Somebody else writes it too: not before this.
    Wait(Instant),
}

/// What has been written before.
#[derive(Debug, Default)]
pub(super) struct Injection {
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    bundle: String,
    resource_version: u64,
    /// How often in a row somebody else's change has been undone, and from when on it may be undone again.
    undone: u32,
    not_before: Instant,
}

impl Injection {
    /// Decides.
    pub fn step(&self, configuration: &ValidatingWebhookConfiguration, bundle: &str, now: Instant) -> Step {
        let webhooks = configuration.webhooks.iter().flatten();
        let holds = |ca: &Option<k8s_openapi::ByteString>| ca.as_ref().is_some_and(|ca| ca.0 == bundle.as_bytes());
        if webhooks.clone().all(|webhook| holds(&webhook.client_config.ca_bundle)) {
            return Step::Nothing;
        }
        if let Some(written) = self.written.as_ref().filter(|written| written.bundle == bundle) {
            // The watch may lag behind our own write.
            if resource_version(&configuration.metadata) <= written.resource_version {
                return Step::Nothing;
            }
            if now < written.not_before {
                return Step::Wait(written.not_before);
            }
        }
        let ca = k8s_openapi::ByteString(bundle.as_bytes().to_vec());
        let webhooks: Vec<_> =
            webhooks.map(|webhook| json!({ "name": webhook.name, "clientConfig": { "caBundle": ca } })).collect();
        Step::Write(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            // With its version, or a configuration that has just been deleted would be made anew.
            "metadata": { "name": CONFIGURATION, "resourceVersion": configuration.metadata.resource_version },
            "webhooks": webhooks,
        }))
    }

    /// Takes note of a write.
    pub fn wrote(&mut self, written: &ValidatingWebhookConfiguration, bundle: &str, now: Instant) {
        let undone = match self.written.as_ref().filter(|before| before.bundle == bundle) {
            Some(before) if now.saturating_duration_since(before.not_before) <= QUIET => before.undone + 1,
            Some(_) | None => 0,
        };
        let (resource_version, not_before) = (resource_version(&written.metadata), now + delay(undone));
        self.written = Some(Written { bundle: bundle.to_owned(), resource_version, undone, not_before });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(version: &str, bundle: Option<&str>) -> ValidatingWebhookConfiguration {
        let ca = bundle.map(|text| k8s_openapi::ByteString(text.as_bytes().to_vec()));
        let service = json!({ "name": "s", "namespace": "n" });
        serde_json::from_value(json!({
            "metadata": { "name": "landfast", "resourceVersion": version },
            "webhooks": [{
                "name": "objects.landfast.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": { "service": service, "caBundle": ca },
            }],
        }))
        .unwrap()
    }

    #[test]
    fn only_the_bundle_is_written_and_only_where_it_differs() {
        let (injection, now) = (Injection::default(), Instant::now());
        assert_eq!(injection.step(&configuration("1", Some("ca")), "ca", now), Step::Nothing);
        for other in [None, Some(""), Some("old")] {
            let Step::Write(written) = injection.step(&configuration("1", other), "ca", now) else {
                panic!("{other:?}")
            };
            let webhooks = json!([{ "name": "objects.landfast.dev", "clientConfig": { "caBundle": "Y2E=" } }]);
            assert_eq!(written["webhooks"], webhooks);
            assert_eq!(written["metadata"], json!({ "name": "landfast", "resourceVersion": "1" }));
        }
    }

    #[test]
    fn our_own_write_is_not_taken_for_somebody_elses() {
        let (mut injection, now) = (Injection::default(), Instant::now());
        injection.wrote(&configuration("5", Some("ca")), "ca", now);
        assert_eq!(injection.step(&configuration("4", None), "ca", now), Step::Nothing);
        assert!(matches!(injection.step(&configuration("6", None), "ca", now), Step::Write(_)));
        assert!(matches!(injection.step(&configuration("4", None), "another", now), Step::Write(_)));
    }

    #[test]
    fn a_fight_slows_down_and_ends_after_a_quiet_while() {
        let (mut injection, now) = (Injection::default(), Instant::now());
        let mut writes = 0;
        for version in 1..100 {
            let emptied = configuration(&version.to_string(), None);
            if let Step::Write(_) = injection.step(&emptied, "ca", now) {
                injection.wrote(&configuration(&version.to_string(), Some("ca")), "ca", now);
                writes += 1;
            }
        }
        assert_eq!(writes, 6, "the first, and those undone at once");
        let Step::Wait(until) = injection.step(&configuration("200", None), "ca", now) else { panic!("a fight") };
        let later = until + QUIET * 2;
        injection.wrote(&configuration("201", Some("ca")), "ca", later);
        assert!(matches!(injection.step(&configuration("202", None), "ca", later), Step::Write(_)));
    }
}
