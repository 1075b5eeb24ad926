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
#[case::no_storage("main", "{storage: {}}", "exactly one of persistentVolumeClaim, s3 and emptyDir")]
#[case::two_storages(
    "main",
    "{storage: {emptyDir: {}, persistentVolumeClaim: {size: 1Gi}}}",
    "exactly one of persistentVolumeClaim, s3 and emptyDir"
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
    "needs storage.s3: the folder on a volume has one owner, with ReadWriteMany too"
)]
#[case::bucket_and_volume(
    "main",
    "{storage: {s3: {bucket: images}, emptyDir: {}}}",
    "exactly one of persistentVolumeClaim, s3"
)]
#[case::replicas_on_a_bucket("main", "{replicas: 3, storage: {s3: {bucket: images}}}", "")]
#[case::autoscaling(
    "main",
    "{autoscaling: {maxReplicas: 3}, storage: {s3: {bucket: images}}, pod: {resources: {requests: {cpu: 500m}}}}",
    ""
)]
#[case::autoscaling_by_limit(
    "main",
    "{autoscaling: {maxReplicas: 3}, storage: {s3: {bucket: images}}, pod: {resources: {limits: {cpu: '1'}}}}",
    ""
)]
#[case::autoscaling_of_nothing(
    "main",
    "{autoscaling: {maxReplicas: 3}, storage: {s3: {bucket: images}}, pod: {resources: {requests: {memory: 1Gi}}}}",
    "pod.resources.requests.cpu"
)]
#[case::autoscaling_without_request(
    "main",
    "{autoscaling: {maxReplicas: 3}, storage: {s3: {bucket: images}}}",
    "pod.resources.requests.cpu"
)]
#[case::autoscaling_on_a_volume(
    "main",
    "{autoscaling: {maxReplicas: 3}, storage: {emptyDir: {}}, pod: {resources: {requests: {cpu: 500m}}}}",
    "autoscaling needs storage.s3"
)]
#[case::autoscaling_bounds(
    "main",
    "{autoscaling: {minReplicas: 4, maxReplicas: 3}, storage: {s3: {bucket: images}}}",
    "at least minReplicas"
)]
#[case::deletion_of_a_bucket(
    "main",
    "{deletionPolicy: Delete, storage: {s3: {bucket: images}}}",
    "aws s3 rm --recursive"
)]
#[case::no_replicas("main", "{replicas: 0, storage: {emptyDir: {}}}", "")]
#[case::two_tls("main", "{storage: {emptyDir: {}}, tls: {selfSigned: {}, disabled: {}}}", "at most one")]
#[case::node_port("main", "{storage: {emptyDir: {}}, exposure: {service: {nodePort: 30000}}}", "nodePort needs type")]
#[case::traffic_policy(
    "main",
    "{storage: {emptyDir: {}}, exposure: {service: {externalTrafficPolicy: Local}}}",
    "externalTrafficPolicy needs type"
)]
#[case::traffic_policy_outside(
    "main",
    "{storage: {emptyDir: {}}, exposure: {service: {type: LoadBalancer, externalTrafficPolicy: Local}}}",
    ""
)]
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
#[case::client_certificates_without_tls(
    "main",
    "{storage: {emptyDir: {}}, tls: {disabled: {}}, authentication: {clientCertificates: {certificateAuthority: '-----BEGIN CERTIFICATE-----'}}}",
    "needs TLS that ends at the registry: leave tls.disabled out"
)]
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
#[case::name("{bucket: images-1.example}", "")]
#[case::shortest("{bucket: a1b}", "")]
#[case::capitals("{bucket: Images}", "bucket must be")]
#[case::underscore("{bucket: my_images}", "bucket must be")]
#[case::hyphen_last("{bucket: images-}", "bucket must be")]
#[case::two_dots("{bucket: my..images}", "bucket must be")]
#[case::dot_and_hyphen("{bucket: my.-images}", "bucket must be")]
#[case::hyphen_and_dot("{bucket: my-.images}", "bucket must be")]
#[case::ip_address("{bucket: 192.168.5.4}", "bucket must be")]
#[case::directory_bucket("{bucket: images--use1-az4--x-s3}", "general purpose bucket")]
#[case::region("{bucket: images, region: eu central}", "region must be")]
#[case::endpoint("{bucket: images, endpoint: 'https://minio.example.com:9000'}", "")]
#[case::endpoint_by_address("{bucket: images, endpoint: 'http://10.0.0.1'}", "")]
#[case::endpoint_by_ipv6_address("{bucket: images, endpoint: 'http://[fd00::1]:9000'}", "")]
#[case::endpoint_without_scheme("{bucket: images, endpoint: 'minio.example.com:9000'}", "endpoint must be")]
#[case::endpoint_of_another_scheme("{bucket: images, endpoint: 's3://images'}", "endpoint must be")]
#[case::endpoint_with_slash("{bucket: images, endpoint: 'https://minio.example.com/'}", "endpoint must be")]
#[case::endpoint_with_path("{bucket: images, endpoint: 'https://minio.example.com/images'}", "endpoint must be")]
#[case::endpoint_with_query("{bucket: images, endpoint: 'https://minio.example.com?x=1'}", "endpoint must be")]
#[case::endpoint_with_user("{bucket: images, endpoint: 'https://me:hush@minio.example.com'}", "endpoint must be")]
#[case::endpoint_with_wrong_port("{bucket: images, endpoint: 'https://minio.example.com:65536'}", "endpoint must be")]
#[case::endpoint_with_last_port("{bucket: images, endpoint: 'https://minio.example.com:65535'}", "")]
#[case::prefix("{bucket: images, prefix: 'registries/main_1[x]^~!'}", "")]
#[case::prefix_with_dots("{bucket: images, prefix: 'a/..b/.c/d..'}", "")]
#[case::prefix_with_leading_slash("{bucket: images, prefix: /registries}", "prefix must be")]
#[case::prefix_with_trailing_slash("{bucket: images, prefix: registries/}", "prefix must be")]
#[case::prefix_with_two_slashes("{bucket: images, prefix: a//b}", "prefix must be")]
#[case::prefix_with_space("{bucket: images, prefix: 'a b'}", "prefix must be")]
#[case::prefix_with_backslash("{bucket: images, prefix: 'a\\b'}", "prefix must be")]
#[case::prefix_in_unicode("{bucket: images, prefix: bücher}", "prefix must be")]
#[case::prefix_that_leads_out("{bucket: images, prefix: a/../b}", "prefix must be")]
#[case::prefix_of_here("{bucket: images, prefix: .}", "prefix must be")]
#[case::authority("{bucket: images, certificateAuthority: {configMapRef: {name: a}}}", "")]
#[case::no_authority("{bucket: images, certificateAuthority: {}}", "exactly one of secretRef and configMapRef")]
#[case::two_authorities(
    "{bucket: images, certificateAuthority: {secretRef: {name: a}, configMapRef: {name: b}}}",
    "exactly one of secretRef and configMapRef"
)]
#[case::redirect("{bucket: images, redirect: {enabled: true, endpoint: 'https://s3.example.com', expiry: 1h}}", "")]
#[case::redirect_with_path(
    "{bucket: images, redirect: {endpoint: 'https://s3.example.com/x'}}",
    "redirect.endpoint must be"
)]
#[case::redirect_for_a_moment("{bucket: images, redirect: {expiry: 9s}}", "between 10s and 168h")]
#[case::redirect_for_ever("{bucket: images, redirect: {expiry: 169h}}", "between 10s and 168h")]
fn bucket_rules(#[case] s3: &str, #[case] expected: &str) {
    let registry: Registry = parse("Registry", "main", &format!("{{storage: {{s3: {s3}}}}}"));
    let actual = messages(registry.validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

/// A key below it still is one, and what no key may hold no prefix holds.
#[test]
fn a_prefix_is_what_the_storage_takes() {
    for character in (0..=0x2ff).filter_map(char::from_u32) {
        let mut registry: Registry = parse("Registry", "main", "{storage: {s3: {bucket: images}}}");
        let prefix = format!("a{character}b");
        registry.spec.storage.s3.as_mut().unwrap().prefix = Some(prefix.clone());
        let allowed = registry.validate_cel().is_ok();
        assert_eq!(allowed, landfast::registry::storage::Key::new(&*prefix).is_ok(), "{prefix:?}");
    }
}

#[rstest]
#[case::bucket("{bucket: images}", "{bucket: other}", "bucket and prefix can't be changed")]
#[case::prefix("{bucket: images, prefix: a}", "{bucket: images, prefix: b}", "bucket and prefix can't be changed")]
#[case::prefix_added("{bucket: images}", "{bucket: images, prefix: b}", "bucket and prefix can't be changed")]
#[case::prefix_removed("{bucket: images, prefix: b}", "{bucket: images}", "bucket and prefix can't be changed")]
#[case::address(
    "{bucket: images}",
    "{bucket: images, region: eu-west-1, endpoint: 'https://s3.example.com', forcePathStyle: true, credentialsSecretRef: {name: key}}",
    ""
)]
fn registry_bucket_changes(#[case] old: &str, #[case] new: &str, #[case] expected: &str) {
    let make = |s3: &str| parse::<Registry>("Registry", "main", &format!("{{storage: {{s3: {s3}}}}}"));
    let actual = messages(make(new).validate_cel_update(&make(old)));
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

#[rstest]
#[case::issuer("oidc: [{name: corp, issuerURL: 'https://i.example/realm', audiences: [r]}]", "")]
#[case::issuers(
    "oidc: [{name: a, issuerURL: 'https://i.example', audiences: [r]}, {name: b, issuerURL: 'https://i.example', audiences: [r]}]",
    ""
)]
#[case::issuers_of_one_name(
    "oidc: [{name: a, issuerURL: 'https://i.example', audiences: [r]}, {name: a, issuerURL: 'https://j.example', audiences: [r]}]",
    "two issuers can't have the same name"
)]
#[case::issuer_with_colon(
    "oidc: [{name: 'a:b', issuerURL: 'https://i.example', audiences: [r]}]",
    "the name of an issuer has lower-case letters"
)]
#[case::plain_issuer(
    "oidc: [{name: corp, issuerURL: 'http://i.example', audiences: [r]}]",
    "issuerURL must be an https:// address"
)]
#[case::issuer_with_query(
    "oidc: [{name: corp, issuerURL: 'https://i.example/?a=b', audiences: [r]}]",
    "issuerURL must be an https:// address"
)]
#[case::issuer_with_user(
    "oidc: [{name: corp, issuerURL: 'https://u@i.example', audiences: [r]}]",
    "issuerURL must be an https:// address"
)]
#[case::discovery(
    "oidc: [{name: corp, issuerURL: 'https://i.example', discoveryURL: 'ftp://i', audiences: [r]}]",
    "discoveryURL must be an https:// address"
)]
#[case::authority(
    "oidc: [{name: corp, issuerURL: 'https://i.example', certificateAuthority: x, audiences: [r]}]",
    "certificateAuthority must hold certificates in PEM"
)]
#[case::client_certificates(
    "clientCertificates: {certificateAuthority: x}",
    "certificateAuthority must hold certificates in PEM"
)]
#[case::client_certificates_of_an_authority(
    "clientCertificates: {certificateAuthority: '-----BEGIN CERTIFICATE-----'}",
    ""
)]
fn registry_authentication_rules(#[case] authentication: &str, #[case] expected: &str) {
    let spec = format!("{{storage: {{emptyDir: {{}}}}, authentication: {{{authentication}}}}}");
    let actual = messages(parse::<Registry>("Registry", "main", &spec).validate_cel());
    assert!(if expected.is_empty() { actual.is_empty() } else { actual.contains(expected) }, "{actual:?}");
}

#[test]
fn registry_keeps_its_kind_of_storage() {
    let old: Registry = parse("Registry", "main", &format!("{{{PVC}}}"));
    for other in ["{storage: {emptyDir: {}}}", "{storage: {s3: {bucket: images}}}"] {
        let new: Registry = parse("Registry", "main", other);
        for (new, old) in [(&new, &old), (&old, &new)] {
            let actual = messages(new.validate_cel_update(old));
            assert!(actual.contains("kind of storage can't be changed"), "{actual:?}");
        }
    }
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
#[case::alike_in_two_namespaces(
    "{projectRef: {name: a}, role: Guest, subjects: [{kind: ServiceAccount, name: ci}, {kind: ServiceAccount, name: ci, namespace: b}]}",
    ""
)]
#[case::twice_in_a_namespace(
    "{projectRef: {name: a}, role: Guest, subjects: [{kind: ServiceAccount, name: ci, namespace: b}, {kind: ServiceAccount, name: ci, namespace: b}]}",
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
#[case::user_of_an_issuer("{kind: User, name: 'oidc:corp:alice@example.com'}", "")]
#[case::workload("{kind: User, name: 'oidc:github:repo:acme/app:ref:refs/heads/main'}", "")]
#[case::user_of_no_issuer("{kind: User, name: 'oidc:alice'}", "for example htpasswd:alice")]
#[case::holder_of_a_certificate("{kind: User, name: 'certificate:Alice B.'}", "")]
#[case::space_at_the_end("{kind: User, name: 'certificate:Alice '}", "for example htpasswd:alice")]
#[case::line_break("{kind: User, name: \"certificate:a\\nb\"}", "for example htpasswd:alice")]
#[case::user_of_the_cluster("{kind: User, name: 'kubernetes:alice'}", "")]
#[case::group("{kind: Group, name: 'oidc:corp:developers'}", "")]
#[case::group_of_the_cluster("{kind: Group, name: 'kubernetes:system:serviceaccounts:team'}", "")]
#[case::group_without_provider("{kind: Group, name: developers}", "for example oidc:corp:developers")]
#[case::group_of_a_password_file("{kind: Group, name: 'htpasswd:staff'}", "for example oidc:corp:developers")]
#[case::service_account("{kind: ServiceAccount, name: builder}", "")]
#[case::service_account_of_another_namespace("{kind: ServiceAccount, name: builder, namespace: other}", "")]
#[case::service_account_with_namespace_in_its_name(
    "{kind: ServiceAccount, name: 'other:builder'}",
    "its namespace goes into namespace"
)]
#[case::user_with_namespace(
    "{kind: User, name: 'htpasswd:alice', namespace: other}",
    "namespace is for ServiceAccounts"
)]
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
