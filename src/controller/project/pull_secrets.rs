//! The pull secrets of a Project: where they belong, bringing them there, and taking them away again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};

use super::super::SECOND_LOOK;
use super::super::apply::{ApplyError, MANAGED_BY, Owner, is_final};
use super::super::context::{Context, ReconcileError};
use super::super::secret::{Target, credential};
use super::super::status::Verdict;
use super::service_accounts;
use crate::api::v1alpha1::{Project, Registry};
use crate::policy::KeySet;
use crate::policy::compile::{claims, entitled_namespaces};

/// Namespaces that are written to at a time.
const CONCURRENCY: usize = 16;
/// How many names a message lists before it stops.
const LISTED: usize = 5;

/// What came out.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Namespaces that hold a pull secret.
    pub namespaces: usize,
    /// Selected by the Project, but not allowed by the Registry.
    forbidden: Vec<String>,
    /// Where a Secret that is not ours has the name.
    conflicts: BTreeSet<String>,
    /// Where the API server refuses the Secret, and why.
    refusals: BTreeMap<String, String>,
    /// When a credential is to be replaced.
    renew_at: Option<Timestamp>,
    /// When a ServiceAccount may be written again that somebody keeps stripping.
    retry_at: Option<Timestamp>,
    explicit: bool,
}

impl Outcome {
    /// `secret` is the name of the pull secrets.
    pub fn verdict(&self, secret: &str) -> Verdict {
        if !self.refusals.is_empty() {
            return Verdict::no(
                "SecretRefused",
                format!(
                    "can't write Secret {secret} in namespace {}",
                    list(self.refusals.iter().map(|(namespace, message)| format!("{namespace}: {message}")))
                ),
            );
        }
        if !self.conflicts.is_empty() {
            let message = format!(
                "Secret {secret} exists and is not this Project's in namespace {}: delete it, or set pullSecrets.secretName",
                list(self.conflicts.iter().cloned())
            );
            return Verdict::no("SecretConflict", message);
        }
        if self.explicit && self.namespaces == 0 && !self.forbidden.is_empty() {
            let message = format!(
                "the Registry's pullSecretNamespaces doesn't allow namespace {}: ask for it there, or leave pullSecrets out",
                list(self.forbidden.iter().cloned())
            );
            return Verdict::no("PullSecretsNotAllowed", message);
        }
        if self.explicit && !self.forbidden.is_empty() {
            let message = format!(
                "not allowed by the Registry's pullSecretNamespaces and left out: {}",
                list(self.forbidden.iter().cloned())
            );
            return Verdict::yes("PullSecretsInPlace", message);
        }
        Verdict::yes("PullSecretsInPlace", "")
    }

    /// How long until there is something to do.
    pub fn next(&self, now: Timestamp) -> Option<Duration> {
        let due = [self.renew_at, self.retry_at].into_iter().flatten().min();
        let due = due.map(|due| Duration::try_from(due.duration_since(now)).unwrap_or_default());
        // Nothing tells when what is in the way goes.
        let second_look = (!self.conflicts.is_empty() || !self.refusals.is_empty()).then_some(SECOND_LOOK);
        [due.map(|due| due.max(Duration::from_secs(1))), second_look].into_iter().flatten().min()
    }
}

/// The first few, and how many more.
fn list(texts: impl ExactSizeIterator<Item = String>) -> String {
    let more = texts.len().saturating_sub(LISTED);
    let listed = texts.take(LISTED).collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

fn build(
    project: &Project,
    registry: &Registry,
    namespace: &str,
    keys: &KeySet,
    now: Timestamp,
) -> Result<(Secret, Option<Timestamp>), ReconcileError> {
    let issued = claims::pull_secret(registry, project, namespace, now);
    let metadata = ObjectMeta {
        name: Some(project.pull_secret_name()),
        namespace: Some(namespace.to_owned()),
        ..ObjectMeta::default()
    };
    let secret = credential(Target { metadata, registry, with_login: false }, &issued.claims, keys)?;
    Ok((secret, issued.renew_at))
}

pub(super) async fn bring_in_place(
    project: &Project,
    registry: &Registry,
    keys: &KeySet,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let namespaces = context.world.live_namespaces();
    let (allowed, forbidden) = entitled_namespaces(project, registry, &namespaces);
    let forbidden = forbidden.into_iter().map(str::to_owned).collect();
    let mut outcome = Outcome { forbidden, explicit: project.spec.pull_secrets.is_some(), ..Outcome::default() };
    let owner = Owner::from(project);
    let settings = project.spec.pull_secrets.clone().unwrap_or_default();
    let name = project.pull_secret_name();

    let owner = &owner;
    let results = stream::iter(&allowed).map(|namespace| async move {
        let (secret, renew_at) = build(project, registry, namespace, keys, now)?;
        match context.apply.apply(owner, secret).await {
            Ok(_) => Ok((namespace, Written::There(renew_at))),
            Err(ApplyError::Foreign { .. }) => Ok((namespace, Written::Conflict)),
            // The namespace was deleted between the look and the write.
            Err(ApplyError::Api { source: kube::Error::Api(status), .. }) if is_going(&status) => {
                Ok((namespace, Written::Gone))
            }
            // One namespace's quota or policy must not keep the others waiting.
            Err(ApplyError::Api { source: kube::Error::Api(status), .. }) if is_final(&status) => {
                Ok((namespace, Written::Refused(status.message)))
            }
            Err(error) => Err(ReconcileError::from(error)),
        }
    });
    let results: Vec<_> = results.buffer_unordered(CONCURRENCY).collect().await;
    for result in results {
        let (namespace, written) = result?;
        match written {
            Written::There(renew_at) => {
                outcome.namespaces += 1;
                outcome.renew_at = [outcome.renew_at, renew_at].into_iter().flatten().min();
                let accounts = &settings.service_accounts;
                let retry = service_accounts::settle(project, context, namespace, &name, accounts, now).await?;
                outcome.retry_at = [outcome.retry_at, retry].into_iter().flatten().min();
            }
            Written::Conflict => drop(outcome.conflicts.insert((*namespace).to_owned())),
            Written::Refused(message) => drop(outcome.refusals.insert((*namespace).to_owned(), message)),
            Written::Gone => {}
        }
    }
    // What is not wanted any more goes last, and where the new one could not be written the old one stays: no pod is to
    // find neither.
    let failed = |namespace: &str| outcome.conflicts.contains(namespace) || outcome.refusals.contains_key(namespace);
    let unwanted = |namespace: &str, secret: &str| {
        let is_allowed = allowed.contains(&namespace);
        !is_allowed || (secret != name && !failed(namespace))
    };
    remove_where(project, context, unwanted).await?;
    Ok(outcome)
}

/// What came of one namespace.
enum Written {
    There(Option<Timestamp>),
    Conflict,
    Refused(String),
    Gone,
}

fn is_going(status: &kube::core::Status) -> bool {
    status.is_not_found() || (status.is_forbidden() && status.message.contains("being terminated"))
}

/// The last chance to take away all pull secrets of a Project: it doesn't rely on what the watch has told so far.
pub(super) async fn clean_up(project: &Project, context: &Context) -> Result<(), ReconcileError> {
    let owner = Owner::from(project);
    let ours = ListParams::default().labels(&format!("{MANAGED_BY}=landfast"));
    let secrets = Api::<Secret>::all(context.client.clone()).list_metadata(&ours).await?;
    for secret in secrets.items.iter().filter(|secret| owner.owns(&secret.metadata)) {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        match service_accounts::settle(project, context, &namespace, &name, &[], Timestamp::now()).await {
            // A policy there forbids it; a dangling reference is better than a Project that can't be deleted.
            Err(ReconcileError::Api(kube::Error::Api(status))) if is_final(&status) || is_going(&status) => {
                tracing::warn!(namespace, error = %status.message, "ServiceAccounts keep a reference to a deleted pull secret");
            }
            result => drop(result?),
        }
        context.apply.delete_surely::<Secret>(&owner, Some(&namespace), &name).await?;
    }
    Ok(())
}

/// Takes away all pull secrets of a Project, and what refers to them.
pub(super) async fn remove_all(project: &Project, context: &Context) -> Result<(), ReconcileError> {
    remove_where(project, context, |_, _| true).await
}

async fn remove_where(
    project: &Project,
    context: &Context,
    unwanted: impl Fn(&str, &str) -> bool,
) -> Result<(), ReconcileError> {
    let owner = Owner::from(project);
    for secret in context.world.children.secrets.state() {
        let (namespace, name) = (secret.namespace().unwrap_or_default(), secret.name_any());
        if !owner.owns(&secret.metadata) || !unwanted(&namespace, &name) {
            continue;
        }
        // The reference first: a ServiceAccount that names a missing Secret makes every pod warn.
        service_accounts::settle(project, context, &namespace, &name, &[], Timestamp::now()).await?;
        context.apply.delete::<Secret>(&owner, Some(&namespace), &name).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object<K: serde::de::DeserializeOwned>(kind: &str, namespace: &str, spec: &str) -> K {
        let metadata =
            format!("{{name: x, namespace: {namespace}, uid: u-{namespace}, creationTimestamp: 2026-01-01T00:00:00Z}}");
        let yaml = format!("apiVersion: landfast.dev/v1alpha1\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}");
        serde_saphyr::from_str(&yaml).unwrap()
    }

    fn decide(registry: &str, project: &str) -> (Vec<String>, Vec<String>) {
        let labels = |value: &str| BTreeMap::from([("tier".to_owned(), value.to_owned())]);
        let namespaces =
            BTreeMap::from([("hub", labels("x")), ("team", labels("a")), ("other", labels("a")), ("far", labels("b"))]);
        let namespaces: BTreeMap<_, _> =
            namespaces.into_iter().map(|(name, labels)| (name.to_owned(), labels)).collect();
        let registry =
            object("Registry", "hub", &format!("{{storage: {{emptyDir: {{}}}}, pullSecretNamespaces: {registry}}}"));
        let project =
            object("Project", "team", &format!("{{registryRef: {{name: x, namespace: hub}}, pullSecrets: {project}}}"));
        let (allowed, forbidden) = entitled_namespaces(&project, &registry, &namespaces);
        let owned = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect();
        (owned(allowed), owned(forbidden))
    }

    #[test]
    fn a_namespace_needs_to_be_selected_and_allowed() {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(decide("{from: All}", "{}"), (names(&["team"]), names(&[])));
        assert_eq!(decide("{}", "{}"), (names(&[]), names(&["team"])));
        let tier_a = "{from: Selector, selector: {matchLabels: {tier: a}}}";
        let all = "{namespaces: {from: All}}";
        assert_eq!(decide(tier_a, all), (names(&["other", "team"]), names(&["far", "hub"])));
    }

    #[test]
    fn the_secret_is_deterministic_and_of_the_kubelets_type() {
        let registry: Registry = object("Registry", "hub", "{storage: {emptyDir: {}}}");
        let project: Project = object("Project", "team", "{registryRef: {name: x, namespace: hub}}");
        let keys = KeySet::new(crate::policy::SigningKey::from_seed(&[3; 32]).unwrap(), vec![]);
        let now: Timestamp = "2026-01-05T00:00:00Z".parse().unwrap();
        let (secret, renew_at) = build(&project, &registry, "app", &keys, now).unwrap();
        assert_eq!(
            build(&project, &registry, "app", &keys, now + k8s_openapi::jiff::SignedDuration::from_hours(9)).unwrap().0,
            secret
        );
        assert_eq!(secret.type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
        assert_eq!(
            secret.data.as_ref().map(|data| data.keys().cloned().collect::<Vec<_>>()),
            Some(vec![".dockerconfigjson".to_owned()])
        );
        assert_eq!(renew_at, Some("2026-01-31T00:00:00Z".parse().unwrap()));
    }
}
