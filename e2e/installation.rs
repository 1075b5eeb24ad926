//! The two ways of installing: kustomize and Helm.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use serde_json::Value;

use crate::harness::{Cluster, Command, environment, local_test, operator, serial_test};
use crate::quickstart;

fn helm(command: &[&str]) -> Command {
    let (name, tag) = environment::image();
    Command::new("helm")
        .args(command.iter().copied())
        .arg("landfast")
        .arg(environment::repository().join("charts/landfast"))
        .args(["--namespace", operator::NAMESPACE])
        .args(["--set", &format!("image.repository={name}"), "--set-string", &format!("image.tag={tag}")])
}

/// The objects of a stream of YAML documents, by kind and name, without what tells only who installed them.
fn objects(documents: &str) -> BTreeMap<String, Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(documents).expect("it is YAML");
    let objects = documents.into_iter().filter(|object| object.is_object() && object["kind"] != "Namespace");
    let keyed = objects.map(|mut object| {
        strip(&mut object);
        (format!("{} {}", object["kind"], object["metadata"]["name"]), object)
    });
    keyed.collect()
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for labels in ["labels", "annotations"] {
                let Some(map) = fields.get_mut(labels).and_then(Value::as_object_mut) else { continue };
                map.retain(|key, _| !key.starts_with("helm.sh/") && !is_of_an_installation(key));
                if map.is_empty() {
                    fields.remove(labels);
                }
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

fn is_of_an_installation(label: &str) -> bool {
    ["managed-by", "instance", "version", "part-of"].iter().any(|name| label == format!("app.kubernetes.io/{name}"))
}

#[test]
fn helm_and_kustomize_install_the_same_objects() {
    local_test(async || {
        let kustomize = objects(&operator::kustomized().await);
        let helm = objects(&helm(&["template"]).arg("--include-crds").run().await);
        assert_eq!(helm.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
        for (key, object) in &kustomize {
            let pretty = |object: &Value| serde_json::to_string_pretty(object).expect("an object is JSON");
            assert!(helm[key] == *object, "{key}: helm\n{}\nkustomize\n{}", pretty(&helm[key]), pretty(object));
        }
    });
}

#[test]
#[ignore = "needs a node that trusts the registry and reaches it"]
fn the_main_path_is_the_same_after_helm_install() {
    serial_test(async |cluster: &Cluster| {
        operator::uninstall().await;
        let outcome = AssertUnwindSafe(async {
            helm(&["install"]).args(["--create-namespace", "--wait", "--timeout=2m"]).run().await;
            quickstart::main_path(cluster).await;
        })
        .catch_unwind()
        .await;
        if outcome.is_err() {
            // Before it is uninstalled: afterwards there is nothing to see.
            cluster.dump().await;
        }
        cluster.delete_namespaces().await;
        let arguments = ["uninstall", "landfast", "--namespace", operator::NAMESPACE, "--wait", "--ignore-not-found"];
        Command::new("helm").args(arguments).run().await;
        // Helm may keep the CRDs, as uninstalling an operator should not delete everybody's objects.
        let crds = ["delete", "customresourcedefinitions", "--ignore-not-found", "members.landfast.dev"];
        let more = ["projects.landfast.dev", "registries.landfast.dev", "repositorypolicies.landfast.dev"];
        Command::new("kubectl").args(crds).args(more).run().await;
        Command::new("kubectl").args(["delete", "namespace", operator::NAMESPACE, "--ignore-not-found"]).run().await;
        operator::install().await;
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}
