//! `landfast access diff`

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::bail;
use k8s_openapi::jiff::Timestamp;
use landfast::policy::access::{AccessChange, Change, Difference, diff};
use landfast::policy::{RegistryFacts, Snapshot, compile};
use landfast::registry::snapshots::{ChooseError, Objects, file};
use serde_json::{Value, json};

use super::source::{cluster_objects, folder_objects, full_name, note_what_is_unknown, problem_text};
use super::{Cluster, Form, print};

#[derive(clap::Args)]
pub struct Arguments {
    /// Two folders of manifests, the old ones and the new ones; with --against-cluster only the new ones
    #[arg(value_name = "FOLDER", num_args = 1..=2, required = true)]
    folders: Vec<PathBuf>,
    /// Compare the cluster that the kubeconfig names with what it would be once the folder were applied to it
    #[arg(long)]
    against_cluster: bool,
    /// Compare this Registry alone
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    registry: Option<String>,
    /// Which changes make the exit status 1
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = FailOn::Any)]
    fail_on: FailOn,
    /// Form of the answer
    #[arg(long, short, value_name = "FORM", value_enum, default_value_t = Form::Text)]
    output: Form,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum FailOn {
    Loss,
    Gain,
    Any,
    None,
}

impl FailOn {
    fn includes(self, change: &Change) -> bool {
        match self {
            FailOn::Loss => change.is_loss(),
            FailOn::Gain => !change.is_loss(),
            FailOn::Any => true,
            FailOn::None => false,
        }
    }
}

/// What changes in one Registry.
struct Compared {
    registry: String,
    difference: Difference,
}

/// What is compared.
struct Sides {
    old: Objects,
    new: Objects,
    /// Of a Registry that is named without one.
    namespace: String,
    /// Whether there are no other Registries than those.
    are_whole: bool,
}

/// 0 if nothing changes that counts, 1 if something does, 2 if an object would not be accepted.
pub async fn run(arguments: &Arguments, cluster: &Cluster) -> anyhow::Result<u8> {
    let now = Timestamp::now();
    let Sides { old, new, namespace, are_whole } = sides(arguments, cluster, now).await?;
    note_what_is_unknown(&new);
    let (old, old_problems) = policies(&old, are_whole);
    let (new, problems) = policies(&new, are_whole);
    // What was wrong before is not this change's fault.
    let (known, problems): (BTreeSet<_>, BTreeSet<_>) =
        problems.into_iter().partition(|problem| old_problems.contains(problem));
    let mut compared = Vec::new();
    let registry = arguments.registry.as_deref().map(|name| full_name(name, &namespace));
    for name in names(registry, &old, &new)? {
        // One that is not there has nobody who may anything.
        let none = |other: &Snapshot| Snapshot::new(RegistryFacts::new(&other.registry.uid, &name));
        let difference = match (find(&old, &name), find(&new, &name)) {
            (Some(old), Some(new)) => diff(old, new, now),
            (Some(old), None) => diff(old, &none(old), now),
            (None, Some(new)) => diff(&none(new), new, now),
            (None, None) => continue,
        };
        compared.push(Compared { registry: name, difference });
    }
    match arguments.output {
        Form::Text => print::lines(text(&compared)),
        Form::Json => print::json(&as_json(&compared, &problems)),
    }
    for problem in &known {
        eprintln!("warning: {problem}");
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    // Of what could not be compared nobody knows that it doesn't count.
    let counts = |Compared { difference, .. }: &Compared| {
        difference.changes.iter().any(|change| arguments.fail_on.includes(&change.change))
            || (!difference.is_whole && arguments.fail_on != FailOn::None)
    };
    Ok(if !problems.is_empty() { 2 } else { u8::from(compared.iter().any(counts)) })
}

async fn sides(arguments: &Arguments, cluster: &Cluster, now: Timestamp) -> anyhow::Result<Sides> {
    match (arguments.folders.as_slice(), arguments.against_cluster) {
        ([old, new], false) => {
            let namespace = cluster.namespace_in_folders();
            let (old, new) = (folder_objects(old, namespace)?, folder_objects(new, namespace)?);
            Ok(Sides { old, new, namespace: namespace.to_owned(), are_whole: false })
        }
        ([new], true) => {
            let config = cluster.config().await?;
            let namespace = cluster.namespace_in(&config).to_owned();
            // Before the cluster is asked: a folder that can't be read is the nearer mistake.
            let new = file::read_all(new, &namespace)?;
            let old = cluster_objects(config).await?;
            Ok(Sides { new: old.clone().with(new, now), old, namespace, are_whole: true })
        }
        ([_], false) => bail!("name two folders, the old manifests and the new ones, or add --against-cluster"),
        _ => bail!("with --against-cluster name one folder, the new manifests"),
    }
}

/// The policies of all Registries, and what is wrong with objects. What is wrong for several is told once. That a Project's
/// Registry isn't there is wrong only where it can't be elsewhere.
fn policies(objects: &Objects, are_whole: bool) -> (Vec<Snapshot>, BTreeSet<String>) {
    let mut all_problems = BTreeSet::new();
    let compiled = objects.registries.iter().map(|registry| {
        let (snapshot, problems) = compile(&objects.inputs(registry));
        all_problems.extend(problems.iter().map(problem_text));
        snapshot
    });
    let compiled = compiled.collect();
    let strays = if are_whole { objects.strays() } else { vec![] };
    all_problems.extend(strays.into_iter().map(|(project, registry)| {
        format!("Project {project}: there is no Registry {registry}: create it, or correct registryRef")
    }));
    (compiled, all_problems)
}

fn find<'a>(policies: &'a [Snapshot], name: &str) -> Option<&'a Snapshot> {
    policies.iter().find(|snapshot| snapshot.registry.name == name)
}

/// The Registries to compare, sorted.
fn names(registry: Option<String>, old: &[Snapshot], new: &[Snapshot]) -> Result<BTreeSet<String>, ChooseError> {
    let all: BTreeSet<String> = old.iter().chain(new).map(|snapshot| snapshot.registry.name.clone()).collect();
    match registry {
        _ if all.is_empty() => Err(ChooseError::None),
        None => Ok(all),
        Some(name) if all.contains(&name) => Ok([name].into()),
        Some(name) => Err(ChooseError::NoSuch { name, there: all.into_iter().collect() }),
    }
}

fn text(compared: &[Compared]) -> Vec<String> {
    let mut lines = Vec::new();
    let differing = compared.iter().filter(|compared| !compared.difference.changes.is_empty());
    for Compared { registry, difference: Difference { changes, .. } } in differing {
        lines.push(format!("Registry {registry}"));
        lines.extend(
            changes.iter().map(|change| format!("  {} {change}", if change.change.is_loss() { '-' } else { '+' })),
        );
    }
    let all = || compared.iter().flat_map(|compared| &compared.difference.changes);
    let losses = all().filter(|change| change.change.is_loss()).count();
    let all = all().count();
    lines.push(match all {
        0 => "nobody gains or loses access".to_owned(),
        all => format!("{losses} losses, {} gains", all - losses),
    });
    if !are_whole(compared) {
        lines.push("there is more: so much changes that not all of it was compared".to_owned());
    }
    lines
}

fn are_whole(compared: &[Compared]) -> bool {
    compared.iter().all(|compared| compared.difference.is_whole)
}

fn as_json(compared: &[Compared], problems: &BTreeSet<String>) -> Value {
    let changes = compared.iter().flat_map(|Compared { registry, difference }| {
        difference.changes.iter().map(move |change| change_json(registry, change))
    });
    json!({ "changes": changes.collect::<Vec<_>>(), "whole": are_whole(compared), "problems": problems })
}

fn change_json(registry: &str, change: &AccessChange) -> Value {
    let AccessChange { principal, change: what } = change;
    let (name, pattern, actions) = match what {
        Change::Revoked(_) => ("revoked", None, None),
        Change::NoLogin => ("noLogin", None, None),
        Change::NewLogin => ("newLogin", None, None),
        Change::Login => ("login", None, None),
        Change::Loses { pattern, actions } => ("loses", Some(pattern), Some(actions)),
        Change::Gains { pattern, actions } => ("gains", Some(pattern), Some(actions)),
    };
    let actions = actions.map(|actions| actions.iter().map(|action| action.name()).collect::<Vec<_>>());
    json!({
        "registry": registry, "kind": principal.kind(), "who": principal.to_string(), "change": name,
        "loss": what.is_loss(), "pattern": pattern, "actions": actions, "text": change.to_string(),
    })
}
