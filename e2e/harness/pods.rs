//! Pods and Deployments: who runs, killed, and images that pods pull.

use serde_json::{Value, json};

use super::{Cluster, Command, eventually};

/// One run of a pod: a restart of it or of one of its containers makes another value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    pub name: String,
    pub uid: String,
    pub restarts: i64,
}

impl Cluster {
    /// The pods with these labels, those aside that are going.
    pub async fn pods(&self, namespace: &str, labels: &str) -> Vec<Pod> {
        let pods = self.list("Pod", namespace, labels).await;
        let staying = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        let mut pods: Vec<Pod> = staying
            .map(|pod| Pod {
                name: pod["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                uid: pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
                restarts: statuses(pod).filter_map(|status| status["restartCount"].as_i64()).sum(),
            })
            .collect();
        pods.sort();
        pods
    }

    /// Kills pods: SIGKILL, and no farewell to the API server.
    pub async fn kill_pods(&self, namespace: &str, labels: &str) {
        let arguments = ["delete", "pods", "--namespace", namespace, "--selector", labels];
        Command::new("kubectl").args(arguments).args(["--grace-period=0", "--force", "--wait=false"]).run().await;
    }

    /// Starts a Deployment whose manifest names an image and nothing that it could be pulled with.
    pub async fn deploy(&self, namespace: &str, name: &str, image: &str, service_account: &str) {
        let labels = json!({"app": name});
        self.create(
            namespace,
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name},
                "spec": {
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "serviceAccountName": service_account,
                            "terminationGracePeriodSeconds": 1,
                            "containers": [{"name": "app", "image": image}],
                        },
                    },
                },
            }),
        )
        .await;
    }

    /// Waits until the Deployment is Available.
    pub async fn available(&self, namespace: &str, name: &str) {
        eventually(&format!("Deployment {namespace}/{name} is Available"), async || {
            let deployment = self.get("Deployment", namespace, name).await;
            let conditions = deployment["status"]["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            if conditions.any(|found| found["type"] == "Available" && found["status"] == "True") {
                return Ok(());
            }
            let pods = self.list("Pod", namespace, &format!("app={name}")).await;
            Err(pods.iter().flat_map(statuses).map(|status| status["state"].to_string()).collect())
        })
        .await;
    }

    /// Waits until a pod of the Deployment is in ImagePullBackOff. Gives the kubelet's last word on the pull.
    pub async fn image_pull_back_off(&self, namespace: &str, name: &str) -> String {
        eventually(&format!("Deployment {namespace}/{name} is in ImagePullBackOff"), async || {
            let pods = self.list("Pod", namespace, &format!("app={name}")).await;
            let states: Vec<Value> = pods.iter().flat_map(statuses).map(|status| status["state"].clone()).collect();
            if !states.iter().any(|state| state["waiting"]["reason"] == "ImagePullBackOff") {
                return Err(format!("{states:?}"));
            }
            let events = self.list("Event", namespace, "").await;
            let of_the_pull = |event: &&Value| {
                let text = event["message"].as_str().unwrap_or_default();
                event["reason"] == "Failed" && text.contains("ailed to pull")
            };
            let message = events.iter().find(of_the_pull).and_then(|event| event["message"].as_str());
            message.map(str::to_owned).ok_or_else(|| "no event of the pull yet".to_owned())
        })
        .await
    }
}

fn statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["status"]["containerStatuses"].as_array().into_iter().flatten()
}
