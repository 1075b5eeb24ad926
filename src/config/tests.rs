//! Layers over each other, what is refused, and how that is said.

use std::ffi::OsString;
use std::path::Path;

use rstest::rstest;

use super::keys::{Node, variable};
use super::*;

const BASE: &str = "storage: {filesystem: {root: /d}}\npolicy: {kube: {namespace: n, registry: r}}\n";

fn pairs(variables: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
}

/// A file after `BASE`, variables and flags, as one configuration or as the error's text.
fn read(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<ServeConfig, String> {
    read_all(&format!("{BASE}{file}"), variables, flags)
}

fn read_all(file: &str, variables: &[(&str, &str)], flags: &[&str]) -> Result<ServeConfig, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("serve.yaml");
    std::fs::write(&path, file).unwrap();
    layered(&path, variables, flags).map_err(|error| error.to_string())
}

fn layered(path: &Path, variables: &[(&str, &str)], flags: &[&str]) -> Result<ServeConfig, ConfigError> {
    let mut layers = Layers::default();
    layers.file(path)?.environment(pairs(variables))?.assignments([])?;
    for flag in flags {
        layers.set(flag)?;
    }
    layers.finish()
}

fn base() -> ServeConfig {
    let policy = PolicySource::Kube { namespace: "n".to_owned(), registry: "r".to_owned() };
    ServeConfig::new(StorageConfig::Filesystem { root: "/d".into() }, policy)
}

#[test]
fn says_nothing_that_is_the_default() {
    assert_eq!(read("", &[], &[]).unwrap(), base());
}

#[test]
fn reads_what_it_writes() {
    let mut config = base();
    config.tls = Some(TlsSettings {
        certificate: "/tls/tls.crt".into(),
        key: "/tls/tls.key".into(),
        minimum_version: TlsVersion::Tls13,
    });
    config.limits.blob_bytes = Some(7);
    config.limits.uploads = 3;
    config.authentication.htpasswd = Some("/users".into());
    config.proxies.headers = ForwardingHeaders::Forwarded;
    config.telemetry.traces.sample_ratio = 0.5;
    assert_eq!(read_all(&config.to_yaml(), &[], &[]).unwrap(), config);
    assert_eq!(read_all(&config.to_minimal_yaml(), &[], &[]).unwrap(), config);
    assert!(!config.to_minimal_yaml().contains("streams") && config.to_yaml().contains("streams"));
}

#[test]
fn a_higher_layer_hides_a_lower_one() {
    let uploads =
        |file, variables: &[(&str, &str)], flags: &[&str]| read(file, variables, flags).unwrap().limits.uploads;
    let (file, variable) = ("limits: {uploads: 1}", ("LANDFAST_LIMITS_UPLOADS", "2"));
    assert_eq!(uploads(file, &[], &[]), 1);
    assert_eq!(uploads(file, &[variable], &[]), 2);
    assert_eq!(uploads(file, &[variable], &["limits.uploads=3"]), 3);
    assert_eq!(uploads(file, &[variable], &["limits.uploads="]), Limits::default().uploads, "back to the default");
}

#[test]
fn a_section_is_merged_key_by_key() {
    let limits = read("limits: {uploads: 1, streams: 5}", &[("LANDFAST_LIMITS", "{uploads: 2}")], &[]).unwrap().limits;
    assert_eq!((limits.uploads, limits.streams), (2, 5));
}

#[test]
fn another_alternative_replaces_that_of_a_lower_layer() {
    let variables = [("LANDFAST_POLICY_MANIFESTS_DIRECTORY", "/m"), ("LANDFAST_POLICY_MANIFESTS_STATE", "/s")];
    let config = read("", &variables, &["policy.manifests.hosts=[a, b]"]).unwrap();
    let hosts = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(config.policy, PolicySource::Manifests { directory: "/m".into(), state: "/s".into(), hosts });
}

#[test]
fn text_that_looks_like_a_number_stays_as_it_was_written() {
    let variables = [("LANDFAST_POLICY_KUBE_REGISTRY", "007"), ("LANDFAST_POLICY_KUBE_NAMESPACE", "yes")];
    let expected = PolicySource::Kube { namespace: "yes".to_owned(), registry: "007".to_owned() };
    assert_eq!(read("", &variables, &[]).unwrap().policy, expected);
    let tls = "tls: {certificate: c, key: k, minimumVersion: 1.3}";
    assert_eq!(read(tls, &[], &[]).unwrap().tls.unwrap().minimum_version, TlsVersion::Tls13);
}

#[test]
fn variables_of_others_are_passed_over() {
    let others = [
        "LANDFAST_LOG",
        "LANDFAST_REGISTRY_IMAGE",
        "LANDFAST_SERVICE_HOST",
        "LANDFAST_PORT",
        "LANDFAST_PORT_443_TCP_ADDR",
        "LANDFAST_OPERATOR_SERVICE_PORT_METRICS",
        "PATH",
    ];
    let others = others.map(|name| (name, "tcp://10.0.0.1:443"));
    assert_eq!(read("", &others, &[]).unwrap(), base());
}

#[rstest]
#[case::key("lisen: x", &[], &[], &["serve.yaml", "lisen", "healthListen, limits, listen"])]
#[case::inner_key("limits: {upload: 1}", &[], &[], &["limits.upload", "streams, uploads"])]
#[case::key_of_flag("", &[], &["limits.upload=1"], &["--set limits.upload", "streams, uploads"])]
#[case::no_value("", &[], &["limits.uploads"], &["limits.uploads", "no '='"])]
#[case::variable("", &[("LANDFAST_LIMITS_UPLOAD", "1")], &[], &["LANDFAST_LIMITS_UPLOAD is", "LANDFAST_LIMITS_UPLOADS"])]
#[case::word("", &[("LANDFAST_LIMITS_UPLOADS", "many")], &[], &["environment variable LANDFAST_LIMITS_UPLOADS", "1 to 1000000", "many"])]
#[case::negative("", &[], &["limits.uploads=-1"], &["--set limits.uploads", "1 to 1000000", "-1"])]
#[case::too_small("limits: {headBytes: 10}", &[], &[], &["limits.headBytes", "8192 to", "10"])]
#[case::too_large("limits: {nameBytes: 256}", &[], &[], &["limits.nameBytes", "1 to 255"])]
#[case::choice("tls: {certificate: c, key: k, minimumVersion: 1.1}", &[], &[], &["tls.minimumVersion", "1.2, 1.3"])]
#[case::ratio("telemetry: {traces: {sampleRatio: 1.5}}", &[], &[], &["telemetry.traces.sampleRatio", "from 0 to 1", "1.5"])]
#[case::header("proxies: {headers: both}", &[], &[], &["proxies.headers", "xForwarded, forwarded"])]
#[case::proxy("proxies: {trusted: [10.0.0.0/33]}", &[], &[], &["proxies.trusted"])]
#[case::address("", &[("LANDFAST_LISTEN", "localhost")], &[], &["LANDFAST_LISTEN", "listen", "socket address", "IP:PORT"])]
#[case::not_a_section("limits: 5", &[], &[], &["limits", "section", "uploads"])]
#[case::not_yaml("limits: {", &[], &[], &["serve.yaml", "YAML"])]
#[case::half_a_pair("tls: {certificate: c}", &[], &[], &["tls.key", "LANDFAST_TLS_KEY"])]
#[case::two_alternatives("", &[], &["policy.kube.registry=x", "policy.manifests.state=x"], &["policy.manifests", "policy.kube", "only one"])]
#[case::together("limits: {manifestMemoryBytes: 2048}", &[], &[], &["manifestMemoryBytes", "manifestBytes"])]
fn refuses(#[case] file: &str, #[case] variables: &[(&str, &str)], #[case] flags: &[&str], #[case] named: &[&str]) {
    let error = read(file, variables, flags).unwrap_err();
    assert!(named.iter().all(|text| error.contains(text)), "{error}");
}

#[test]
fn what_is_missing_is_told_with_the_keys_that_would_do() {
    let error = read_all("policy: {kube: {namespace: n, registry: r}}", &[], &[]).unwrap_err();
    assert!(error.contains("storage.filesystem.root (LANDFAST_STORAGE_FILESYSTEM_ROOT)"), "{error}");
    let error = read_all("storage: {}\npolicy: {kube: {namespace: n, registry: r}}", &[], &[]).unwrap_err();
    assert!(error.contains("storage.filesystem.root"), "{error}");
}

/// Each key can be set by its variable, and no two keys share one.
#[test]
fn every_key_has_a_variable_of_its_own_and_a_meaning() {
    let schema = Node::schema();
    let leaves = schema.leaves();
    assert!(leaves.len() > 20, "{}", leaves.len());
    let mut variables: Vec<_> = leaves.iter().map(|(path, _)| variable(path)).collect();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), leaves.len());
    for (path, leaf) in &leaves {
        assert!(!leaf.meaning.is_empty(), "{path} has no doc comment");
    }
}

/// The defaults that the page shows are those that are in force.
#[test]
fn every_default_is_in_the_schema() {
    let tree = serde_json::to_value(base()).unwrap();
    for (path, leaf) in Node::schema().leaves() {
        let value = tree.pointer(&format!("/{}", path.replace('.', "/")));
        let Some(default) = &leaf.default else { continue };
        if let Some(value) = value {
            assert_eq!(default, value, "{path}");
        }
    }
    let schema = Node::schema();
    let with_default: Vec<_> =
        schema.leaves().into_iter().filter(|(_, leaf)| leaf.default.is_some()).map(|(path, _)| path).collect();
    for path in ["listen", "limits.uploads", "limits.manifestBytes", "tls.minimumVersion", "cache.manifestBytes"] {
        assert!(with_default.iter().any(|found| found == path), "{path}");
    }
}

#[test]
fn the_checked_in_reference_is_what_the_types_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/serve.md");
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == reference(), "{} is stale: run `make manifests`", path.display());
}
