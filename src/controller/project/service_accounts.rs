//! Pull secrets in the `imagePullSecrets` of ServiceAccounts.
//!
//! The list is atomic for server-side apply, and other controllers write to it too: it is changed by a patch that only
//! fits the version which was read. What we added is noted in an annotation, so that only that is ever taken away.
//!
//! # Guarantees
//! Another controller that takes out what we put in is answered with growing delay: the number of writes is bounded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{LocalObjectReference, ServiceAccount};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};

use super::super::FIELD_MANAGER;
use super::super::context::{Context, ReconcileError};
use super::super::status;
use crate::api::v1alpha1::Project;

/// Names of the pull secrets that we added, separated by commas.
const ADDED: &str = "landfast.dev/image-pull-secrets";
/// Delay after the first time that somebody took out what we had put in; doubled each time.
const FIRST_DELAY: i64 = 10;
const LONGEST_DELAY: i64 = 3_600;

/// What was done, to do nothing twice and not to be drawn into a fight.
#[derive(Default)]
pub(in super::super) struct Ledger {
    /// Per namespace and Secret: a hash of what was found in order.
    settled: Mutex<HashMap<(String, String), u64>>,
    /// Per ServiceAccount (UID) and Secret: how often it was added.
    additions: Mutex<HashMap<(String, String), Additions>>,
}

#[derive(Clone, Copy)]
struct Additions {
    count: u32,
    next_allowed: Timestamp,
}

impl Ledger {
    /// When the Secret may be added (again); `None`: now.
    fn not_before(&self, account: &str, secret: &str, now: Timestamp) -> Option<Timestamp> {
        let additions = self.additions.lock().unwrap_or_else(PoisonError::into_inner);
        let known = additions.get(&(account.to_owned(), secret.to_owned()))?;
        (known.next_allowed > now).then_some(known.next_allowed)
    }

    /// Notes an addition. Returns how many there were before.
    fn added(&self, account: &str, secret: &str, now: Timestamp) -> u32 {
        let mut additions = self.additions.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = additions
            .entry((account.to_owned(), secret.to_owned()))
            .or_insert(Additions { count: 0, next_allowed: now });
        // Left alone for longer than the longest delay: that was no fight.
        let calm = now.duration_since(entry.next_allowed) > SignedDuration::from_secs(LONGEST_DELAY);
        let before = if calm { 0 } else { entry.count };
        let delay = FIRST_DELAY.saturating_mul(1 << before.min(16)).min(LONGEST_DELAY);
        *entry = Additions { count: before + 1, next_allowed: now + SignedDuration::from_secs(delay) };
        before
    }
}

/// Makes the ServiceAccounts of a namespace that `wanted` names (`*`: all) use the Secret, and no others that used it
/// because of us. Returns when to look again if somebody undoes it.
pub(in super::super) async fn settle(
    project: &Project,
    context: &Context,
    namespace: &str,
    secret: &str,
    wanted: &[String],
    now: Timestamp,
) -> Result<Option<Timestamp>, ReconcileError> {
    let here = |account: &PartialObjectMeta<ServiceAccount>| account.namespace().as_deref() == Some(namespace);
    let accounts = context.world.all_service_accounts.state();
    let accounts: Vec<_> = accounts.iter().filter(|account| here(account)).collect();
    let noted = |account: &&&Arc<PartialObjectMeta<ServiceAccount>>| is_noted(account.annotations(), secret);
    if wanted.is_empty() && !accounts.iter().any(|account| noted(&account)) {
        return Ok(None);
    }
    let known = accounts.iter().map(|account| (account.name_any(), account.resource_version())).collect();
    let fingerprint = fingerprint(known, wanted);
    let key = (namespace.to_owned(), secret.to_owned());
    if context.service_accounts.settled.lock().unwrap_or_else(PoisonError::into_inner).get(&key) == Some(&fingerprint) {
        return Ok(None);
    }
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), namespace);
    let mut retry_at: Option<Timestamp> = None;
    for account in api.list(&ListParams::default()).await?.items {
        let Some(change) = plan(&account, secret, wanted) else { continue };
        let uid = account.uid().unwrap_or_default();
        if let (Change::Add(_), Some(later)) = (&change, context.service_accounts.not_before(&uid, secret, now)) {
            retry_at = Some(retry_at.map_or(later, |earlier| earlier.min(later)));
            continue;
        }
        context.metrics.wrote("ServiceAccount");
        let written = write(&api, &account, &change).await?;
        if written && matches!(change, Change::Add(_)) && context.service_accounts.added(&uid, secret, now) > 0 {
            let note = format!(
                "something removes {secret} from the imagePullSecrets of ServiceAccount {namespace}/{}: name the Secret in the pods, or find the other controller",
                account.name_any()
            );
            status::event(context, project, EventType::Warning, "ImagePullSecretRemoved", note).await;
        }
    }
    if retry_at.is_none() {
        context.service_accounts.settled.lock().unwrap_or_else(PoisonError::into_inner).insert(key, fingerprint);
    }
    Ok(retry_at)
}

fn fingerprint(mut known: Vec<(String, Option<String>)>, wanted: &[String]) -> u64 {
    known.sort();
    let mut hasher = DefaultHasher::new();
    (known, wanted).hash(&mut hasher);
    hasher.finish()
}

/// The pull secrets that we added to a ServiceAccount.
fn noted(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    annotations.get(ADDED).into_iter().flat_map(|names| names.split(',')).filter(|name| !name.is_empty())
}

fn is_noted(annotations: &BTreeMap<String, String>, secret: &str) -> bool {
    noted(annotations).any(|name| name == secret)
}

#[derive(Debug, PartialEq)]
enum Change {
    Add(Entries),
    Remove(Entries),
}

#[derive(Debug, PartialEq)]
struct Entries {
    image_pull_secrets: Vec<LocalObjectReference>,
    added: BTreeSet<String>,
}

/// What is to change on a ServiceAccount, if anything. Pure.
fn plan(account: &ServiceAccount, secret: &str, wanted: &[String]) -> Option<Change> {
    let mut image_pull_secrets = account.image_pull_secrets.clone().unwrap_or_default();
    let mut added: BTreeSet<String> = noted(account.annotations()).map(str::to_owned).collect();
    let present = image_pull_secrets.iter().any(|reference| reference.name == secret);
    let is_wanted = wanted.iter().any(|name| name == "*" || *name == account.name_any());
    if is_wanted && !present {
        image_pull_secrets.push(LocalObjectReference { name: secret.to_owned() });
        added.insert(secret.to_owned());
        return Some(Change::Add(Entries { image_pull_secrets, added }));
    }
    if !is_wanted && added.remove(secret) {
        image_pull_secrets.retain(|reference| reference.name != secret);
        return Some(Change::Remove(Entries { image_pull_secrets, added }));
    }
    None
}

/// Says whether it was written.
async fn write(api: &Api<ServiceAccount>, account: &ServiceAccount, change: &Change) -> Result<bool, kube::Error> {
    let (Change::Add(entries) | Change::Remove(entries)) = change;
    let note = (!entries.added.is_empty()).then(|| entries.added.iter().cloned().collect::<Vec<_>>().join(","));
    let patch = serde_json::json!({
        "metadata": {
            "resourceVersion": account.resource_version(),
            "annotations": { ADDED: note },
        },
        "imagePullSecrets": entries.image_pull_secrets,
    });
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(&account.name_any(), &parameters, &Patch::Merge(patch)).await {
        // Changed or deleted since it was read: its event brings us here again.
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => Ok(false),
        result => result.map(|_| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(secrets: &[&str], added: &str) -> ServiceAccount {
        let mut account = ServiceAccount::default();
        account.metadata.name = Some("default".to_owned());
        let reference = |name: &&str| LocalObjectReference { name: (*name).to_owned() };
        account.image_pull_secrets = Some(secrets.iter().map(reference).collect());
        if !added.is_empty() {
            account.annotations_mut().insert(ADDED.to_owned(), added.to_owned());
        }
        account
    }

    fn after(change: Option<Change>) -> Option<(Vec<String>, Vec<String>)> {
        let (Change::Add(entries) | Change::Remove(entries)) = change?;
        let secrets = entries.image_pull_secrets.into_iter().map(|reference| reference.name).collect();
        Some((secrets, entries.added.into_iter().collect()))
    }

    fn expected(secrets: &[&str], added: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Some((owned(secrets), owned(added)))
    }

    #[test]
    fn adds_beside_what_is_there() {
        let wanted = ["default".to_owned()];
        assert_eq!(after(plan(&account(&["own"], ""), "p", &wanted)), expected(&["own", "p"], &["p"]));
        assert_eq!(after(plan(&account(&[], "q"), "p", &["*".to_owned()])), expected(&["p"], &["p", "q"]));
        assert_eq!(plan(&account(&["p"], "p"), "p", &wanted), None);
    }

    #[test]
    fn removes_only_what_it_added() {
        assert_eq!(after(plan(&account(&["own", "p"], "p"), "p", &[])), expected(&["own"], &[]));
        assert_eq!(plan(&account(&["p"], ""), "p", &[]), None, "somebody else's");
        assert_eq!(plan(&account(&["p"], ""), "p", &["default".to_owned()]), None, "there already");
    }

    #[test]
    fn a_fight_is_bounded() {
        let ledger = Ledger::default();
        let (mut now, mut writes) = (Timestamp::UNIX_EPOCH, 0);
        // Somebody strips the entry each second for a day.
        for _ in 0..86_400 {
            if ledger.not_before("sa", "p", now).is_none() {
                ledger.added("sa", "p", now);
                writes += 1;
            }
            now += SignedDuration::from_secs(1);
        }
        assert!(writes < 40, "{writes}");
        let calm = now + SignedDuration::from_secs(3 * LONGEST_DELAY);
        assert_eq!(ledger.added("sa", "p", calm), 0);
    }
}
