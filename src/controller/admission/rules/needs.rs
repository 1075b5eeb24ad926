//! What a change needs.

use k8s_openapi::jiff::Timestamp;
use kube::Resource;

use super::super::{Change, Versions};
use super::objects::decides_its_end;
use crate::api::v1alpha1::{Member, MemberSpec, Project, ProjectSpec, RepositoryPolicy, RepositoryPolicySpec};
use crate::policy::Action;

/// One thing that somebody needs to be allowed to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    /// What he does, such as `change visibility`.
    pub what: &'static str,
    pub level: Level,
}

/// What is needed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// What the permission matrix asks for this action, in all repositories of the Project that one of the patterns matches.
    Matrix { action: Action, patterns: Vec<String> },
    /// The role Admin in all that is granted, for as long as it is granted: in the Project, or in the whole Registry.
    Grant { patterns: Vec<String>, until: Option<Timestamp> },
    /// To be an administrator of the Project's namespace, or of the whole Registry.
    Namespace,
    /// To be an administrator of the whole Registry.
    Registry,
}

/// What everything is about, as a pattern.
pub(super) const EVERYTHING: &str = "**";

pub(super) fn of(change: &Change) -> Vec<Need> {
    match change {
        // Who may write a Registry is for Kubernetes to say: only those who run the cluster.
        Change::Registry(_) => Vec::new(),
        Change::Project(versions) => with_its_end(versions, of_project),
        Change::RepositoryPolicy(versions) => with_its_end(versions, of_policy),
        Change::Member(versions) => with_its_end(versions, of_member),
    }
}

/// Who decides when an object ends needs what it takes to delete it.
fn with_its_end<K: Resource + Clone>(versions: &Versions<K>, needs: impl Fn(&Versions<K>) -> Vec<Need>) -> Vec<Need> {
    let end = match versions {
        Versions::Updated { before, after } if decides_its_end(before, after) => {
            needs(&Versions::Deleted(before.clone()))
        }
        _ => Vec::new(),
    };
    [needs(versions), end].concat()
}

fn matrix(what: &'static str, action: Action, patterns: &[String]) -> Need {
    Need { what, level: Level::Matrix { action, patterns: patterns.to_vec() } }
}

fn of_project(versions: &Versions<Project>) -> Vec<Need> {
    let namespace = |what| Need { what, level: Level::Namespace };
    let official = Need { what: "say whether a Project is official", level: Level::Registry };
    let (before, after) = match versions {
        Versions::Created(after) if after.spec.official => return vec![namespace("create a Project"), official],
        Versions::Created(_) => return vec![namespace("create a Project")],
        Versions::Deleted(_) => return vec![namespace("delete a Project")],
        Versions::Updated { before, after } => (&before.spec, &after.spec),
    };
    // Each field that can be changed has to be in one of these.
    let ProjectSpec { registry_ref, path, official: _, visibility, description, pull_secrets } = after;
    let everything = [EVERYTHING.to_owned()];
    let mut needs = Vec::new();
    if before.official != after.official {
        needs.push(official);
    }
    if before.visibility != *visibility {
        needs.push(matrix("change visibility", Action::ChangeVisibility, &everything));
    }
    if before.description != *description {
        needs.push(matrix("change description", Action::ChangeDescription, &everything));
    }
    if before.pull_secrets != *pull_secrets {
        let until = None;
        needs.push(Need { what: "change pullSecrets", level: Level::Grant { patterns: everything.to_vec(), until } });
    }
    // The schema lets neither change; should it ever, that is like making another Project.
    if before.registry_ref != *registry_ref || before.path != *path {
        needs.push(namespace("move a Project"));
    }
    needs
}

/// What a new Project needs whose path lies within an official one's, or the other way round.
pub(super) fn near_official() -> Need {
    Need { what: "create a Project within the path of an official one, or around it", level: Level::Registry }
}

fn of_policy(versions: &Versions<RepositoryPolicy>) -> Vec<Need> {
    match versions {
        Versions::Created(policy) | Versions::Deleted(policy) => settings(None, &policy.spec),
        Versions::Updated { before, after } => {
            let (before, after) = (&before.spec, &after.spec);
            if before.project_ref != after.project_ref || before.repositories != after.repositories {
                // What it says of the one is taken away, and said of the other.
                [settings(None, before), settings(None, after)].concat()
            } else {
                settings(Some(before), after)
            }
        }
    }
}

/// What it needs to say this where `before` is said.
fn settings(before: Option<&RepositoryPolicySpec>, after: &RepositoryPolicySpec) -> Vec<Need> {
    let RepositoryPolicySpec { project_ref: _, repositories, visibility, immutable_tags, image_type, description } =
        after;
    let need = |what, action| matrix(what, action, repositories);
    let mut needs = Vec::new();
    if before.map_or(visibility.is_some(), |before| before.visibility != *visibility) {
        needs.push(need("change visibility", Action::ChangeVisibility));
    }
    if before.map_or(immutable_tags.is_some(), |before| before.immutable_tags != *immutable_tags) {
        // It keeps Developers from what their role allows: as much as the visibility it is for an Admin to say.
        needs.push(need("change immutableTags", Action::ChangeVisibility));
    }
    if before.map_or(image_type.is_some(), |before| before.image_type != *image_type) {
        needs.push(need("change imageType", Action::ChangeImageType));
    }
    if before.is_none_or(|before| before.description != *description) {
        needs.push(need("change description", Action::ChangeDescription));
    }
    needs
}

fn of_member(versions: &Versions<Member>) -> Vec<Need> {
    let grant = |what, spec: &MemberSpec| {
        let patterns = match &*spec.repositories {
            [] => vec![EVERYTHING.to_owned()],
            patterns => patterns.to_vec(),
        };
        Need { what, level: Level::Grant { patterns, until: spec.expires_at.as_ref().map(|end| end.0) } }
    };
    match versions {
        Versions::Created(member) => vec![grant("create a Member", &member.spec)],
        // Whoever takes something away need not have it for as long.
        Versions::Deleted(member) => vec![taking("delete a Member", grant, &member.spec)],
        Versions::Updated { before, after } if before.spec == after.spec => Vec::new(),
        Versions::Updated { before, after } => {
            vec![taking("change a Member", grant, &before.spec), grant("change a Member", &after.spec)]
        }
    }
}

fn taking(what: &'static str, grant: impl Fn(&'static str, &MemberSpec) -> Need, spec: &MemberSpec) -> Need {
    let at_once = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::MIN));
    grant(what, &MemberSpec { expires_at: at_once, ..spec.clone() })
}
