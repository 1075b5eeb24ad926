//! The objects that an answer is made from.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use landfast::api::v1alpha1::Registry;
use landfast::policy::{Problem, Snapshot, compile};
use landfast::registry::snapshots::{Objects, file, list};

use super::Where;

/// The policy of the Registry that is meant.
pub struct Source {
    pub registry: Arc<Registry>,
    pub snapshot: Snapshot,
    pub now: Timestamp,
}

impl Source {
    /// What is wrong with objects goes to stderr: such objects count for nothing.
    pub async fn open(place: &Where) -> anyhow::Result<Self> {
        let objects = match &place.manifests {
            Some(folder) => folder_objects(folder)?,
            None => cluster_objects().await?,
        };
        note_what_is_unknown(&objects);
        let registry = Arc::clone(objects.choose(place.registry.as_deref())?);
        let (snapshot, problems) = compile(&objects.inputs(&registry));
        for problem in &problems {
            eprintln!("warning: {}", problem_text(problem));
        }
        Ok(Self { registry, snapshot, now: Timestamp::now() })
    }
}

pub fn folder_objects(folder: &Path) -> anyhow::Result<Objects> {
    let objects = file::read_all(folder)?;
    for (project, registry) in objects.strays() {
        eprintln!("warning: Project {project} is passed over: its Registry {registry} is not in {}", folder.display());
    }
    Ok(objects)
}

pub async fn cluster_objects() -> anyhow::Result<Objects> {
    let client = crate::cli::kube_client().await.context("no folder is given with --manifests")?;
    let (objects, unreadable) = list(&client).await?;
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
