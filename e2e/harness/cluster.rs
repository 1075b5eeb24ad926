//! One test's part of the cluster: a client, temporary namespaces, and what happens to them at the end.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use kube::Client;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::RwLock;

use super::{dump, eventually, operator, within};

/// Tests share it, serial ones have it for themselves.
static TURN: RwLock<()> = RwLock::const_new(());

/// What a test works with.
pub struct Cluster {
    pub client: Client,
    /// For files: authentication, images.
    pub folder: TempDir,
    /// In the names of all that this test makes, also where a node remembers it: images.
    pub unique: String,
    /// Those to show, and whether each goes with the test.
    namespaces: RefCell<Vec<(String, bool)>>,
}

/// Runs a test next to others.
pub fn test(body: impl AsyncFnOnce(&Cluster)) {
    block_on(async {
        let _turn = TURN.read().await;
        Cluster::run(body).await;
    });
}

/// Runs a test that needs no cluster.
pub fn local_test(body: impl AsyncFnOnce()) {
    block_on(body());
}

/// Runs a test while no other runs.
pub fn serial_test(body: impl AsyncFnOnce(&Cluster)) {
    block_on(async {
        let _turn = TURN.write().await;
        Cluster::run(body).await;
    });
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(test);
    // A command that hangs must not keep the test from ending.
    runtime.shutdown_background();
}

impl Cluster {
    async fn run(body: impl AsyncFnOnce(&Cluster)) {
        // Already installed by another test: the same one.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let cluster = Cluster {
            client: Client::try_default().await.unwrap_or_else(|error| panic!("no cluster: {error}")),
            folder: TempDir::new().expect("a temporary folder"),
            unique: uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
            namespaces: RefCell::default(),
        };
        operator::installed().await;
        let outcome = AssertUnwindSafe(body(&cluster)).catch_unwind().await;
        if outcome.is_err() {
            cluster.dump().await;
        }
        // A namespace that does not go is a bug too: somebody's finalizer.
        let cleaned = AssertUnwindSafe(cluster.delete_namespaces()).catch_unwind().await;
        if cleaned.is_err() && outcome.is_ok() {
            cluster.dump().await;
        }
        if let Err(panic) = outcome.and(cleaned) {
            std::panic::resume_unwind(panic);
        }
    }

    /// Makes a namespace that lives as long as the test. `purpose` becomes a part of its name.
    pub async fn namespace(&self, purpose: &str) -> String {
        self.labelled_namespace(purpose, json!({})).await
    }

    /// Makes a namespace with labels.
    pub async fn labelled_namespace(&self, purpose: &str, labels: serde_json::Value) -> String {
        let name = format!("e2e-{}-{purpose}", self.unique);
        self.adopt(&name, true);
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
        self.create("", namespace).await;
        // Kubernetes puts these in a little later, and pods need the first.
        eventually(&format!("namespace {name} is furnished"), async || {
            self.find("ServiceAccount", &name, "default").await.ok_or("no ServiceAccount")?;
            self.find("ConfigMap", &name, "kube-root-ca.crt").await.ok_or("no ConfigMap")?;
            Ok(())
        })
        .await;
        name
    }

    /// Takes a namespace for one of this test's. It goes with the test if it is `temporary`.
    pub fn adopt(&self, namespace: &str, temporary: bool) {
        self.namespaces.borrow_mut().push((namespace.to_owned(), temporary));
    }

    /// The namespaces of this test.
    pub fn namespaces(&self) -> Vec<String> {
        self.namespaces.borrow().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Prints the state of this test's namespaces and of the operator.
    pub async fn dump(&self) {
        dump::print(&self.namespaces()).await;
    }

    /// Deletes the temporary namespaces, and waits until they are gone.
    pub async fn delete_namespaces(&self) {
        let namespaces = self.namespaces.borrow().clone();
        let temporary: Vec<_> = namespaces.iter().filter(|(_, temporary)| *temporary).map(|(name, _)| name).collect();
        for name in &temporary {
            self.start_deletion("Namespace", "", name).await;
        }
        for name in &temporary {
            within(super::PATIENCE, &format!("namespace {name} is gone"), async || {
                match self.find("Namespace", "", name).await {
                    None => Ok(()),
                    Some(namespace) => {
                        let conditions = namespace["status"]["conditions"].as_array();
                        let holding = conditions.into_iter().flatten().filter(|found| found["status"] == "True");
                        Err(holding.map(|found| found["message"].to_string()).collect())
                    }
                }
            })
            .await;
        }
    }
}
