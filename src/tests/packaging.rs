//! What is shipped around the binary: manifests, chart, samples, README. Copies are true, samples are valid, and the
//! chart installs what kustomize does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use landfast::api::v1alpha1::{Member, Project, Registry, RepositoryPolicy, custom_resource_definitions};
use landfast::policy::{Inputs, compile};
use rstest::rstest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const IMAGE: &str = "ghcr.io/landfast/landfast";

fn path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn read(relative: &str) -> String {
    std::fs::read_to_string(path(relative)).unwrap_or_else(|error| panic!("{relative}: {error}"))
}

fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn document(relative: &str) -> Value {
    let mut documents = documents(&read(relative));
    assert_eq!(documents.len(), 1, "{relative} holds one document");
    documents.remove(0)
}

/// Contents of the YAML files of a folder that the filter lets through, by name.
fn files(folder: &str, filter: impl Fn(&str) -> bool) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(path(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| filter(name))
        .map(|name| (name.clone(), read(&format!("{folder}/{name}"))))
        .collect()
}

fn resources(kustomization: &str) -> BTreeSet<String> {
    let kustomization = document(&format!("{kustomization}/kustomization.yaml"));
    kustomization["resources"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

// ---- copies

#[rstest]
#[case::crds("crds", "charts/landfast/files/crds", |name: &str| name.ends_with(".landfast.dev.yaml"))]
#[case::roles("config/rbac", "charts/landfast/files/rbac", |name: &str| name.ends_with("-role.yaml"))]
fn chart_holds_true_copies(#[case] source: &str, #[case] copy: &str, #[case] filter: fn(&str) -> bool) {
    assert!(files(source, filter) == files(copy, |_| true), "{copy} is stale: run `make manifests`");
}

#[test]
fn kustomization_lists_every_crd() {
    let expected = custom_resource_definitions().into_iter().map(|crd| format!("{}.yaml", crd.metadata.name.unwrap()));
    assert_eq!(resources("crds"), expected.collect());
}

/// The operator binds ClusterRoles by their names, and may bind no others.
#[test]
fn registries_are_bound_to_the_roles_that_are_shipped() {
    let shipped = files("config/rbac", |name| name.starts_with("registry-"));
    let name = |file: &String| {
        let role = document(&format!("config/rbac/{file}"));
        assert_eq!(role["kind"], "ClusterRole", "{file}");
        role["metadata"]["name"].as_str().unwrap().to_owned()
    };
    let bound = landfast::controller::registry::build::names::CLUSTER_ROLES.map(str::to_owned);
    assert_eq!(shipped.keys().map(name).collect::<BTreeSet<_>>(), BTreeSet::from(bound.clone()));
    let operator = document("config/rbac/operator-role.yaml");
    let mut rules = operator["rules"].as_array().unwrap().iter();
    let rule = rules.find(|rule| rule["verbs"] == serde_json::json!(["bind"])).unwrap();
    assert_eq!(rule["resourceNames"], serde_json::json!(bound));
}

#[test]
fn kustomization_lists_every_role() {
    let expected = files("config/rbac", |name| name != "kustomization.yaml");
    assert_eq!(resources("config/rbac"), expected.into_keys().collect());
}

#[test]
fn one_version_and_one_image_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let (chart, values) = (document("charts/landfast/Chart.yaml"), document("charts/landfast/values.yaml"));
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    assert_eq!(values["image"]["repository"], IMAGE);
    let deployment = document("config/operator/deployment.yaml");
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap();
    let registry_image = environment.iter().find(|variable| variable["name"] == "LANDFAST_REGISTRY_IMAGE").unwrap();
    let image = Value::from(format!("{IMAGE}:{version}"));
    assert_eq!((&container["image"], &registry_image["value"]), (&image, &image));
}

/// The schema refuses what it doesn't know, so each value must be in it; and what it knows has to be a value.
#[test]
fn chart_schema_knows_every_value() {
    fn compare(path: &str, values: &Value, schema: &Value) {
        let Some(properties) = schema["properties"].as_object() else { return };
        let known = properties.keys().filter(|name| *name != "global").collect::<BTreeSet<_>>();
        assert_eq!(values.as_object().unwrap().keys().collect::<BTreeSet<_>>(), known, "values and schema{path}");
        for name in known {
            compare(&format!("{path}.{name}"), &values[name], &properties[name]);
        }
    }
    let schema: Value = serde_json::from_str(&read("charts/landfast/values.schema.json")).unwrap();
    compare("", &document("charts/landfast/values.yaml"), &schema);
}

// ---- samples

/// The objects of a sample, by kind.
#[derive(Default)]
struct Sample {
    registries: Vec<Arc<Registry>>,
    projects: Vec<Arc<Project>>,
    policies: Vec<Arc<RepositoryPolicy>>,
    members: Vec<Arc<Member>>,
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Names of their entries, by their own names.
    service_accounts: BTreeSet<String>,
    secrets: BTreeMap<String, BTreeSet<String>>,
}

impl Sample {
    fn parse(yaml: &str) -> Self {
        let mut sample = Self::default();
        for object in documents(yaml) {
            match object["kind"].as_str().unwrap() {
                "Registry" => sample.registries.push(typed(object, |it: &Registry| cel(it.validate_cel()))),
                "Project" => sample.projects.push(typed(object, |it: &Project| cel(it.validate_cel()))),
                "Member" => sample.members.push(typed(object, |it: &Member| cel(it.validate_cel()))),
                "RepositoryPolicy" => {
                    sample.policies.push(typed(object, |it: &RepositoryPolicy| cel(it.validate_cel())));
                }
                "Namespace" => {
                    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
                    let labels = serde_json::from_value(object["metadata"]["labels"].clone()).unwrap();
                    sample.namespaces.insert(name, labels);
                }
                "Secret" => {
                    let secret: Secret = serde_json::from_value(object.clone()).unwrap();
                    let keys = secret.string_data.unwrap_or_default().into_keys().collect();
                    sample.secrets.insert(secret.metadata.name.unwrap(), keys);
                }
                "ServiceAccount" => {
                    sample.service_accounts.insert(object["metadata"]["name"].as_str().unwrap().to_owned());
                }
                other => panic!("a sample holds a {other}"),
            }
        }
        sample
    }
}

fn cel<E: std::fmt::Display>(result: Result<(), E>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

/// Reads an object as strictly as `kubectl apply` does: a field that the type doesn't have is an error.
fn typed<K: Serialize + DeserializeOwned>(object: Value, validate: impl Fn(&K) -> String) -> Arc<K> {
    fn unknown(path: &str, given: &Value, known: &Value, found: &mut Vec<String>) {
        match (given, known) {
            (Value::Object(given), Value::Object(known)) => {
                for (name, value) in given {
                    let path = format!("{path}.{name}");
                    match known.get(name) {
                        Some(known) => unknown(&path, value, known, found),
                        None => found.push(path),
                    }
                }
            }
            (Value::Array(given), Value::Array(known)) => {
                given.iter().zip(known).for_each(|(given, known)| unknown(path, given, known, found));
            }
            _ => {}
        }
    }
    let value: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"));
    let mut found = Vec::new();
    unknown("", &object, &serde_json::to_value(&value).unwrap(), &mut found);
    assert_eq!(found, Vec::<String>::new(), "unknown fields in {object}");
    assert_eq!(validate(&value), "", "{object}");
    Arc::new(value)
}

#[rstest]
#[case::access(read("config/samples/access.yaml"))]
#[case::quickstart(read("config/samples/quickstart.yaml"))]
#[case::s3(read("config/samples/s3.yaml"))]
#[case::standalone(files("config/samples/standalone", |_| true).into_values().collect::<Vec<_>>().join("\n---\n"))]
fn samples_are_valid_and_accepted(#[case] yaml: String) {
    let sample = Sample::parse(&yaml);
    assert_eq!(sample.registries.len(), 1);
    let (objects, policies) = (sample.members.len(), sample.policies.len());
    let (snapshot, problems) = compile(&Inputs {
        registry: sample.registries[0].clone(),
        projects: sample.projects.clone(),
        policies: sample.policies,
        members: sample.members,
        namespaces: Some(sample.namespaces),
    });
    assert_eq!(problems, Vec::new());
    assert_eq!(snapshot.projects.len(), sample.projects.len(), "Projects of the Registry");
    assert_eq!(snapshot.projects.values().map(|project| project.policies.len()).sum::<usize>(), policies);
    assert!(objects > 0, "a sample without a Member shows no credentials");
    let named = snapshot.users.keys().filter_map(|user| Some(user.as_service_account()?.1.to_owned()));
    assert_eq!(named.collect::<BTreeSet<_>>(), sample.service_accounts, "ServiceAccounts of the sample");
}

/// What the Registry of a sample takes from a Secret is in the sample too.
#[test]
fn the_sample_on_a_bucket_brings_its_access_key() {
    let sample = Sample::parse(&read("config/samples/s3.yaml"));
    let registry = &sample.registries[0].spec;
    assert_eq!(registry.replicas, 3);
    let reference = registry.storage.s3.as_ref().unwrap().credentials_secret_ref.as_ref().unwrap();
    let expected = [&reference.keys.access_key_id, &reference.keys.secret_access_key].map(Clone::clone);
    assert_eq!(sample.secrets[&reference.name], BTreeSet::from(expected));
}

/// Each sample is one of those that are tested above.
#[test]
fn no_sample_is_left_out() {
    let names: BTreeSet<_> = files("config/samples", |name| name.ends_with(".yaml")).into_keys().collect();
    assert_eq!(names, BTreeSet::from(["access.yaml", "quickstart.yaml", "s3.yaml"].map(str::to_owned)));
}

// ---- README and Makefile

/// The fenced blocks of the README that are marked as this language.
fn readme_blocks(language: &str) -> Vec<String> {
    let readme = read("README.md");
    let blocks = readme.split("\n```").skip(1).step_by(2);
    blocks.filter_map(|block| Some(block.strip_prefix(language)?.strip_prefix('\n')?.to_owned())).collect()
}

#[test]
fn readme_examples_are_valid() {
    let blocks = readme_blocks("yaml");
    assert!(!blocks.is_empty());
    for block in blocks {
        Sample::parse(&block);
    }
}

/// Targets of the Makefile, and whether `make help` has a line on them.
fn make_targets() -> BTreeMap<String, bool> {
    let makefile = read("Makefile");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).unwrap();
    let documented =
        |name: &str| makefile.lines().any(|line| line.starts_with(&format!("{name}:")) && line.contains(" ## "));
    phony.split_whitespace().map(|name| (name.to_owned(), documented(name))).collect()
}

#[test]
fn make_help_is_complete() {
    let silent: Vec<_> = make_targets().into_iter().filter(|(_, documented)| !documented).collect();
    assert_eq!(silent, []);
}

#[test]
fn readme_names_what_exists() {
    let (readme, targets) = (read("README.md"), make_targets());
    // Words of code: what stands between backticks, and the lines of the shell blocks.
    let spans = readme.split('`').skip(1).step_by(2).map(str::to_owned);
    let code: Vec<String> = spans.chain(readme_blocks("sh")).collect();
    let mut seen = 0;
    for line in code.iter().flat_map(|code| code.lines()) {
        if let Some(target) = line.trim().strip_prefix("make ") {
            seen += 1;
            let target = target.split_whitespace().next().unwrap();
            assert!(targets.contains_key(target), "the README names `make {target}`");
        }
        for word in line.split_whitespace().filter(|word| word.starts_with("config/") || word.starts_with("charts/")) {
            assert!(path(word).exists(), "the README names {word}");
        }
    }
    assert!(seen > 0, "the README names no make target");
}

// ---- what the tools render

fn render(program: &str, arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(program).args(arguments).current_dir(path(".")).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: run `make lint`, which brings it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    documents(&String::from_utf8(output.stdout).unwrap())
}

/// The objects by kind and name, without what may differ: who installed them.
fn normalised(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let selector_labels = ["app.kubernetes.io/name", "app.kubernetes.io/component"];
    let normalise = |mut object: Value| {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for kind in ["labels", "annotations"] {
            let Some(entries) = metadata.get_mut(kind).and_then(Value::as_object_mut) else { continue };
            entries.retain(|name, _| !name.contains("helm.sh/") && !name.starts_with("app.kubernetes.io/"));
            if entries.is_empty() {
                metadata.remove(kind);
            }
        }
        if let Some(labels) = object.pointer_mut("/spec/template/metadata/labels").and_then(Value::as_object_mut) {
            labels.retain(|name, _| selector_labels.contains(&name.as_str()));
        }
        floats(&mut object);
        (format!("{} {}", object["kind"], object["metadata"]["name"]), object)
    };
    // `helm install --create-namespace` makes the namespace.
    objects.into_iter().filter(|object| object["kind"] != "Namespace").map(normalise).collect()
}

/// One tool writes 1000000 where the other writes 1000000.0.
fn floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = Value::from(number.as_f64().unwrap()),
        Value::Array(values) => values.iter_mut().for_each(floats),
        Value::Object(values) => values.values_mut().for_each(floats),
        _ => {}
    }
}

fn kustomize(folder: &str) -> Vec<Value> {
    render("kubectl", &["kustomize", folder])
}

fn helm(arguments: &[&str]) -> Vec<Value> {
    render("helm", &[&["template", "landfast", "charts/landfast", "-n", "landfast-system"], arguments].concat())
}

/// The image of the operator, and the one that it gives the registries' pods.
fn images(objects: &[Value]) -> (String, String) {
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let container = &deployment["spec"]["template"]["spec"]["containers"][0];
    let variables = container["env"].as_array().unwrap();
    let variable = variables.iter().find(|variable| variable["name"] == "LANDFAST_REGISTRY_IMAGE").unwrap();
    (container["image"].as_str().unwrap().to_owned(), variable["value"].as_str().unwrap().to_owned())
}

#[test]
#[ignore = "needs kubectl and helm: `make lint` runs it"]
fn chart_installs_what_kustomize_does() {
    let (kustomize, helm) = (normalised(kustomize("config/default")), normalised(helm(&[])));
    assert_eq!(kustomize.keys().collect::<Vec<_>>(), helm.keys().collect::<Vec<_>>());
    for (name, object) in kustomize {
        assert_eq!(object, helm[&name], "{name}: kustomize's object on the left, Helm's on the right");
    }
}

#[test]
#[ignore = "needs kubectl: `make lint` runs it"]
fn registry_image_follows_the_operators_in_an_overlay() {
    let overlay = tempfile::tempdir().unwrap();
    // Kustomize takes relative paths only.
    let up = "../".repeat(overlay.path().canonicalize().unwrap().components().count() - 1);
    let config = path("config").canonicalize().unwrap();
    let config = format!("{up}{}", config.strip_prefix("/").unwrap().display());
    let kustomization = format!(
        "resources: [{config}/default]\nimages: [{{name: {IMAGE}, newName: example.com/other, newTag: t}}]\n\
         transformers: [{config}/registry-image]\n"
    );
    std::fs::write(overlay.path().join("kustomization.yaml"), kustomization).unwrap();
    let expected = "example.com/other:t".to_owned();
    assert_eq!(images(&kustomize(overlay.path().to_str().unwrap())), (expected.clone(), expected));
}

#[rstest]
#[case::follows(&["--set", "image.repository=example.com/other,image.tag=t"], "example.com/other:t")]
#[case::chosen(&["--set", "image.repository=example.com/other,image.tag=t,registryImage=r:1"], "r:1")]
#[ignore = "needs helm: `make lint` runs it"]
fn registry_image_of_the_chart(#[case] arguments: &[&str], #[case] registry_image: &str) {
    assert_eq!(images(&helm(arguments)), ("example.com/other:t".to_owned(), registry_image.to_owned()));
}

/// Each switch of the chart, away from its default: what it adds or removes, and that all of it renders.
#[rstest]
#[case::no_crds("crds.install=false", "CustomResourceDefinition", 0)]
#[case::no_roles("rbac.create=false", "Role", 0)]
#[case::no_user_roles("rbac.aggregateToUserRoles=false", "ClusterRole", 4)]
#[case::no_service_account("serviceAccount.create=false", "ServiceAccount", 0)]
#[case::no_disruption_budget("replicas=1", "PodDisruptionBudget", 0)]
#[case::disruption_budget("replicas=2", "PodDisruptionBudget", 1)]
#[case::no_webhook("webhook.enabled=false", "ValidatingWebhookConfiguration", 0)]
#[case::no_webhook_service("webhook.enabled=false", "Service", 1)]
#[case::editors_without_a_webhook("webhook.enabled=false", "ClusterRole", 6)]
#[case::editors_with_a_webhook_that_may_be_passed_by("webhook.failurePolicy=Ignore", "ClusterRole", 6)]
#[case::cert_manager("webhook.certManager.enabled=true,webhook.certManager.issuerRef.name=ca", "Certificate", 1)]
#[case::service_monitor("serviceMonitor.enabled=true,serviceMonitor.labels.a=b", "ServiceMonitor", 1)]
#[case::pod("podLabels.a=b,podAnnotations.a=b,nodeSelector.a=b,priorityClassName=p", "Deployment", 1)]
#[case::lists("imagePullSecrets[0].name=a,tolerations[0].operator=Exists", "Deployment", 1)]
#[ignore = "needs helm: `make lint` runs it"]
fn chart_switches(#[case] set: &str, #[case] kind: &str, #[case] expected: usize) {
    let objects = helm(&["--set", set]);
    assert_eq!(objects.iter().filter(|object| object["kind"] == kind).count(), expected);
}

/// What the operator looks for by name is what is installed.
#[test]
fn the_webhook_is_installed_as_the_operator_knows_it() {
    use landfast::controller::admission::{CONFIGURATION, SECRET, SERVICE};
    let configuration = document("config/webhook/configuration.yaml");
    let service = document("config/webhook/service.yaml");
    assert_eq!(configuration["metadata"]["name"], CONFIGURATION);
    assert_eq!(configuration["webhooks"][0]["clientConfig"]["service"]["name"], SERVICE);
    assert_eq!(service["metadata"]["name"], SERVICE);
    let (cluster, own) = (document("config/rbac/operator-role.yaml"), document("config/rbac/operator-lease-role.yaml"));
    let named = |role: &Value, name: &str| {
        role["rules"].as_array().unwrap().iter().any(|rule| rule["resourceNames"] == serde_json::json!([name]))
    };
    assert!(named(&cluster, CONFIGURATION) && named(&own, SECRET));
}

/// Where the operator's account has another name or namespace, it still need not wait for itself.
#[test]
#[ignore = "needs helm: `make lint` runs it"]
fn the_webhook_of_the_chart_never_judges_its_own_operator() {
    let objects = helm(&["-n", "elsewhere", "--set", "serviceAccount.name=lf"]);
    let configuration = objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let condition = &configuration["webhooks"][0]["matchConditions"][0]["expression"];
    assert_eq!(condition, "request.userInfo.username != \"system:serviceaccount:elsewhere:lf\"");
}

/// With cert-manager the operator is told not to make a certificate, and where the other one lies.
#[test]
#[ignore = "needs helm: `make lint` runs it"]
fn cert_manager_certifies_what_the_operator_serves() {
    let set = "webhook.certManager.enabled=true,webhook.certManager.issuerRef.name=ca";
    let objects = helm(&["--set", set]);
    let certificate = objects.iter().find(|object| object["kind"] == "Certificate").unwrap();
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let secret = variables.iter().find(|variable| variable["name"] == "LANDFAST_WEBHOOK_CERTIFICATE_SECRET").unwrap();
    assert_eq!(secret["value"], certificate["spec"]["secretName"]);
    let configuration = objects.iter().find(|object| object["kind"] == "ValidatingWebhookConfiguration").unwrap();
    let from = &configuration["metadata"]["annotations"]["cert-manager.io/inject-ca-from"];
    assert_eq!(from, "landfast-system/landfast-webhook");
    let without_issuer = ["template", "landfast", "charts/landfast", "--set", "webhook.certManager.enabled=true"];
    let refused = Command::new("helm").args(without_issuer).current_dir(path(".")).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("issuerRef"), "{refused:?}");
}

#[test]
#[ignore = "needs helm: `make lint` runs it"]
fn crds_of_the_chart_outlive_it_by_default() {
    let kept = |arguments: &[&str]| {
        let objects = helm(arguments);
        let crds = objects.iter().filter(|object| object["kind"] == "CustomResourceDefinition");
        crds.filter(|crd| crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep").count()
    };
    assert_eq!((kept(&[]), kept(&["--set", "crds.keep=false"])), (4, 0));
}

#[test]
#[ignore = "needs helm: `make lint` runs it"]
fn chart_passes_helms_own_lint() {
    let lint = Command::new("helm").args(["lint", "--strict", "charts/landfast"]).current_dir(path(".")).output();
    let lint = lint.unwrap();
    assert!(lint.status.success(), "{}", String::from_utf8_lossy(&lint.stdout));
}
