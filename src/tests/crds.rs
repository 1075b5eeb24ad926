//! The CRDs: checked-in files are true, schemas are structural, and each CEL rule refuses what it is there for.

use std::path::Path;

use landfast::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy, custom_resource_definitions};
use rstest::rstest;
use serde::de::DeserializeOwned;

#[test]
fn checked_in_crds_are_what_the_types_say() {
    for crd in custom_resource_definitions() {
        let name = crd.metadata.name.clone().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds").join(format!("{name}.yaml"));
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(checked_in == serde_saphyr::to_string(&crd).unwrap(), "{} is stale: run `make crds`", path.display());
    }
}

/// `kubectl explain` has to answer for each field.
#[test]
fn every_field_is_documented() {
    fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            walk(&path, property, missing);
            walk(&path, &property["items"], missing);
        }
    }
    let mut missing = Vec::new();
    for crd in custom_resource_definitions() {
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        walk(crd["spec"]["names"]["kind"].as_str().unwrap(), &schema["properties"]["spec"], &mut missing);
        walk(crd["spec"]["names"]["kind"].as_str().unwrap(), &schema["properties"]["status"], &mut missing);
    }
    // The fields of a condition are Kubernetes' own, and so are their texts.
    assert_eq!(missing, Vec::<String>::new());
}

fn parse<K: DeserializeOwned>(kind: &str, name: &str, spec: &str) -> K {
    let yaml = format!(
        "apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}, namespace: ns}}\nspec: {spec}\n"
    );
    serde_saphyr::from_str(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

fn messages<T>(result: Result<(), T>) -> String
where
    T: std::fmt::Display,
{
    result.err().map(|errors| errors.to_string()).unwrap_or_default()
}

const PVC: &str = "storage: {persistentVolumeClaim: {size: 1Gi}}";

#[rstest]
#[case::accepted("main", "{storage: {persistentVolumeClaim: {size: 1Gi}}}", "")]
#[case::name("main.x", "{storage: {emptyDir: {}}}", "becomes the name of its Service")]
#[case::no_storage("main", "{storage: {}}", "exactly one of persistentVolumeClaim and emptyDir")]
#[case::two_storages(
    "main",
    "{storage: {emptyDir: {}, persistentVolumeClaim: {size: 1Gi}}}",
    "exactly one of persistentVolumeClaim and emptyDir"
)]
#[case::no_size("main", "{storage: {persistentVolumeClaim: {}}}", "set size")]
#[case::size_and_claim("main", "{storage: {persistentVolumeClaim: {size: 1Gi, existingClaim: x}}}", "not both")]
#[case::zero_size("main", "{storage: {persistentVolumeClaim: {size: \"0\"}}}", "above zero")]
#[case::class_of_existing(
    "main",
    "{storage: {persistentVolumeClaim: {existingClaim: x, storageClassName: y}}}",
    "leave it out"
)]
#[case::replicas(
    "main",
    "{replicas: 2, storage: {persistentVolumeClaim: {size: 1Gi, accessModes: [ReadWriteMany]}}}",
    "one pod at a time"
)]
#[case::no_replicas("main", "{replicas: 0, storage: {emptyDir: {}}}", "")]
#[case::two_tls("main", "{storage: {emptyDir: {}}, tls: {selfSigned: {}, disabled: {}}}", "at most one")]
#[case::node_port("main", "{storage: {emptyDir: {}}, exposure: {service: {nodePort: 30000}}}", "nodePort needs type")]
#[case::proxies(
    "main",
    "{storage: {emptyDir: {}}, exposure: {trustedProxies: [10.0.0.0/8, 'fd00::/8', '::/0', '2001:db8::1:2/128', '1:2:3:4:5:6:7:8/128']}}",
    ""
)]
#[case::proxy_without_length(
    "main",
    "{storage: {emptyDir: {}}, exposure: {trustedProxies: [10.0.0.1]}}",
    "10.0.0.0/8 or"
)]
#[case::proxy_too_long("main", "{storage: {emptyDir: {}}, exposure: {trustedProxies: [10.0.0.0/33]}}", "10.0.0.0/8 or")]
#[case::proxy_no_address(
    "main",
    "{storage: {emptyDir: {}}, exposure: {trustedProxies: [10.0.0.300/8]}}",
    "10.0.0.0/8 or"
)]
#[case::proxy_by_name("main", "{storage: {emptyDir: {}}, exposure: {trustedProxies: [ingress]}}", "10.0.0.0/8 or")]
#[case::token_ttl("main", "{storage: {emptyDir: {}}, authentication: {tokenTTL: 5s}}", "between 60s and 24h")]
#[case::key_rotation(
    "main",
    "{storage: {emptyDir: {}}, authentication: {signingKeyRotation: 5h}}",
    "signingKeyRotation must be at least 1d"
)]
#[case::key_rotation_in_days("main", "{storage: {emptyDir: {}}, authentication: {signingKeyRotation: 90d}}", "")]
#[case::selector("main", "{storage: {emptyDir: {}}, projectNamespaces: {from: Selector}}", "only if, from is Selector")]
#[case::selector_unused(
    "main",
    "{storage: {emptyDir: {}}, pullSecretNamespaces: {selector: {}}}",
    "only if, from is Selector"
)]
fn registry_rules(#[case] name: &str, #[case] spec: &str, #[case] expected: &str) {
    let registry: Registry = parse("Registry", name, spec);
    let actual = messages(registry.validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[rstest]
#[case::same("{size: 1Gi}", "{size: 1Gi}", "")]
#[case::grow("{size: 1Gi}", "{size: 2Gi}", "")]
#[case::shrink("{size: 2Gi}", "{size: 1Gi}", "not shrink")]
#[case::class(
    "{size: 1Gi, storageClassName: a}",
    "{size: 1Gi, storageClassName: b}",
    "storageClassName can't be changed"
)]
#[case::modes("{size: 1Gi}", "{size: 1Gi, accessModes: [ReadWriteMany]}", "accessModes can't be changed")]
#[case::claim("{existingClaim: a}", "{existingClaim: b}", "another claim can't be chosen")]
fn registry_storage_changes(#[case] old: &str, #[case] new: &str, #[case] expected: &str) {
    let make = |claim: &str| {
        parse::<Registry>("Registry", "main", &format!("{{storage: {{persistentVolumeClaim: {claim}}}}}"))
    };
    let actual = messages(make(new).validate_cel_update(&make(old)));
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[test]
fn registry_keeps_its_kind_of_storage() {
    let old: Registry = parse("Registry", "main", &format!("{{{PVC}}}"));
    let new: Registry = parse("Registry", "main", "{storage: {emptyDir: {}}}");
    let actual = messages(new.validate_cel_update(&old));
    assert!(actual.contains("kind of storage can't be changed"), "{actual:?}");
}

#[rstest]
#[case::accepted("{registryRef: {name: main}}", "")]
#[case::admin_pull_secret("{registryRef: {name: main}, pullSecrets: {role: Admin}}", "can't be Admin")]
#[case::rotation("{registryRef: {name: main}, pullSecrets: {rotation: 5m}}", "at least 1h")]
#[case::rotation_of_no_days("{registryRef: {name: main}, pullSecrets: {rotation: 0d1s}}", "at least 1h")]
#[case::rotation_in_days("{registryRef: {name: main}, pullSecrets: {rotation: 7d}}", "")]
fn project_rules(#[case] spec: &str, #[case] expected: &str) {
    let actual = messages(parse::<Project>("Project", "team", spec).validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[rstest]
#[case::path("{registryRef: {name: main}, path: a}", "{registryRef: {name: main}, path: b}", "path can't be changed")]
#[case::path_added("{registryRef: {name: main}}", "{registryRef: {name: main}, path: b}", "path can't be changed")]
#[case::registry("{registryRef: {name: main}}", "{registryRef: {name: other}}", "registryRef can't be changed")]
#[case::visibility("{registryRef: {name: main}}", "{registryRef: {name: main}, visibility: Public}", "")]
fn project_changes(#[case] old: &str, #[case] new: &str, #[case] expected: &str) {
    let make = |spec| parse::<Project>("Project", "team", spec);
    let actual = messages(make(new).validate_cel_update(&make(old)));
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[rstest]
#[case::accepted("{projectRef: {name: team}, role: Guest, subjects: [{kind: Robot, name: ci}]}", "")]
#[case::no_reference("{role: Guest, subjects: [{kind: Robot, name: ci}]}", "exactly one of projectRef and registryRef")]
#[case::two_references(
    "{projectRef: {name: a}, registryRef: {name: b}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
    "exactly one of projectRef and registryRef"
)]
#[case::twice(
    "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci}, {kind: Robot, name: ci}]}",
    "listed once"
)]
#[case::rotation(
    "{projectRef: {name: a}, role: Guest, rotation: 1m, subjects: [{kind: Robot, name: ci}]}",
    "at least 1h"
)]
fn member_rules(#[case] spec: &str, #[case] expected: &str) {
    let actual = messages(parse::<Member>("Member", "ci", spec).validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[rstest]
#[case::user("{kind: User, name: 'htpasswd:Alice.B@example.com'}", "")]
#[case::user_without_provider("{kind: User, name: alice}", "for example htpasswd:alice")]
#[case::user_of_unknown_provider("{kind: User, name: 'ldap:alice'}", "for example htpasswd:alice")]
#[case::user_like_a_robot("{kind: User, name: 'htpasswd:robot/ns/ci'}", "for example htpasswd:alice")]
#[case::user_with_secret("{kind: User, name: 'htpasswd:alice', secretName: x}", "secretName is for robots")]
#[case::robot_like_a_user("{kind: Robot, name: 'htpasswd:alice'}", "the name of a Robot")]
#[case::robot_in_capitals("{kind: Robot, name: CI}", "the name of a Robot")]
fn subject_rules(#[case] subject: &str, #[case] expected: &str) {
    let spec = format!("{{projectRef: {{name: a}}, role: Guest, subjects: [{subject}]}}");
    let actual = messages(parse::<Member>("Member", "ci", &spec).validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[rstest]
#[case::little("", "")]
#[case::tags("immutableTags: ['v*', '*-rc.*', release_1, '*']", "")]
#[case::no_tags("immutableTags: []", "")]
#[case::slash("immutableTags: [v1, a/b]", "a pattern of tags consists of letters")]
#[case::hyphen_at_the_start("immutableTags: ['-v']", "a pattern of tags consists of letters")]
#[case::no_pattern("immutableTags: ['']", "a pattern of tags consists of letters")]
#[case::line_break("immutableTags: [\"v1\\n\"]", "a pattern of tags consists of letters")]
fn repository_policy_rules(#[case] more: &str, #[case] expected: &str) {
    let spec = format!("{{projectRef: {{name: team}}, repositories: ['**'], {more}}}");
    let actual = messages(parse::<RepositoryPolicy>("RepositoryPolicy", "p", &spec).validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}
