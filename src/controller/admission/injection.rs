//! Telling the API server whom to trust and where to ask: `caBundle` and `path` of the ValidatingWebhookConfiguration.
//!
//! # Guarantees
//! - Only these fields are written, and only where they differ; the `caBundle` not where somebody else brings the certificate.
//! - Who else writes it is overruled at once a few times, then ever more slowly: two never write for ever.

use std::time::Instant;

use k8s_openapi::api::admissionregistration::v1::{ValidatingWebhookConfiguration, WebhookClientConfig};
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

/// What the configuration is to say.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    /// Authorities in PEM; `None`: somebody else says that.
    pub bundle: Option<String>,
    /// Secret: not for logs.
    pub path: String,
}

/// What has been written before.
#[derive(Debug, Default)]
pub(super) struct Injection {
    written: Option<Written>,
}

#[derive(Debug)]
struct Written {
    wanted: Wanted,
    resource_version: u64,
    /// How often in a row somebody else's change has been undone, and from when on it may be undone again.
    undone: u32,
    not_before: Instant,
}

impl Injection {
    /// Decides.
    pub fn step(&self, configuration: &ValidatingWebhookConfiguration, wanted: &Wanted, now: Instant) -> Step {
        let Wanted { bundle, path } = wanted;
        let webhooks = configuration.webhooks.iter().flatten();
        let holds = |WebhookClientConfig { ca_bundle, service, .. }: &WebhookClientConfig| {
            let trusts = |bundle: &String| ca_bundle.as_ref().is_some_and(|ca| ca.0 == bundle.as_bytes());
            let asks_there = service.as_ref().is_some_and(|service| service.path.as_ref() == Some(path));
            bundle.as_ref().is_none_or(trusts) && asks_there
        };
        if webhooks.clone().all(|webhook| holds(&webhook.client_config)) {
            return Step::Nothing;
        }
        if let Some(written) = self.written.as_ref().filter(|written| written.wanted == *wanted) {
            // The watch may lag behind our own write.
            if resource_version(&configuration.metadata) <= written.resource_version {
                return Step::Nothing;
            }
            if now < written.not_before {
                return Step::Wait(written.not_before);
            }
        }
        let mut client_config = json!({ "service": { "path": path } });
        if let Some(bundle) = bundle {
            client_config["caBundle"] = json!(k8s_openapi::ByteString(bundle.as_bytes().to_vec()));
        }
        let webhooks: Vec<_> =
            webhooks.map(|webhook| json!({ "name": webhook.name, "clientConfig": client_config })).collect();
        Step::Write(json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            // With its version, or a configuration that has just been deleted would be made anew.
            "metadata": { "name": CONFIGURATION, "resourceVersion": configuration.metadata.resource_version },
            "webhooks": webhooks,
        }))
    }

    /// Takes note of a write.
    pub fn wrote(&mut self, written: &ValidatingWebhookConfiguration, wanted: &Wanted, now: Instant) {
        let undone = match self.written.as_ref().filter(|before| before.wanted == *wanted) {
            Some(before) if now.saturating_duration_since(before.not_before) <= QUIET => before.undone + 1,
            Some(_) | None => 0,
        };
        let (resource_version, not_before) = (resource_version(&written.metadata), now + delay(undone));
        self.written = Some(Written { wanted: wanted.clone(), resource_version, undone, not_before });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configuration(version: &str, bundle: Option<&str>) -> ValidatingWebhookConfiguration {
        let ca = bundle.map(|text| k8s_openapi::ByteString(text.as_bytes().to_vec()));
        let service = json!({ "name": "s", "namespace": "n", "path": "/admit/x" });
        serde_json::from_value(json!({
            "metadata": { "name": "landfast", "resourceVersion": version },
            "webhooks": [{
                "name": "objects.landfast.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                "clientConfig": { "service": service, "caBundle": ca },
            }],
        }))
        .unwrap()
    }

    fn wanted(bundle: &str) -> Wanted {
        Wanted { bundle: Some(bundle.to_owned()), path: "/admit/x".to_owned() }
    }

    #[test]
    fn where_to_ask_is_written_without_whom_to_trust_if_somebody_else_says_that() {
        let (injection, now) = (Injection::default(), Instant::now());
        let brought = |path: &str| Wanted { bundle: None, path: path.to_owned() };
        assert_eq!(injection.step(&configuration("1", Some("theirs")), &brought("/admit/x"), now), Step::Nothing);
        let Step::Write(written) = injection.step(&configuration("1", None), &brought("/admit/y"), now) else {
            panic!("another path")
        };
        let webhooks =
            json!([{ "name": "objects.landfast.dev", "clientConfig": { "service": { "path": "/admit/y" } } }]);
        assert_eq!(written["webhooks"], webhooks);
    }

    #[test]
    fn only_what_is_ours_is_written_and_only_where_it_differs() {
        let (injection, now) = (Injection::default(), Instant::now());
        assert_eq!(injection.step(&configuration("1", Some("ca")), &wanted("ca"), now), Step::Nothing);
        for other in [None, Some(""), Some("old")] {
            let Step::Write(written) = injection.step(&configuration("1", other), &wanted("ca"), now) else {
                panic!("{other:?}")
            };
            let client_config = json!({ "caBundle": "Y2E=", "service": { "path": "/admit/x" } });
            let webhooks = json!([{ "name": "objects.landfast.dev", "clientConfig": client_config }]);
            assert_eq!(written["webhooks"], webhooks);
            assert_eq!(written["metadata"], json!({ "name": "landfast", "resourceVersion": "1" }));
        }
    }

    #[test]
    fn our_own_write_is_not_taken_for_somebody_elses() {
        let (mut injection, now) = (Injection::default(), Instant::now());
        injection.wrote(&configuration("5", Some("ca")), &wanted("ca"), now);
        assert_eq!(injection.step(&configuration("4", None), &wanted("ca"), now), Step::Nothing);
        assert!(matches!(injection.step(&configuration("6", None), &wanted("ca"), now), Step::Write(_)));
        assert!(matches!(injection.step(&configuration("4", None), &wanted("another"), now), Step::Write(_)));
    }

    #[test]
    fn a_fight_slows_down_and_ends_after_a_quiet_while() {
        let (mut injection, now) = (Injection::default(), Instant::now());
        let mut writes = 0;
        for version in 1..100 {
            let emptied = configuration(&version.to_string(), None);
            if let Step::Write(_) = injection.step(&emptied, &wanted("ca"), now) {
                injection.wrote(&configuration(&version.to_string(), Some("ca")), &wanted("ca"), now);
                writes += 1;
            }
        }
        assert_eq!(writes, 6, "the first, and those undone at once");
        let Step::Wait(until) = injection.step(&configuration("200", None), &wanted("ca"), now) else {
            panic!("a fight")
        };
        let later = until + QUIET * 2;
        injection.wrote(&configuration("201", Some("ca")), &wanted("ca"), later);
        assert!(matches!(injection.step(&configuration("202", None), &wanted("ca"), later), Step::Write(_)));
    }
}
