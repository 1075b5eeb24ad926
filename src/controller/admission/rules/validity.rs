//! What can't be accepted together with other objects, and what becomes of those.

use std::collections::HashSet;

use kube::ResourceExt as _;

use super::super::{Change, Versions};
use super::objects::{Objects, Plan};
use crate::api::v1alpha1::Registry;
use crate::policy::{ObjectKey, Problem, Reason};

/// Objects that are named because they are not in force any more.
const SHOWN: usize = 5;

#[derive(Default)]
pub(super) struct Verdict {
    pub denial: Option<String>,
    pub warnings: Vec<String>,
}

pub(super) fn of(objects: &Objects, plan: &Plan, change: &Change) -> Verdict {
    if let Change::Registry(Versions::Created(registry) | Versions::Updated { after: registry, .. }) = change
        && let Some(denial) = taken_hostname(objects, registry)
    {
        return Verdict { denial: Some(denial), warnings: Vec::new() };
    }
    let own = key(change);
    let known: HashSet<&ObjectKey> =
        plan.before.iter().flat_map(|before| &before.problems).map(|problem| &problem.object).collect();
    let mut verdict = Verdict::default();
    let mut more = 0;
    let problems = plan.after.iter().flat_map(|after| &after.problems);
    for Problem { object, reason, message } in problems {
        if *object == own {
            // What it refers to may be made a moment later. What was wrong before may be mended step by step.
            if is_final(*reason) && !known.contains(object) {
                verdict.denial.get_or_insert(message.clone());
            } else {
                verdict.warnings.push(format!("{object} is not in force: {message}"));
            }
        } else if !known.contains(object) && verdict.warnings.len() >= SHOWN {
            more += 1;
        } else if !known.contains(object) {
            verdict.warnings.push(format!("{object} is not in force any more: {message}"));
        }
    }
    if more > 0 {
        verdict.warnings.push(format!("{more} more objects are not in force any more"));
    }
    if plan.after.is_none() && !is_deletion(change) {
        verdict.warnings.push(missing(change, plan));
    }
    verdict
}

/// Whether time alone can't mend it.
fn is_final(reason: Reason) -> bool {
    match reason {
        Reason::NamespaceNotAllowed | Reason::OfficialNotAllowed | Reason::PathConflict | Reason::InvalidPath => true,
        Reason::ProjectNotFound | Reason::ProjectNotAccepted => false,
    }
}

fn is_deletion(change: &Change) -> bool {
    match change {
        Change::Registry(versions) => versions.after().is_none(),
        Change::Project(versions) => versions.after().is_none(),
        Change::RepositoryPolicy(versions) => versions.after().is_none(),
        Change::Member(versions) => versions.after().is_none(),
    }
}

fn key(change: &Change) -> ObjectKey {
    match change {
        Change::Registry(versions) => ObjectKey::new("Registry", &versions.newest().metadata),
        Change::Project(versions) => ObjectKey::new("Project", &versions.newest().metadata),
        Change::RepositoryPolicy(versions) => ObjectKey::new("RepositoryPolicy", &versions.newest().metadata),
        Change::Member(versions) => ObjectKey::new("Member", &versions.newest().metadata),
    }
}

fn missing(change: &Change, plan: &Plan) -> String {
    match (change, &plan.project) {
        (Change::Project(versions), _) => {
            let reference = versions.after().map(|project| &project.spec.registry_ref);
            let name = reference.map_or("", |reference| &reference.name);
            let namespace = reference.and_then(|reference| reference.namespace.as_deref());
            let place = namespace.map_or("this namespace".to_owned(), |namespace| format!("namespace {namespace}"));
            format!("there is no Registry {name} in {place}: until it is there, the Project has no effect")
        }
        (_, Some((namespace, name))) => format!(
            "there is no Project {name} in namespace {namespace}, or its Registry is missing: until they are there, this has no effect"
        ),
        (..) => "there is no such Registry in this namespace: until it is there, this has no effect".to_owned(),
    }
}

/// A name by which another Registry is reached: its clients' credentials would go here, or the other way round.
fn taken_hostname(objects: &Objects, registry: &Registry) -> Option<String> {
    let own = (registry.namespace(), registry.name_any());
    let others = objects.registries.iter().filter(|other| (other.namespace(), other.name_any()) != own);
    let known = objects.registry(&own.0.clone().unwrap_or_default(), &own.1);
    for other in others {
        let mut hostnames = registry.spec.hostnames.iter();
        let Some(taken) = hostnames.find(|hostname| other.spec.hostnames.contains(hostname)) else { continue };
        if known.as_ref().is_some_and(|known| known.spec.hostnames.contains(taken)) {
            continue;
        }
        return Some(format!(
            "hostname {taken} is in use by Registry {}/{}: choose another, or take it away there first",
            other.namespace().unwrap_or_default(),
            other.name_any()
        ));
    }
    None
}
