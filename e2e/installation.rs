//! The two ways of installing: kustomize and Helm.

use std::collections::{BTreeMap, BTreeSet};
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

/// Where two objects differ, one line for each place.
fn differences(place: &str, helm: &Value, kustomize: &Value, found: &mut Vec<String>) {
    match (helm, kustomize) {
        (Value::Object(left), Value::Object(right)) => {
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            keys.iter().for_each(|key| differences(&format!("{place}.{key}"), &helm[*key], &kustomize[*key], found));
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let pairs = left.iter().zip(right).enumerate();
            pairs.for_each(|(index, (left, right))| differences(&format!("{place}[{index}]"), left, right, found));
        }
        // The one writes 1000000, the other 1000000.0.
        (Value::Number(left), Value::Number(right)) if left.as_f64() == right.as_f64() => {}
        _ if helm == kustomize => {}
        _ => found.push(format!("{place}: {helm} and {kustomize}")),
    }
}

#[test]
fn helm_and_kustomize_install_the_same_objects() {
    local_test(async || {
        let kustomize = objects(&operator::kustomized().await);
        let helm = objects(&helm(&["template"]).arg("--include-crds").run().await);
        assert_eq!(helm.keys().collect::<Vec<_>>(), kustomize.keys().collect::<Vec<_>>());
        let mut found = Vec::new();
        for (key, object) in &kustomize {
            differences(key, &helm[key], object, &mut found);
        }
        assert!(found.is_empty(), "helm and kustomize differ:\n{}", found.join("\n"));
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
