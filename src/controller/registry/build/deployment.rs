//! The Deployment of the pods that serve the registry.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, KeyToPath,
    LocalObjectReference, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, Probe,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, TopologySpreadConstraint, Volume,
    VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;
use sha2::{Digest as _, Sha256};

use super::{
    CONFIG_DIRECTORY, CONFIG_FILE, DATA_DIRECTORY, HEALTH_PORT, HTPASSWD_DIRECTORY, HTPASSWD_FILE, Inputs,
    REGISTRY_PORT, TLS_DIRECTORY, claim_name, config_map, names, s3, serves_side_by_side,
};
use crate::api::v1alpha1::{
    Authentication, EmptyDirStorage, HtpasswdSecret, PodSettings, Registry, RegistrySpec, Storage,
};

/// User and group of the process, as distroless images number `nonroot`.
const USER: i64 = 65_532;
/// `0440`: the process reads its key by its group, and others don't.
const SECRET_MODE: i32 = 0o440;

pub(super) fn build(inputs: &Inputs<'_>) -> Deployment {
    let registry = inputs.registry;
    // What isn't used here is used by another builder, or is policy, which the pods watch.
    let RegistrySpec {
        hostnames: _,
        replicas,
        autoscaling,
        storage: _,
        exposure: _,
        tls: _,
        authentication: _,
        project_namespaces: _,
        pull_secret_namespaces: _,
        base_image_suffix: _,
        pod,
        deletion_policy: _,
    } = &registry.spec;
    let spec = DeploymentSpec {
        // What we name is ours, and we would set it again whenever the autoscaler has changed it.
        replicas: (autoscaling.is_none() || *replicas == 0).then_some(*replicas),
        strategy: Some(strategy(registry)),
        selector: LabelSelector { match_labels: Some(names::selector_labels(registry)), ..LabelSelector::default() },
        template: template(inputs, pod),
        ..DeploymentSpec::default()
    };
    Deployment { metadata: names::owned(registry, names::name(registry)), spec: Some(spec), status: None }
}

/// A new pod for each old one where pods may serve side by side. Otherwise never old and new ones at a time: one process
/// owns the folder with the images, and the new one would wait for the lock that the old one holds, and the old one for
/// the new one to be ready. A bucket has no lock, and its service may lack what several processes need.
fn strategy(registry: &Registry) -> DeploymentStrategy {
    if serves_side_by_side(registry) {
        let rolling_update = RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        };
        DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: Some(rolling_update) }
    } else {
        DeploymentStrategy { type_: Some("Recreate".to_owned()), rolling_update: None }
    }
}

/// Over zones and over nodes, as evenly as it can be without leaving a pod out. Each roll-out is counted by itself: the
/// pods that are about to go don't count. It does not depend on the number of pods, which may change without new ones.
fn spread(registry: &Registry) -> Vec<TopologySpreadConstraint> {
    let over = |key: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::selector_labels(registry)),
            ..LabelSelector::default()
        }),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    };
    ["topology.kubernetes.io/zone", "kubernetes.io/hostname"].map(over).to_vec()
}

fn template(inputs: &Inputs<'_>, settings: &PodSettings) -> PodTemplateSpec {
    let PodSettings {
        image,
        image_pull_policy,
        image_pull_secrets,
        resources,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        labels,
        annotations,
        service_account_annotations,
    } = settings.clone();
    let registry = inputs.registry;
    let spread_by_default = topology_spread_constraints.is_empty() && registry.spec.storage.s3.is_some();
    let topology_spread_constraints = if spread_by_default { spread(registry) } else { topology_spread_constraints };
    let container = Container {
        image: Some(image.unwrap_or_else(|| inputs.image.to_owned())),
        image_pull_policy,
        resources: Some(resources.unwrap_or_else(default_resources)),
        ..container(registry)
    };
    let pull_secrets = image_pull_secrets.into_iter().map(|secret| LocalObjectReference { name: secret.name });
    let spec = PodSpec {
        containers: vec![container],
        volumes: Some(volumes(registry)),
        image_pull_secrets: filled(pull_secrets.collect()),
        node_selector: (!node_selector.is_empty()).then_some(node_selector),
        tolerations: filled(tolerations),
        affinity,
        topology_spread_constraints: filled(topology_spread_constraints),
        priority_class_name,
        service_account_name: Some(names::name(registry)),
        // The registry watches its policy.
        automount_service_account_token: Some(true),
        // Variables for every Service of the namespace would only be noise, and slow a start among many Services.
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(config_map::grace_period_seconds(registry)),
        security_context: Some(pod_security()),
        ..PodSpec::default()
    };
    // Ours come last: selectors and roll-outs depend on them.
    let mut labels = labels;
    labels.extend(names::labels(registry));
    let mut annotations = annotations;
    annotations.insert(names::CONFIG_HASH.to_owned(), config_map::hash(inputs));
    // A cloud gives a pod the role that its account names when the pod is made. It is asked for nothing without a bucket.
    if registry.spec.storage.s3.is_some() && !service_account_annotations.is_empty() {
        annotations.insert(names::SERVICE_ACCOUNT_HASH.to_owned(), hash(&service_account_annotations));
    }
    let metadata = ObjectMeta { labels: Some(labels), annotations: Some(annotations), ..ObjectMeta::default() };
    PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) }
}

fn hash(annotations: &BTreeMap<String, String>) -> String {
    let mut hasher = Sha256::new();
    for text in annotations.iter().flat_map(|(key, value)| [key, value]) {
        // With its length: where one ends and the next begins matters.
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text);
    }
    hex::encode(&hasher.finalize()[..8])
}

/// The container without what `spec.pod` sets.
fn container(registry: &Registry) -> Container {
    let config = format!("{CONFIG_DIRECTORY}/{CONFIG_FILE}");
    Container {
        name: "registry".to_owned(),
        command: Some(["landfast", "serve", "--config", &config].map(str::to_owned).to_vec()),
        ports: Some(vec![port("registry", REGISTRY_PORT), port("health", HEALTH_PORT)]),
        volume_mounts: Some(mounts(registry)),
        // One minute to start.
        startup_probe: Some(probe("/livez", 2, 30)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 5, 2)),
        // Why it could not start is the last that it has said, and belongs into the Registry's condition.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn pod_security() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        // Else each start walks through all images.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// Requests that let the scheduler count with the pod. No limits: those are for who knows the load.
fn default_resources() -> ResourceRequirements {
    let requests = [("cpu", "50m"), ("memory", "64Mi")];
    let requests = requests.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())));
    ResourceRequirements { requests: Some(BTreeMap::from(requests)), ..ResourceRequirements::default() }
}

fn volumes(registry: &Registry) -> Vec<Volume> {
    let config = ConfigMapVolumeSource { name: names::config_map(registry), ..ConfigMapVolumeSource::default() };
    let mut volumes: Vec<_> = data_volume(registry).into_iter().collect();
    volumes.push(Volume { name: "config".to_owned(), config_map: Some(config), ..Volume::default() });
    if let Some(name) = names::tls_secret(registry) {
        let secret = SecretVolumeSource {
            secret_name: Some(name),
            default_mode: Some(SECRET_MODE),
            ..SecretVolumeSource::default()
        };
        volumes.push(Volume { name: "tls".to_owned(), secret: Some(secret), ..Volume::default() });
    }
    volumes.extend(htpasswd(registry).map(htpasswd_volume));
    volumes.extend(s3_volumes(registry).into_iter().map(|(volume, _)| volume));
    volumes
}

fn htpasswd(registry: &Registry) -> Option<&HtpasswdSecret> {
    // What isn't used here is policy, or the operator's own business.
    let Authentication {
        htpasswd_secret_ref,
        service_accounts: _,
        oidc: _,
        client_certificates: _,
        token_ttl: _,
        failures: _,
        signing_key_rotation: _,
    } = &registry.spec.authentication;
    htpasswd_secret_ref.as_ref()
}

/// It may come later: robots and nodes need no users.
fn htpasswd_volume(reference: &HtpasswdSecret) -> Volume {
    let HtpasswdSecret { name, key } = reference.clone();
    let secret = SecretVolumeSource {
        secret_name: Some(name),
        items: Some(vec![KeyToPath { key, path: HTPASSWD_FILE.to_owned(), mode: None }]),
        default_mode: Some(SECRET_MODE),
        optional: Some(true),
    };
    Volume { name: "htpasswd".to_owned(), secret: Some(secret), ..Volume::default() }
}

fn s3_volumes(registry: &Registry) -> Vec<(Volume, &'static str)> {
    registry.spec.storage.s3.as_ref().map(|storage| s3::volumes(storage, SECRET_MODE)).unwrap_or_default()
}

/// `None` where images are in a bucket.
fn data_volume(registry: &Registry) -> Option<Volume> {
    let Storage { persistent_volume_claim: _, s3, empty_dir } = &registry.spec.storage;
    if s3.is_some() {
        return None;
    }
    let claim =
        claim_name(registry).map(|claim_name| PersistentVolumeClaimVolumeSource { claim_name, read_only: None });
    let empty_dir = match &claim {
        Some(_) => None,
        None => {
            let EmptyDirStorage { size_limit } = empty_dir.clone().unwrap_or_default();
            Some(EmptyDirVolumeSource { size_limit, medium: None })
        }
    };
    Some(Volume { name: "data".to_owned(), persistent_volume_claim: claim, empty_dir, ..Volume::default() })
}

fn mounts(registry: &Registry) -> Vec<VolumeMount> {
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    };
    let data = data_volume(registry).map(|volume| mount(&volume.name, DATA_DIRECTORY, None));
    let mut mounts: Vec<_> = data.into_iter().collect();
    mounts.push(mount("config", CONFIG_DIRECTORY, Some(true)));
    mounts.extend(names::tls_secret(registry).map(|_| mount("tls", TLS_DIRECTORY, Some(true))));
    mounts.extend(htpasswd(registry).map(|_| mount("htpasswd", HTPASSWD_DIRECTORY, Some(true))));
    mounts.extend(s3_volumes(registry).into_iter().map(|(volume, path)| mount(&volume.name, path, Some(true))));
    mounts
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2.max(period_seconds / 2)),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn filled<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
