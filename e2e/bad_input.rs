//! What can't be followed is refused, or says in a condition what to do about it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Cluster, Command, PATIENCE, eventually, object, test, within, yaml};

const CRDS: [&str; 4] =
    ["members.landfast.dev", "projects.landfast.dev", "registries.landfast.dev", "repositorypolicies.landfast.dev"];

/// Objects that the API server refuses, and a part of what it answers.
const REFUSED: &[(&str, &str, &str)] = &[
    ("Registry main.x", "{storage: {emptyDir: {}}}", "becomes the name of its Service"),
    ("Registry main", "{storage: {}}", "set exactly one of persistentVolumeClaim, s3 and emptyDir"),
    (
        "Registry main",
        "{storage: {emptyDir: {}, persistentVolumeClaim: {size: 1Gi}}}",
        "set exactly one of persistentVolumeClaim, s3 and emptyDir",
    ),
    (
        "Registry main",
        "{autoscaling: {maxReplicas: 3}, storage: {emptyDir: {}}, pod: {resources: {requests: {cpu: 500m}}}}",
        "autoscaling needs storage.s3",
    ),
    (
        "Registry main",
        "{autoscaling: {maxReplicas: 3}, storage: {s3: {bucket: images}}}",
        "set pod.resources.requests.cpu",
    ),
    (
        "Registry main",
        "{autoscaling: {minReplicas: 4, maxReplicas: 3}, storage: {s3: {bucket: images}}, pod: {resources: {requests: {cpu: 500m}}}}",
        "maxReplicas must be at least minReplicas",
    ),
    (
        "Registry main",
        "{deletionPolicy: Delete, storage: {s3: {bucket: images}}}",
        "deletionPolicy Delete can't be had with storage.s3",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, exposure: {service: {externalTrafficPolicy: Local}}}",
        "externalTrafficPolicy needs type NodePort or LoadBalancer",
    ),
    ("Registry main", "{storage: {s3: {bucket: Images}}}", "bucket must be a bucket's name"),
    ("Registry main", "{storage: {s3: {bucket: images--x-s3}}}", "choose a general purpose bucket"),
    (
        "Registry main",
        "{storage: {s3: {bucket: images, certificateAuthority: {}}}}",
        "set exactly one of secretRef and configMapRef",
    ),
    (
        "Registry main",
        "{storage: {s3: {bucket: images, endpoint: 'https://s3.example/images'}}}",
        "endpoint must be scheme, host and port",
    ),
    (
        "Registry main",
        "{storage: {s3: {bucket: images, prefix: /images}}}",
        "prefix must be names separated by single '/'",
    ),
    ("Registry main", "{storage: {s3: {bucket: images, region: 'eu central'}}}", "region must be a region's name"),
    (
        "Registry main",
        "{storage: {s3: {bucket: images, redirect: {enabled: true, endpoint: s3.example}}}}",
        "redirect.endpoint must be scheme, host and port",
    ),
    (
        "Registry main",
        "{storage: {s3: {bucket: images, redirect: {enabled: true, expiry: 1s}}}}",
        "redirect.expiry must lie between 10s and 168h",
    ),
    ("Registry main", "{storage: {persistentVolumeClaim: {}}}", "set size, to have a claim made, or existingClaim"),
    (
        "Registry main",
        "{storage: {persistentVolumeClaim: {size: 1Gi, existingClaim: mine}}}",
        "set size, to have a claim made, or existingClaim",
    ),
    ("Registry main", "{storage: {persistentVolumeClaim: {size: '0'}}}", "size must be above zero"),
    (
        "Registry main",
        "{storage: {persistentVolumeClaim: {existingClaim: mine, storageClassName: fast}}}",
        "storageClassName belongs to a claim that is made",
    ),
    (
        "Registry main",
        "{replicas: 2, storage: {persistentVolumeClaim: {size: 1Gi}}}",
        "more than one replica needs storage.s3",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, tls: {selfSigned: {}, disabled: {}}}",
        "set at most one of selfSigned, secretRef and disabled",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, exposure: {service: {nodePort: 30000}}}",
        "nodePort needs type NodePort or LoadBalancer",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {tokenTTL: 5s}}",
        "tokenTTL must lie between 60s and 24h",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {signingKeyRotation: 1h}}",
        "signingKeyRotation must be at least 1d",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, exposure: {trustedProxies: [proxy.example]}}",
        "trustedProxies takes ranges of addresses: write them as 10.0.0.0/8 or fd00::/8",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, projectNamespaces: {from: Selector}}",
        "set selector if, and only if, from is Selector",
    ),
    ("Registry main", "{storage: {emptyDir: {}}, hostnames: ['not a host']}", "should match"),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {oidc: [{name: 'a:b', issuerURL: 'https://i.example', audiences: [r]}]}}",
        "the name of an issuer has lower-case letters, digits and '-' in between",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {oidc: [{name: a, issuerURL: 'https://i.example', audiences: [r]}, {name: a, issuerURL: 'https://j.example', audiences: [r]}]}}",
        "Duplicate value",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {oidc: [{name: corp, issuerURL: 'http://i.example', audiences: [r]}]}}",
        "issuerURL must be an https:// address without user, query and fragment, exactly as the claim iss says it",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {oidc: [{name: corp, issuerURL: 'https://i.example', discoveryURL: 'ftp://i', audiences: [r]}]}}",
        "discoveryURL must be an https:// address without user and fragment",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, authentication: {clientCertificates: {certificateAuthority: x}}}",
        "certificateAuthority must hold certificates in PEM, each between BEGIN CERTIFICATE and END CERTIFICATE",
    ),
    (
        "Registry main",
        "{storage: {emptyDir: {}}, tls: {disabled: {}}, authentication: {clientCertificates: {certificateAuthority: '-----BEGIN CERTIFICATE-----'}}}",
        "authentication.clientCertificates needs TLS that ends at the registry: leave tls.disabled out; behind a proxy that ends TLS there are no client certificates",
    ),
    ("Registry main", "{storage: {nfs: {server: x}}}", "unknown field \"spec.storage.nfs\""),
    ("Project team", "{}", "spec.registryRef: Required value"),
    ("Project team", "{registryRef: {name: main}, path: Not/A/Path}", "should match"),
    ("Project team", "{registryRef: {name: main}, visibility: Secret}", "Unsupported value: \"Secret\""),
    ("Project team", "{registryRef: {name: main}, pullSecrets: {role: Admin}}", "a pull secret can't be Admin"),
    ("Project team", "{registryRef: {name: main}, pullSecrets: {rotation: 5m}}", "rotation must be at least 1h"),
    (
        "Member ci",
        "{role: Guest, subjects: [{kind: Robot, name: ci}]}",
        "set exactly one of projectRef and registryRef",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, registryRef: {name: b}, role: Guest, subjects: [{kind: Robot, name: ci}]}",
        "set exactly one of projectRef and registryRef",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci}, {kind: Robot, name: ci}]}",
        "each subject may be listed once",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, rotation: 1m, subjects: [{kind: Robot, name: ci}]}",
        "rotation must be at least 1h",
    ),
    ("Member ci", "{projectRef: {name: a}, role: Guest, subjects: []}", "should have at least 1 items"),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: User, name: alice}]}",
        "the name of a User begins with who knows him, for example htpasswd:alice, oidc:corp:alice@example.com for an issuer named corp, certificate:alice, or kubernetes:alice",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: Group, name: 'htpasswd:staff'}]}",
        "the name of a Group begins with who knows it, for example oidc:corp:developers for an issuer named corp, certificate:developers, or kubernetes:system:serviceaccounts:team",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: ServiceAccount, name: 'other:ci'}]}",
        "the name of a ServiceAccount is that of the object, lower-case letters, digits, '-' and '.'; its namespace goes into namespace",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: ci, namespace: other}]}",
        "namespace is for ServiceAccounts: leave it out",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: Robot, name: CI}]}",
        "the name of a Robot has at most 63 lower-case letters, digits and '-', and begins and ends with a letter or digit",
    ),
    (
        "Member ci",
        "{projectRef: {name: a}, role: Guest, subjects: [{kind: User, name: 'htpasswd:alice', secretName: mine}]}",
        "secretName is for robots: everybody else brings a login of his own",
    ),
    (
        "RepositoryPolicy tags",
        "{projectRef: {name: demo}, repositories: ['**'], immutableTags: ['-v*']}",
        "a pattern of tags",
    ),
    ("RepositoryPolicy all", "{projectRef: {name: a}, repositories: []}", "should have at least 1 items"),
];

/// An object, a change of it that is refused, and a part of the answer.
const CHANGES_REFUSED: &[(&str, &str, &str, &str)] = &[
    (
        "Registry bucket",
        "{replicas: 0, storage: {s3: {bucket: images}}}",
        "{storage: {s3: {prefix: registries/main}}}",
        "bucket and prefix can't be changed",
    ),
    (
        "Registry disk",
        "{replicas: 0, storage: {persistentVolumeClaim: {size: 2Gi, storageClassName: a}}}",
        "{storage: {persistentVolumeClaim: {size: 1Gi}}}",
        "size can grow but not shrink",
    ),
    (
        "Registry disk-b",
        "{replicas: 0, storage: {persistentVolumeClaim: {size: 2Gi, storageClassName: a}}}",
        "{storage: {persistentVolumeClaim: {storageClassName: b}}}",
        "storageClassName can't be changed",
    ),
    (
        "Registry disk-c",
        "{replicas: 0, storage: {persistentVolumeClaim: {size: 1Gi}}}",
        "{storage: {persistentVolumeClaim: {accessModes: [ReadWriteMany]}}}",
        "accessModes can't be changed",
    ),
    (
        "Registry disk-d",
        "{replicas: 0, storage: {persistentVolumeClaim: {existingClaim: a}}}",
        "{storage: {persistentVolumeClaim: {existingClaim: b}}}",
        "another claim can't be chosen later",
    ),
    (
        "Registry disk-e",
        "{replicas: 0, storage: {persistentVolumeClaim: {size: 1Gi}}}",
        "{storage: {persistentVolumeClaim: null, emptyDir: {}}}",
        "the kind of storage can't be changed",
    ),
    ("Project a", "{registryRef: {name: none}}", "{path: b}", "path can't be changed"),
    ("Project b", "{registryRef: {name: none}}", "{registryRef: {name: other}}", "registryRef can't be changed"),
];

/// A name that is too long for a path, so that it has to be told which it is.
fn long_name() -> (String, &'static str, &'static str) {
    (format!("Project {}", "a".repeat(201)), "{registryRef: {name: main}}", "the name is too long for a path")
}

#[test]
fn every_rule_refuses_with_a_message_that_says_what_to_do() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("rules").await;
        let mut answers = Vec::new();
        let long = long_name();
        let rows = REFUSED.iter().copied().chain([(long.0.as_str(), long.1, long.2)]);
        for (head, spec, expected) in rows {
            let refused = create_strictly(&namespace, object(head, spec)).await;
            let answer = refused.err().unwrap_or_else(|| panic!("{head} {spec} was taken"));
            assert!(answer.contains(expected), "{head} {spec}: {answer}");
            answers.push(answer);
        }
        for (head, spec, change, expected) in CHANGES_REFUSED {
            let (kind, name) = head.split_once(' ').expect("a kind and a name");
            cluster.create(&namespace, object(head, spec)).await;
            let refused = cluster.try_patch(kind, &namespace, name, json!({"spec": yaml(change)}), true).await;
            let answer = refused.err().unwrap_or_else(|| panic!("{head} {spec} -> {change} was taken"));
            assert!(answer.contains(expected), "{head} {spec} -> {change}: {answer}");
            answers.push(answer);
        }

        let mut untested = BTreeSet::new();
        for crd in CRDS {
            let crd = cluster.get("CustomResourceDefinition", "", crd).await;
            rule_messages(&crd["spec"]["versions"][0]["schema"], &mut untested);
        }
        assert!(untested.len() > 15, "the rules were found: {untested:?}");
        untested.retain(|message| !answers.iter().any(|answer| answer.contains(message.as_str())));
        assert!(untested.is_empty(), "no row of the tables meets: {untested:#?}");
    });
}

/// As kubectl does it: a field that is not known is an error.
async fn create_strictly(namespace: &str, object: Value) -> Result<String, String> {
    let command = Command::new("kubectl").args(["create", "--dry-run=server", "--namespace", namespace]);
    command.args(["--filename", "-"]).input(object.to_string()).result().await
}

/// The messages of all CEL rules below a schema.
fn rule_messages(schema: &Value, messages: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.insert(rule["message"].as_str().expect("every rule has a message").to_owned());
            }
            fields.values().for_each(|value| rule_messages(value, messages));
        }
        Value::Array(values) => values.iter().for_each(|value| rule_messages(value, messages)),
        _ => {}
    }
}

/// Waits for the condition and gives its message.
async fn message(cluster: &Cluster, kind: &str, namespace: &str, name: &str, type_: &str, reason: &str) -> String {
    let condition = cluster.reason(kind, namespace, name, type_, reason).await;
    assert_eq!(condition["status"], "False", "{condition}");
    condition["message"].as_str().unwrap_or_default().to_owned()
}

const NO_PODS: &str = "{replicas: 0, storage: {emptyDir: {}}}";
const ROBOT: &str = "role: Guest, subjects: [{kind: Robot, name: ci}]";

#[test]
fn a_project_waits_for_its_registry_and_says_so() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("order").await;
        // Made in the wrong order, as `kubectl apply -f folder` may.
        let member = format!("{{projectRef: {{name: team}}, {ROBOT}}}");
        cluster.create(&namespace, object("Member ci", &member)).await;
        let policy = "{projectRef: {name: team}, repositories: ['**']}";
        cluster.create(&namespace, object("RepositoryPolicy all", policy)).await;
        for (kind, name) in [("Member", "ci"), ("RepositoryPolicy", "all")] {
            let text = message(cluster, kind, &namespace, name, "Accepted", "ProjectNotFound").await;
            assert!(text.contains("there is no Project team") && text.contains("create it"), "{text}");
        }
        cluster.create(&namespace, object("Project team", "{registryRef: {name: main}}")).await;
        let text = message(cluster, "Project", &namespace, "team", "Accepted", "RegistryNotFound").await;
        assert!(text.contains("main"), "the message names the Registry: {text}");
        let registry_member = format!("{{registryRef: {{name: main}}, {ROBOT}}}");
        cluster.create(&namespace, object("Member platform", &registry_member)).await;
        message(cluster, "Member", &namespace, "platform", "Accepted", "RegistryNotFound").await;

        cluster.create(&namespace, object("Registry main", NO_PODS)).await;
        cluster.condition("Project", &namespace, "team", "Accepted", "True").await;
        for name in ["ci", "platform"] {
            cluster.condition("Member", &namespace, name, "Ready", "True").await;
        }
        cluster.condition("RepositoryPolicy", &namespace, "all", "Accepted", "True").await;
    });
}

/// An object that is refused when it is applied; and if it comes into the cluster all the same, it is there without effect.
async fn refused(cluster: &Cluster, namespace: &str, object: &serde_json::Value, expected: &str) {
    within(PATIENCE, "the webhook refuses it", async || {
        // What it depends on may have to get around first.
        match cluster.try_create(namespace, object.clone(), true).await {
            Err(error) if error.contains(expected) => Ok(()),
            result => Err(format!("{result:?}")),
        }
    })
    .await;
    cluster.create_unjudged(namespace, object).await.unwrap();
}

#[test]
fn a_project_from_a_namespace_that_is_not_allowed_is_not_accepted() {
    test(async |cluster: &Cluster| {
        let (home, guest) = (cluster.namespace("home").await, cluster.namespace("guest").await);
        cluster.create(&home, object("Registry main", NO_PODS)).await;
        let project = object("Project team", &format!("{{registryRef: {{name: main, namespace: {home}}}}}"));
        refused(cluster, &guest, &project, "spec.projectNamespaces").await;
        let text = message(cluster, "Project", &guest, "team", "Accepted", "NamespaceNotAllowed").await;
        assert!(text.contains(&guest) && text.contains("spec.projectNamespaces"), "{text}");
        let member = format!("{{projectRef: {{name: team}}, {ROBOT}}}");
        cluster.create(&guest, object("Member ci", &member)).await;
        let text = message(cluster, "Member", &guest, "ci", "Accepted", "ProjectNotAccepted").await;
        assert!(text.contains("see its conditions"), "{text}");
        assert!(cluster.find("Secret", &guest, "ci-ci").await.is_none(), "it gets no credential");

        let official = format!("{{registryRef: {{name: main, namespace: {home}}}, official: true}}");
        refused(cluster, &guest, &object("Project library", &official), "takes no Projects from namespace").await;
        let open = json!({"spec": {"projectNamespaces": {"from": "All"}}});
        cluster.patch("Registry", &home, "main", open).await;
        cluster.condition("Project", &guest, "team", "Accepted", "True").await;
        cluster.condition("Member", &guest, "ci", "Ready", "True").await;
        let text = message(cluster, "Project", &guest, "library", "Accepted", "OfficialNotAllowed").await;
        assert!(text.contains("set official to false"), "{text}");

        let closed = json!({"spec": {"projectNamespaces": {"from": "Same"}}});
        cluster.patch("Registry", &home, "main", closed).await;
        message(cluster, "Project", &guest, "team", "Accepted", "NamespaceNotAllowed").await;
        cluster.gone("Secret", &guest, "ci-ci").await;
    });
}

#[test]
fn the_younger_of_two_projects_of_one_path_waits() {
    test(async |cluster: &Cluster| {
        let (namespace, other) = (cluster.namespace("twins").await, cluster.namespace("other").await);
        let registry = "{replicas: 0, storage: {emptyDir: {}}, projectNamespaces: {from: All}}";
        cluster.create(&namespace, object("Registry main", registry)).await;
        let project = "{registryRef: {name: main}, path: shared/path}";
        cluster.project(&namespace, "older", project).await;
        // Creation times are in whole seconds, and the older one is to be older.
        let created = cluster.get("Project", &namespace, "older").await["metadata"]["creationTimestamp"].clone();
        let created: k8s_openapi::jiff::Timestamp = created.as_str().unwrap_or_default().parse().expect("a time");
        eventually("the next second", async || {
            let now = k8s_openapi::jiff::Timestamp::now();
            if now.as_second() > created.as_second() + 1 { Ok(()) } else { Err(now.to_string()) }
        })
        .await;
        refused(cluster, &namespace, &object("Project a-younger", project), "choose another path").await;
        let text = message(cluster, "Project", &namespace, "a-younger", "Accepted", "PathConflict").await;
        assert!(text.contains(&format!("{namespace}/older")) && text.contains("choose another path"), "{text}");
        // A part of somebody else's path, or what somebody else's is a part of, would take images from them.
        for (name, path) in [("inner", "shared/path/inner"), ("outer", "shared")] {
            let project = format!("{{registryRef: {{name: main, namespace: {namespace}}}, path: {path}}}");
            refused(cluster, &other, &object(&format!("Project {name}"), &project), "choose another path").await;
            message(cluster, "Project", &other, name, "Accepted", "PathConflict").await;
            cluster.delete("Project", &other, name).await;
        }
        cluster.condition("Project", &namespace, "older", "Accepted", "True").await;
        cluster.delete("Project", &namespace, "older").await;
        cluster.condition("Project", &namespace, "a-younger", "Accepted", "True").await;
    });
}

#[test]
fn bad_storage_is_named_in_the_ready_condition() {
    test(async |cluster: &Cluster| {
        let namespace = cluster.namespace("storage").await;
        let missing = "{storage: {persistentVolumeClaim: {existingClaim: not-there}}}";
        cluster.create(&namespace, object("Registry missing", missing)).await;
        let unknown = "{storage: {persistentVolumeClaim: {size: 1Gi, storageClassName: no-such-class}}}";
        cluster.create(&namespace, object("Registry unknown", unknown)).await;
        for (name, culprit) in [("missing", "not-there"), ("unknown", "no-such-class")] {
            let what = format!("Ready of Registry {name} is False and names {culprit}");
            eventually(&what, async || {
                let registry = cluster.get("Registry", &namespace, name).await;
                let conditions = registry["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let ready = conditions.iter().find(|condition| condition["type"] == "Ready").ok_or("no condition")?;
                let message = ready["message"].as_str().unwrap_or_default();
                let right = ready["status"] == "False" && message.contains(culprit);
                if right { Ok(()) } else { Err(ready.to_string()) }
            })
            .await;
        }

        let claim = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "not-there"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        cluster.create(&namespace, claim).await;
        cluster.condition("Registry", &namespace, "missing", "Ready", "True").await;
    });
}
