//! What is what: the Registry, its Projects, and what RepositoryPolicies say of them.

use super::{Inputs, name, namespace, uid};
use crate::api::v1alpha1::{self as api, Project, RepositoryPolicy};
use crate::policy::snapshot::{
    self, DEFAULT_TOKEN_TTL, FailureLimits, ImmutableTags, PolicyRule, ProjectEntry, RegistryFacts,
};
use crate::policy::{Glob, ObjectKey};

pub(super) fn registry_facts(inputs: &Inputs) -> RegistryFacts {
    let registry = &inputs.registry;
    let ttl = registry.spec.authentication.token_ttl.as_ref().map(api::Duration::as_secs);
    RegistryFacts {
        uid: uid(&registry.metadata),
        name: format!("{}/{}", namespace(&registry.metadata), name(&registry.metadata)),
        token_ttl: ttl.unwrap_or(DEFAULT_TOKEN_TTL),
        failures: registry.spec.authentication.failures.as_ref().map(failure_limits).unwrap_or_default(),
        providers: super::providers::providers(inputs),
        base_suffix: Some(registry.spec.base_image_suffix.clone()).filter(|suffix| !suffix.is_empty()),
    }
}

fn failure_limits(limits: &api::FailureLimits) -> FailureLimits {
    // The schema has a lower bound of one.
    let count = |given: i32| u32::try_from(given).unwrap_or(0).max(1);
    FailureLimits { per_minute: count(limits.per_minute), burst: count(limits.burst) }
}

pub(super) fn project_entry(project: &Project) -> ProjectEntry {
    ProjectEntry {
        official: project.spec.official,
        source: ObjectKey::new("Project", &project.metadata),
        ..ProjectEntry::new(project.path(), visibility(project.spec.visibility))
    }
}

pub(super) fn policy_rule(policy: &RepositoryPolicy) -> PolicyRule {
    let immutable_tags = policy.spec.immutable_tags.as_ref();
    PolicyRule {
        name: name(&policy.metadata).to_owned(),
        repositories: policy.spec.repositories.iter().map(|pattern| Glob::new(pattern)).collect(),
        visibility: policy.spec.visibility.map(visibility),
        immutable_tags: immutable_tags.map(|patterns| ImmutableTags::new(patterns.iter().map(String::as_str))),
        image_type: policy.spec.image_type.map(image_type),
        description: policy.spec.description.clone(),
    }
}

fn visibility(visibility: api::Visibility) -> snapshot::Visibility {
    match visibility {
        api::Visibility::Private => snapshot::Visibility::Private,
        api::Visibility::Internal => snapshot::Visibility::Internal,
        api::Visibility::Public => snapshot::Visibility::Public,
    }
}

fn image_type(image_type: api::ImageType) -> snapshot::ImageType {
    match image_type {
        api::ImageType::Base => snapshot::ImageType::Base,
        api::ImageType::Build => snapshot::ImageType::Build,
    }
}
