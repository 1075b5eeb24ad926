//! The operator in the cluster: installed once for all tests, as a person would.

use std::path::{Path, PathBuf};

use tokio::sync::OnceCell;

use super::{Cluster, Command, environment, eventually};

/// Where it lives.
pub const NAMESPACE: &str = "landfast-system";

/// The labels of its pods.
const PODS: &str = "app.kubernetes.io/name=landfast,app.kubernetes.io/component=operator";

static INSTALLED: OnceCell<()> = OnceCell::const_new();

/// Installs it, once for the whole run.
pub async fn installed() {
    INSTALLED.get_or_init(install).await;
}

/// `kubectl apply -k`, with the image under test.
pub async fn install() {
    let overlay = Overlay::new();
    Command::new("kubectl").args(["apply", "-k"]).arg(&overlay.folder).run().await;
    rolled_out().await;
}

/// `kubectl delete -k`, with the CRDs and so with every object of ours.
pub async fn uninstall() {
    let overlay = Overlay::new();
    Command::new("kubectl").args(["delete", "--ignore-not-found", "-k"]).arg(&overlay.folder).run().await;
}

/// Waits until the operator's Deployment is as it should be, and answers the API server.
pub async fn rolled_out() {
    let arguments = ["--namespace", NAMESPACE, "rollout", "status", "deployment/landfast-operator", "--timeout=120s"];
    let result = Command::new("kubectl").args(arguments).result().await;
    if let Err(error) = result {
        super::dump::print(&[]).await;
        panic!("{error}");
    }
    answers().await;
}

/// Waits until the API server gets an answer from the admission webhook, whatever it is. One that says to try again is none:
/// it is that of an operator that has just started, or of one whose pod is deleted while it still runs.
pub async fn answers() {
    let probe = super::object("Project e2e-probe", "{registryRef: {name: nowhere}}").to_string();
    super::eventually("the admission webhook answers", async || {
        let create = ["create", "--dry-run=server", "--namespace", "default", "--filename", "-"];
        match Command::new("kubectl").args(create).input(probe.clone()).result().await {
            Ok(_) => Ok(()),
            Err(error) if error.contains("denied the request") && !error.contains("try again") => Ok(()),
            Err(error) => Err(error),
        }
    })
    .await;
}

/// Runs so many replicas, and waits until they do.
pub async fn scale(replicas: usize) {
    let replicas_argument = format!("--replicas={replicas}");
    let arguments = ["scale", "deployment/landfast-operator", "--namespace", NAMESPACE, &replicas_argument];
    Command::new("kubectl").args(arguments).run().await;
    if replicas > 0 {
        rolled_out().await;
    }
}

/// Everything that `kubectl apply -k` applies, as YAML.
pub async fn kustomized() -> String {
    let overlay = Overlay::new();
    Command::new("kubectl").arg("kustomize").arg(&overlay.folder).run().await
}

/// Kills the operator's pod without a chance to say good-bye, and waits for the next one to work.
pub async fn kill(cluster: &Cluster) {
    let (before, holder) = (pods(cluster).await, lease_holder().await);
    cluster.kill_pods(NAMESPACE, PODS).await;
    eventually("another operator pod is there", async || {
        let now = pods(cluster).await;
        if now.iter().any(|pod| !before.contains(pod)) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    rolled_out().await;
    // Ready says that it serves. It works once it holds the Lease, which the dead one could not give back.
    eventually("the new operator holds the Lease", async || {
        let now = lease_holder().await;
        if now != holder && !now.is_empty() { Ok(()) } else { Err(now) }
    })
    .await;
    // The API server has a connection to the dead one, and finds that out by a request.
    answers().await;
}

/// The pod that holds the Lease.
pub async fn lease_holder() -> String {
    let arguments = ["get", "leases", "--namespace", NAMESPACE, "--output=jsonpath={.items[*].spec.holderIdentity}"];
    Command::new("kubectl").args(arguments).run().await
}

/// Its pods, to compare before and after.
pub async fn pods(cluster: &Cluster) -> Vec<super::pods::Pod> {
    cluster.pods(NAMESPACE, PODS).await
}

/// A kustomization outside of the clone that sets the image.
struct Overlay {
    folder: PathBuf,
    _temporary: tempfile::TempDir,
}

impl Overlay {
    fn new() -> Self {
        let temporary = tempfile::TempDir::new().expect("a temporary folder");
        let folder = temporary.path().canonicalize().expect("the folder is there");
        let config = relative(&folder, &environment::repository().join("config"));
        let (name, tag) = environment::image();
        let text = format!(
            "apiVersion: kustomize.config.k8s.io/v1beta1\n\
             kind: Kustomization\n\
             resources: [{config}/default]\n\
             images: [{{name: ghcr.io/landfast/landfast, newName: {name}, newTag: {tag:?}}}]\n\
             transformers: [{config}/registry-image]\n"
        );
        std::fs::write(folder.join("kustomization.yaml"), text).expect("the folder can be written");
        Self { folder, _temporary: temporary }
    }
}

/// Kustomize takes no absolute paths.
fn relative(from: &Path, to: &Path) -> String {
    let to = to.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", to.display()));
    let up = "../".repeat(from.components().count() - 1);
    format!("{up}{}", to.strip_prefix("/").unwrap_or(&to).display())
}
