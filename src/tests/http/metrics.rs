//! What the metrics show, and the page that documents them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use landfast::config::{TlsSettings, TlsVersion};
use landfast::policy::{OidcIssuer, Providers};
use landfast::registry::http::CertificateFiles;
use landfast::registry::metrics::observe;
use serde_json::json;

use crate::harness::{NOW, Registry, snapshot};
use crate::issuer::Key;

/// Set, it makes the test write the page instead of comparing it.
const WRITE: &str = "LANDFAST_WRITE_METRICS_PAGE";
const HEAD: &str = "# Metrics of `landfast serve`

<!-- Made by `make manifests` from what is registered. Edit the texts there. -->

In OpenMetrics' text format under `/metrics` on the health port. Of histograms the name is that of the family: `_bucket`,
`_sum` and `_count` follow it. No label has values that a client can make up.

| metric | type | labels | meaning |
|---|---|---|---|
";

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// The families of a page of metrics, with the labels that their samples have.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            current = name.to_owned();
            families.entry(current.clone()).or_default().help = help.to_owned();
        } else if let Some((_, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            families.get_mut(&current).unwrap().kind = kind.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            let labels = labels.split_once('}').unwrap().0.split(',').filter_map(|label| label.split_once('='));
            let names = labels.map(|(name, _)| name.to_owned()).filter(|name| name != "le");
            families.get_mut(&current).unwrap().labels.extend(names);
        }
    }
    families
}

fn page(text: &str) -> String {
    let mut page = HEAD.to_owned();
    for (name, Family { kind, help, labels }) in families(text) {
        let suffix = match kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        page.push_str(&format!("| `{name}{suffix}` | {kind} | {} | {help} |\n", labels.join(", ")));
    }
    page
}

/// A registry that has been used, so that each metric has samples.
async fn used() -> String {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["registry.example".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let certificate =
        CertificateFiles::load(TlsSettings { certificate, key, minimum_version: TlsVersion::default() }).await.unwrap();

    let registry = Registry::new();
    observe(&registry.metrics, Arc::clone(&registry.live), Arc::clone(&registry.issuers), Some(Arc::new(certificate)));
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    registry.request("GET", "/v2/").send().await.expect(401);
    // Of an issuer that is not there.
    let issuer = OidcIssuer {
        name: "corp".to_owned(),
        url: "https://127.0.0.1:1".to_owned(),
        discovery_url: None,
        certificate_authority: None,
        audiences: vec!["registry".to_owned()],
        username_claim: "sub".to_owned(),
        groups_claim: None,
        conditions: vec![],
    };
    let mut policy = snapshot();
    policy.registry.providers = Providers::new(vec![issuer], None, None);
    registry.publish(policy);
    let claims = json!({"iss": "https://127.0.0.1:1", "aud": "registry", "sub": "a", "exp": NOW + 1});
    let token = Key::new("a", Algorithm::ES256).sign(&claims);
    registry.request("GET", "/v2/").bearer(&token).send().await.expect(503);
    registry.live.note_problems(3);
    registry.live.note_password_file(true);
    registry.metrics.encode().unwrap()
}

#[tokio::test]
async fn every_metric_is_documented() {
    let page = page(&used().await);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/metrics.md");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == page, "{} is stale: run `make manifests`\n{page}", path.display());
}

#[tokio::test]
async fn the_policy_in_force_can_be_watched() {
    let text = used().await;
    assert!(text.contains("landfast_policy_revision 2\n"), "{text}");
    assert!(text.contains("landfast_oidc_issuer_usable{issuer=\"corp\"} 0\n"), "{text}");
    assert!(text.contains("landfast_policy_problems 3\n"), "{text}");
    assert!(text.contains("landfast_password_file_usable 1\n"), "{text}");
}

#[tokio::test]
async fn answers_are_counted_by_what_was_asked_for() {
    let registry = Registry::new();
    registry.push_image("dev", "team/app", "v1", b"layer").await;
    for _ in 0..3 {
        registry.by("dev", "GET", "/v2/team/app/manifests/v1").send().await.expect(200);
    }
    registry.by("dev", "GET", "/v2/team/app/manifests/v2").send().await.expect(404);
    let text = registry.metrics.encode().unwrap();
    let labels = "route=\"manifest\",method=\"GET\"";
    for (line, count) in [
        (format!("landfast_http_requests_total{{{labels},status=\"200\"}}"), 3),
        (format!("landfast_http_requests_total{{{labels},status=\"404\"}}"), 1),
        (format!("landfast_http_request_duration_seconds_count{{{labels}}}"), 4),
    ] {
        assert!(text.contains(&format!("{line} {count}\n")), "{line} {count}\n{text}");
    }
}
