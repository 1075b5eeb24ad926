//! Objects of the cluster as plain JSON: what a person writes and reads.

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::{Cluster, Command, eventually};

/// Reads YAML.
pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// `object("Project team", "{registryRef: {name: main}}")`: one of our objects with its spec.
pub fn object(head: &str, spec: &str) -> Value {
    let (kind, name) = head.split_once(' ').unwrap_or_else(|| panic!("{head:?} is not of the form KIND NAME"));
    json!({"apiVersion": "landfast.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": yaml(spec)})
}

fn resource(kind: &str) -> ApiResource {
    let (group, version, plural) = match kind {
        "Registry" => ("landfast.dev", "v1alpha1", "registries"),
        "RepositoryPolicy" => ("landfast.dev", "v1alpha1", "repositorypolicies"),
        "Project" => ("landfast.dev", "v1alpha1", "projects"),
        "Member" => ("landfast.dev", "v1alpha1", "members"),
        "Namespace" => ("", "v1", "namespaces"),
        "Pod" => ("", "v1", "pods"),
        "Secret" => ("", "v1", "secrets"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "ServiceAccount" => ("", "v1", "serviceaccounts"),
        "Service" => ("", "v1", "services"),
        "PersistentVolumeClaim" => ("", "v1", "persistentvolumeclaims"),
        "Event" => ("", "v1", "events"),
        "Deployment" => ("apps", "v1", "deployments"),
        "HorizontalPodAutoscaler" => ("autoscaling", "v2", "horizontalpodautoscalers"),
        "PodDisruptionBudget" => ("policy", "v1", "poddisruptionbudgets"),
        "ValidatingWebhookConfiguration" => ("admissionregistration.k8s.io", "v1", "validatingwebhookconfigurations"),
        "ClusterRoleBinding" => ("rbac.authorization.k8s.io", "v1", "clusterrolebindings"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        other => panic!("the harness does not know the kind {other}"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

fn to_json(object: &DynamicObject) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

impl Cluster {
    /// `namespace` is empty for what lives in none.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        match namespace {
            "" => Api::all_with(self.client.clone(), &resource(kind)),
            _ => Api::namespaced_with(self.client.clone(), namespace, &resource(kind)),
        }
    }

    /// Creates an object.
    ///
    /// # Panics
    /// When the API server refuses it.
    pub async fn create(&self, namespace: &str, object: Value) -> Value {
        let text = object.to_string();
        self.try_create(namespace, object, false).await.unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Creates an object, or asks whether it could be. The error is what a person would read.
    pub async fn try_create(&self, namespace: &str, object: Value, dry_run: bool) -> Result<Value, String> {
        let api = self.api(object["kind"].as_str().unwrap_or_default(), namespace);
        let object: DynamicObject = serde_json::from_value(object).map_err(|error| error.to_string())?;
        let created = api.create(&PostParams { dry_run, field_manager: None }, &object).await;
        created.map(|object| to_json(&object)).map_err(|error| error.to_string())
    }

    /// Creates an object as somebody whom the admission webhook does not judge: as it may have come into the cluster before
    /// there was one, or while it was turned off.
    pub async fn create_unjudged(&self, namespace: &str, object: &Value) -> Result<String, String> {
        let create = ["create", "--validate=false", "--namespace", namespace, "--filename", "-"];
        let unjudged = ["--as=system:serviceaccount:kube-system:namespace-controller", "--as-group=system:masters"];
        Command::new("kubectl").args(create).args(unjudged).input(object.to_string()).result().await
    }

    /// Changes an object by a merge patch.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Value {
        let patched = self.try_patch(kind, namespace, name, patch, false).await;
        patched.unwrap_or_else(|error| panic!("{kind} {namespace}/{name}: {error}"))
    }

    /// Changes an object by a merge patch, or asks whether it could be.
    pub async fn try_patch(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: Value,
        dry_run: bool,
    ) -> Result<Value, String> {
        let parameters = PatchParams { dry_run, ..PatchParams::default() };
        let patched = self.api(kind, namespace).patch(name, &parameters, &Patch::Merge(patch)).await;
        patched.map(|object| to_json(&object)).map_err(|error| error.to_string())
    }

    /// The object, if it is there.
    pub async fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = self.api(kind, namespace).get_opt(name).await;
        found.unwrap_or_else(|error| panic!("{kind} {namespace}/{name}: {error}")).map(|object| to_json(&object))
    }

    /// The object.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Value {
        self.find(kind, namespace, name).await.unwrap_or_else(|| panic!("there is no {kind} {namespace}/{name}"))
    }

    /// All objects of a kind, those that carry the labels.
    pub async fn list(&self, kind: &str, namespace: &str, labels: &str) -> Vec<Value> {
        let parameters = kube::api::ListParams::default().labels(labels);
        let list = self.api(kind, namespace).list(&parameters).await;
        list.unwrap_or_else(|error| panic!("{kind} in {namespace}: {error}")).iter().map(to_json).collect()
    }

    /// Deletes an object and waits until it is gone.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.start_deletion(kind, namespace, name).await;
        self.gone(kind, namespace, name).await;
    }

    /// Asks for the deletion of an object. It may be gone already.
    pub async fn start_deletion(&self, kind: &str, namespace: &str, name: &str) {
        match self.api(kind, namespace).delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => panic!("{kind} {namespace}/{name}: {error}"),
            Ok(_) => {}
        }
    }

    /// Waits until the object is gone.
    pub async fn gone(&self, kind: &str, namespace: &str, name: &str) {
        eventually(&format!("{kind} {namespace}/{name} is gone"), async || {
            match self.find(kind, namespace, name).await {
                None => Ok(()),
                Some(object) => Err(format!("finalizers {}", object["metadata"]["finalizers"])),
            }
        })
        .await;
    }

    /// Waits until the object is there.
    pub async fn appears(&self, kind: &str, namespace: &str, name: &str) -> Value {
        eventually(&format!("{kind} {namespace}/{name} is there"), async || {
            self.find(kind, namespace, name).await.ok_or_else(|| "nothing".to_owned())
        })
        .await
    }

    /// Waits until a condition, seen with the newest spec, has this status. Gives the condition.
    pub async fn condition(&self, kind: &str, namespace: &str, name: &str, condition: &str, status: &str) -> Value {
        self.condition_where(kind, namespace, name, condition, &format!("is {status}"), |found| {
            found["status"] == status
        })
        .await
    }

    /// Waits until a condition has this reason.
    pub async fn reason(&self, kind: &str, namespace: &str, name: &str, condition: &str, reason: &str) -> Value {
        self.condition_where(kind, namespace, name, condition, &format!("has reason {reason}"), |found| {
            found["reason"] == reason
        })
        .await
    }

    async fn condition_where(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        condition: &str,
        expected: &str,
        test: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{condition} of {kind} {namespace}/{name} {expected}"), async || {
            let object = self.get(kind, namespace, name).await;
            let conditions = object["status"]["conditions"].as_array();
            let found = conditions.into_iter().flatten().find(|found| found["type"] == condition);
            let current = |found: &&Value| found["observedGeneration"] == object["metadata"]["generation"];
            match found.filter(current) {
                Some(found) if test(found) => Ok(found.clone()),
                _ => Err(object["status"]["conditions"].to_string()),
            }
        })
        .await
    }
}
