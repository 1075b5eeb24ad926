//! What is what: the Registry, its Projects, and what RepositoryPolicies say of them.

use super::{name, namespace, uid};
use crate::api::v1alpha1::{self as api, Project, Registry, RepositoryPolicy};
use crate::policy::Glob;
use crate::policy::snapshot::{self, FailureLimits, ImmutableTags, PolicyRule, ProjectEntry, RegistryFacts};

const DEFAULT_TOKEN_TTL: u64 = 300;

pub(super) fn registry_facts(registry: &Registry) -> RegistryFacts {
    let ttl = registry.spec.authentication.token_ttl.as_ref().map(api::Duration::as_secs);
    RegistryFacts {
        uid: uid(&registry.metadata),
        name: format!("{}/{}", namespace(&registry.metadata), name(&registry.metadata)),
        token_ttl: ttl.unwrap_or(DEFAULT_TOKEN_TTL),
        failures: registry.spec.authentication.failures.as_ref().map(failure_limits).unwrap_or_default(),
    }
}

fn failure_limits(limits: &api::FailureLimits) -> FailureLimits {
    // The schema has a lower bound of one.
    let count = |given: i32| u32::try_from(given).unwrap_or(0).max(1);
    FailureLimits { per_minute: count(limits.per_minute), burst: count(limits.burst) }
}

pub(super) fn project_entry(project: &Project) -> ProjectEntry {
    ProjectEntry {
        path: project.path().to_owned(),
        official: project.spec.official,
        visibility: visibility(project.spec.visibility),
        policies: Vec::new(),
    }
}

pub(super) fn policy_rule(policy: &RepositoryPolicy) -> PolicyRule {
    let immutable_tags = policy.spec.immutable_tags.as_ref();
    PolicyRule {
        name: name(&policy.metadata).to_owned(),
        repositories: policy.spec.repositories.iter().map(|pattern| Glob::new(pattern)).collect(),
        visibility: policy.spec.visibility.map(visibility),
        immutable_tags: immutable_tags.map(|patterns| ImmutableTags::new(patterns.iter().map(String::as_str))),
    }
}

fn visibility(visibility: api::Visibility) -> snapshot::Visibility {
    match visibility {
        api::Visibility::Private => snapshot::Visibility::Private,
        api::Visibility::Internal => snapshot::Visibility::Internal,
        api::Visibility::Public => snapshot::Visibility::Public,
    }
}
