//! The objects that an answer is made from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use landfast::api::v1alpha1::Registry;
use landfast::policy::{Problem, Snapshot, compile};
use landfast::registry::snapshots::{Objects, file, list};

use super::Where;

/// Which cluster, and which namespace is meant where none is named: flags that kubectl has too.
#[derive(clap::Args)]
pub struct Cluster {
    /// Namespace of manifests that name none, and of a --registry without one. By default the kubeconfig context's where a
    /// cluster is asked, else "default"
    #[arg(long, short, value_name = "NAMESPACE", global = true)]
    namespace: Option<String>,
    /// Context of the kubeconfig, instead of its current one
    #[arg(long, value_name = "NAME", global = true)]
    context: Option<String>,
    /// The kubeconfig, instead of those that KUBECONFIG names, ~/.kube/config or the cluster that this runs in
    #[arg(long, value_name = "FILE", global = true)]
    kubeconfig: Option<PathBuf>,
}

impl Cluster {
    /// How to reach it.
    pub async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let kubeconfig = Kubeconfig::read_from(path)?;
                Ok(Config::from_custom_kubeconfig(kubeconfig, &options).await?)
            }
            (None, Some(_)) => Ok(Config::from_kubeconfig(&options).await?),
            (None, None) => crate::cli::kube_config().await,
        }
    }

    /// The namespace where none is named and this cluster is asked.
    pub fn namespace_in<'a>(&'a self, config: &'a Config) -> &'a str {
        self.namespace.as_deref().unwrap_or(&config.default_namespace)
    }

    /// The same where only folders are read.
    pub fn namespace_in_folders(&self) -> &str {
        self.namespace.as_deref().unwrap_or(file::DEFAULT_NAMESPACE)
    }
}

/// The policy of the Registry that is meant.
pub struct Source {
    pub registry: Arc<Registry>,
    pub snapshot: Snapshot,
    pub now: Timestamp,
}

impl Source {
    /// What is wrong with objects goes to stderr: such objects count for nothing.
    pub async fn open(place: &Where, cluster: &Cluster) -> anyhow::Result<Self> {
        let (objects, namespace) = match &place.manifests {
            Some(folder) => {
                let namespace = cluster.namespace_in_folders();
                (folder_objects(folder, namespace)?, namespace.to_owned())
            }
            None => {
                let config = cluster.config().await.context("no folder is given with --manifests")?;
                let namespace = cluster.namespace_in(&config).to_owned();
                (cluster_objects(config).await?, namespace)
            }
        };
        note_what_is_unknown(&objects);
        let name = place.registry.as_deref().map(|name| full_name(name, &namespace));
        let registry = Arc::clone(objects.choose(name.as_deref())?);
        let (snapshot, problems) = compile(&objects.inputs(&registry));
        for problem in &problems {
            eprintln!("warning: {}", problem_text(problem));
        }
        Ok(Self { registry, snapshot, now: Timestamp::now() })
    }
}

/// `NAMESPACE/NAME` of a Registry that is named with or without its namespace.
pub fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("{namespace}/{name}") }
}

pub fn folder_objects(folder: &Path, namespace: &str) -> anyhow::Result<Objects> {
    let objects = file::read_all(folder, namespace)?;
    for (project, registry) in objects.strays() {
        eprintln!("warning: Project {project} is passed over: its Registry {registry} is not in {}", folder.display());
    }
    Ok(objects)
}

pub async fn cluster_objects(config: Config) -> anyhow::Result<Objects> {
    let (objects, unreadable) = list(&Client::try_from(config)?).await?;
    for object in unreadable {
        eprintln!("warning: {object}");
    }
    Ok(objects)
}

pub fn note_what_is_unknown(objects: &Objects) {
    if objects.has_unknown_selection() {
        eprintln!(
            "warning: labels of namespaces are not known here, so selectors select none: add the Namespaces to the folder, or ask for the right to list them"
        );
    }
}

/// `Member team/ci: there is no Project app in namespace team`
pub fn problem_text(problem: &Problem) -> String {
    format!("{}: {}", problem.object, problem.message)
}
