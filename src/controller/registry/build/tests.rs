//! Built objects, whole, as snapshots; and the names and addresses by tables.

use rstest::rstest;

use super::*;

fn registry(spec: &str) -> Registry {
    let text = format!(
        "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {{name: main, namespace: team, uid: 0e1f-uid}}\nspec:\n{spec}"
    );
    serde_saphyr::from_str(&text).unwrap()
}

/// A spec with nothing set but what this says, in YAML's flow style.
fn with(fields: &str) -> Registry {
    registry(&format!("  {{storage: {{emptyDir: {{}}}}, {fields}}}"))
}

/// All objects as one YAML text each, in the order of application.
fn snapshot(name: &str, spec: &str) {
    let registry = registry(spec);
    let Objects {
        service_account,
        role,
        role_binding,
        policy_binding,
        cluster_role_bindings,
        config_map,
        persistent_volume_claim,
        service,
        pod_disruption_budget,
        deployment,
        horizontal_pod_autoscaler,
    } = objects(&Inputs { registry: &registry, image: "landfast:1.2.3" });
    let value = |object: Result<serde_json::Value, serde_json::Error>| object.unwrap();
    let mut all = vec![
        value(serde_json::to_value(service_account)),
        value(serde_json::to_value(role)),
        value(serde_json::to_value(role_binding)),
    ];
    all.extend(policy_binding.map(|binding| value(serde_json::to_value(binding))));
    all.extend(cluster_role_bindings.into_iter().map(|binding| value(serde_json::to_value(binding))));
    all.extend([
        value(serde_json::to_value(config_map)),
        value(serde_json::to_value(service)),
        value(serde_json::to_value(deployment)),
    ]);
    all.extend(persistent_volume_claim.map(|claim| value(serde_json::to_value(claim))));
    all.extend(pod_disruption_budget.map(|budget| value(serde_json::to_value(budget))));
    all.extend(horizontal_pod_autoscaler.map(|autoscaler| value(serde_json::to_value(autoscaler))));
    insta::assert_yaml_snapshot!(name, all);
}

#[test]
fn a_minimal_registry() {
    snapshot("minimal", "  storage: {emptyDir: {}}\n");
}

#[test]
fn everything_set() {
    snapshot(
        "everything",
        r#"
  hostnames: [registry.example.com, "registry.internal:8443"]
  replicas: 1
  storage:
    persistentVolumeClaim: {size: 100Gi, storageClassName: fast, accessModes: [ReadWriteOncePod]}
  exposure:
    service:
      type: NodePort
      port: 8443
      nodePort: 30443
      externalTrafficPolicy: Local
      annotations: {example.com/balancer: internal}
    trustedProxies: [10.0.0.0/8, "fd00::/8"]
  tls: {selfSigned: {}}
  authentication:
    tokenTTL: 10m
    htpasswdSecretRef: {name: people, key: users}
    serviceAccounts: {namespaces: {from: All}, audiences: [registry.example.com]}
    failures: {perMinute: 5}
    signingKeyRotation: 90d
  projectNamespaces: {from: All}
  pullSecretNamespaces: {from: Selector, selector: {matchLabels: {pull: "yes"}}}
  pod:
    image: mirror.example.com/landfast:custom
    imagePullPolicy: Always
    imagePullSecrets: [{name: mirror}]
    resources: {requests: {cpu: "1", memory: 1Gi}, limits: {memory: 2Gi}}
    nodeSelector: {disk: ssd}
    tolerations: [{key: dedicated, operator: Exists, effect: NoSchedule}]
    affinity:
      nodeAffinity:
        requiredDuringSchedulingIgnoredDuringExecution:
          nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: [a]}]}]
    topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}
    priorityClassName: high
    labels: {team: platform, app.kubernetes.io/name: not-ours-to-change}
    annotations: {example.com/scrape: "true"}
    serviceAccountAnnotations: {example.com/role: registry}
  deletionPolicy: Delete
"#,
    );
}

#[test]
fn three_replicas_on_a_bucket_with_a_provided_certificate() {
    snapshot(
        "bucket",
        r#"
  hostnames: [registry.example.com]
  replicas: 3
  storage:
    s3:
      bucket: images
      region: eu-central-1
      endpoint: https://s3.example.com:9000
      prefix: registries/main
      forcePathStyle: true
      credentialsSecretRef: {name: key, keys: {accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY}}
      certificateAuthority: {configMapRef: {name: trust, key: roots.pem}}
      redirect: {enabled: true, endpoint: https://s3.example.org, expiry: 5m}
  exposure: {service: {type: LoadBalancer}}
  tls: {secretRef: {name: registry-example-com}}
  projectNamespaces: {from: Selector, selector: {matchLabels: {team: a}}}
"#,
    );
}

#[test]
fn pods_that_follow_the_load_with_a_role_of_the_cloud() {
    snapshot(
        "autoscaled",
        r#"
  storage: {s3: {bucket: images, certificateAuthority: {secretRef: {name: trust}}}}
  autoscaling: {minReplicas: 3, maxReplicas: 20, targetCPUUtilizationPercentage: 60}
  pod:
    resources: {requests: {cpu: 500m}}
    serviceAccountAnnotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::1:role/images"}
    topologySpreadConstraints:
      - {maxSkew: 2, topologyKey: example.com/rack, whenUnsatisfiable: DoNotSchedule}
"#,
    );
}

fn bucket(fields: &str) -> Objects {
    let registry = registry(&format!("  {{storage: {{s3: {{bucket: images}}}}, {fields}}}"));
    objects(&Inputs { registry: &registry, image: "i" })
}

fn spec(objects: &Objects) -> &k8s_openapi::api::apps::v1::DeploymentSpec {
    objects.deployment.spec.as_ref().unwrap()
}

/// What the pods may do outside of their namespace, and inside by a ClusterRole.
#[rstest]
#[case::nothing("", true, &[])]
#[case::projects_from_elsewhere("projectNamespaces: {from: All}", false, &["landfast-registry"])]
#[case::service_accounts("authentication: {serviceAccounts: {}}", true, &["landfast-registry-tokenreview"])]
#[case::service_accounts_of_all("authentication: {serviceAccounts: {namespaces: {from: All}}}", true, &["landfast-registry-tokenreview"])]
#[case::service_accounts_by_labels(
    "authentication: {serviceAccounts: {namespaces: {from: Selector, selector: {}}}}",
    true,
    &["landfast-registry-tokenreview", "landfast-registry-namespaces"]
)]
#[case::both_by_labels(
    "projectNamespaces: {from: Selector, selector: {}}, authentication: {serviceAccounts: {namespaces: {from: Selector, selector: {}}}}",
    false,
    &["landfast-registry", "landfast-registry-tokenreview"]
)]
fn pods_have_the_rights_that_they_need(#[case] fields: &str, #[case] inside: bool, #[case] roles: &[&str]) {
    let registry = with(fields);
    let objects = objects(&Inputs { registry: &registry, image: "i" });
    assert_eq!(objects.policy_binding.is_some(), inside);
    let bound: Vec<_> = objects.cluster_role_bindings.iter().map(|binding| &*binding.role_ref.name).collect();
    assert_eq!(bound, roles);
    for binding in &objects.cluster_role_bindings {
        let expected = format!("{}:team:main", binding.role_ref.name);
        assert_eq!(binding.metadata.name.as_deref(), Some(&*expected));
        assert!(names::CLUSTER_ROLES.contains(&&*binding.role_ref.name), "nobody would delete it");
    }
}

/// What another number of pods changes, and that it makes no new ones.
#[rstest]
#[case::none("replicas: 0", Some(0), "Recreate", false, false)]
#[case::one("replicas: 1", Some(1), "Recreate", false, false)]
#[case::two("replicas: 2", Some(2), "RollingUpdate", true, false)]
#[case::autoscaled("autoscaling: {maxReplicas: 4}", None, "RollingUpdate", true, true)]
#[case::autoscaled_and_stopped("replicas: 0, autoscaling: {maxReplicas: 4}", Some(0), "RollingUpdate", true, false)]
fn another_number_of_pods(
    #[case] fields: &str,
    #[case] replicas: Option<i32>,
    #[case] strategy: &str,
    #[case] has_budget: bool,
    #[case] has_autoscaler: bool,
) {
    let objects = bucket(fields);
    assert_eq!(spec(&objects).replicas, replicas);
    assert_eq!(spec(&objects).strategy.as_ref().unwrap().type_.as_deref(), Some(strategy));
    assert_eq!(objects.pod_disruption_budget.is_some(), has_budget);
    assert_eq!(objects.horizontal_pod_autoscaler.is_some(), has_autoscaler);
    let config = &objects.config_map.data.as_ref().unwrap()[CONFIG_FILE];
    assert_eq!(config.contains("requireConditionalWrites: true"), has_budget, "{config}");
    // A pod that began alone may end among others.
    assert!(config.contains("drainDelaySeconds: 5\ndrainSeconds: 120"), "{config}");
    assert_eq!(spec(&objects).template, spec(&bucket("replicas: 3")).template);
}

/// An older object may say it without the rule that refuses it.
#[test]
fn what_is_for_the_outside_is_left_out_inside() {
    let registry = with("exposure: {service: {nodePort: 30443, externalTrafficPolicy: Local}}");
    let spec = objects(&Inputs { registry: &registry, image: "landfast:1.2.3" }).service.spec.unwrap();
    assert_eq!((spec.external_traffic_policy, spec.ports.unwrap()[0].node_port), (None, None));
}

#[rstest]
#[case::own_name("", "main.team.svc", "https://main.team.svc")]
#[case::hostname("hostnames: [r.example.com, 's.example.com']", "r.example.com", "https://r.example.com")]
#[case::hostname_with_port("hostnames: ['r.example.com:5000']", "r.example.com:5000", "https://r.example.com:5000")]
#[case::service_port("exposure: {service: {port: 5000}}", "main.team.svc:5000", "https://main.team.svc:5000")]
#[case::default_port("exposure: {service: {port: 443}}", "main.team.svc", "https://main.team.svc")]
#[case::plain("tls: {disabled: {}}", "main.team.svc", "http://main.team.svc")]
#[case::plain_on_443(
    "tls: {disabled: {}}, exposure: {service: {port: 443}}",
    "main.team.svc:443",
    "http://main.team.svc:443"
)]
fn has_an_address(#[case] fields: &str, #[case] address: &str, #[case] url: &str) {
    let registry = with(fields);
    assert_eq!((names::address(&registry).as_str(), names::url(&registry).as_str()), (address, url));
}

#[test]
fn pull_secrets_cover_every_host_once() {
    let registry = with("hostnames: [r.example.com, 'main.team.svc:5000'], exposure: {service: {port: 5000}}");
    let expected = ["r.example.com", "main.team.svc:5000", "main.team.svc.cluster.local:5000"];
    assert_eq!(names::hosts(&registry), expected);
}

#[rstest]
#[case::name("r.example.com", "r.example.com")]
#[case::port("r.example.com:5000", "r.example.com")]
#[case::address("192.0.2.1:5000", "192.0.2.1")]
fn a_host_name_may_have_a_port(#[case] hostname: &str, #[case] host: &str) {
    assert_eq!(names::host_of(hostname), host);
}

#[rstest]
#[case::own("", Some("main-tls"))]
#[case::provided("tls: {secretRef: {name: mine}}", Some("mine"))]
#[case::disabled("tls: {disabled: {}}", None)]
fn takes_the_certificate_from(#[case] fields: &str, #[case] secret: Option<&str>) {
    assert_eq!(names::tls_secret(&with(fields)).as_deref(), secret);
}

#[test]
fn an_existing_claim_is_used_and_not_built() {
    let registry = registry("  {storage: {persistentVolumeClaim: {existingClaim: disk}}}");
    assert!(objects(&Inputs { registry: &registry, image: "i" }).persistent_volume_claim.is_none());
    assert_eq!(claim_name(&registry).as_deref(), Some("disk"));
    assert_eq!(claim_name(&with("")), None);
}

#[test]
fn a_changed_configuration_rolls_the_pods() {
    let hash = |fields: &str| config_map::hash(&Inputs { registry: &with(fields), image: "i" });
    assert_eq!(hash(""), hash("hostnames: [r.example.com]"), "policy and names need no new pods");
    assert_ne!(hash(""), hash("tls: {disabled: {}}"));
}

/// A webhook of the cloud gives a pod its role when the pod is made.
#[test]
fn another_role_of_the_cloud_means_other_pods() {
    let annotations = |objects: &Objects| spec(objects).template.metadata.clone().unwrap().annotations.unwrap();
    let with_role = |role: &str| {
        annotations(&bucket(&format!("pod: {{serviceAccountAnnotations: {{eks.amazonaws.com/role-arn: {role}}}}}")))
    };
    let without = annotations(&bucket("replicas: 1"));
    assert!(!without.contains_key(names::SERVICE_ACCOUNT_HASH), "{without:?}");
    assert_eq!(with_role("a"), with_role("a"));
    assert_ne!(with_role("a"), with_role("b"));
    assert_ne!(with_role("a"), without);
    let on_a_disk = with("pod: {serviceAccountAnnotations: {eks.amazonaws.com/role-arn: a}}");
    let on_a_disk = annotations(&objects(&Inputs { registry: &on_a_disk, image: "i" }));
    assert!(!on_a_disk.contains_key(names::SERVICE_ACCOUNT_HASH), "nobody there asks a cloud for anything");
}

#[test]
fn even_a_nameless_registry_is_built() {
    let mut registry = with("");
    registry.metadata = kube::api::ObjectMeta::default();
    objects(&Inputs { registry: &registry, image: "" });
}
