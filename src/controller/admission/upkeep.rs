//! Keeps the webhook's certificate: it is made, served, renewed, and the API server is told whom to trust.
//!
//! # Flow
//! Each replica follows one Secret and serves what it holds. The leader plans what the Secret is to hold, and writes it
//! where it differs; then it puts the authorities, and where to ask, into the ValidatingWebhookConfiguration. Where there is no Secret, any
//! replica makes it: one that waits for the Lease is ready only with a certificate, and a rolling update ends its
//! predecessor, who may know nothing of webhooks, only when it is ready.
//!
//! # Guarantees
//! A write goes only over what was read (resource version, or creation), so that two replicas don't make two authorities.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::injection::{Injection, Step, Wanted};
use super::own_certificate::{self, OwnCertificate};
use super::serving_key::{self, ServingKey};
use super::{CONFIGURATION, SECRET, WebhookSettings};
use crate::controller::FIELD_MANAGER;
use crate::controller::apply::MANAGED_BY;
use crate::controller::certificates::{CertificateError, SecretData};
use crate::watch::{self, Unreadable};

/// A failure is tried again after this, and then ever more slowly.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Certificates are looked at this often, for clocks that are put forward.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

#[derive(Debug, thiserror::Error)]
enum UpkeepError {
    #[error("the API server: {0}")]
    Api(#[from] kube::Error),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("Secret {SECRET} exists and is not landfast's: rename or delete it")]
    Foreign,
}

pub(super) struct Upkeep {
    client: Client,
    namespace: String,
    /// The Secret, and whether it is ours to write.
    secret: String,
    is_own: bool,
    key: Arc<ServingKey>,
    /// Cancelled when this replica holds the Lease.
    leading: CancellationToken,
    /// Cancelled when the API server has been told whom to trust and where to ask.
    published: CancellationToken,
    injection: Injection,
    /// What was last looked at, so that a bad certificate is told of once.
    seen: Option<SecretData>,
}

/// What is followed.
struct Followed {
    secrets: Store<Secret>,
    configurations: Store<ValidatingWebhookConfiguration>,
}

impl Upkeep {
    pub fn new(client: Client, settings: WebhookSettings, leading: CancellationToken, key: Arc<ServingKey>) -> Self {
        let is_own = settings.certificate_secret.is_none();
        Self {
            client,
            namespace: settings.namespace,
            secret: settings.certificate_secret.unwrap_or_else(|| SECRET.to_owned()),
            is_own,
            key,
            leading,
            published: CancellationToken::new(),
            injection: Injection::default(),
            seen: None,
        }
    }

    /// Says whether this replica has told the API server whom to trust and where to ask, if that is its task.
    pub fn published(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let (leading, published) = (self.leading.clone(), self.published.clone());
        move || !leading.is_cancelled() || published.is_cancelled()
    }

    /// Runs until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let woken = Arc::new(Notify::new());
        let (secrets, secret_writer) = store();
        let (configurations, configuration_writer) = store();
        let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let (wake, wake_too) = (Arc::clone(&woken), Arc::clone(&woken));
        let api = Api::namespaced(self.client.clone(), &self.namespace);
        let follow_secret =
            watch::follow(api, only(&self.secret), secret_writer, Unreadable::Keep, move |_| wake.notify_one());
        let api = Api::all(self.client.clone());
        let follow_configuration =
            watch::follow(api, only(CONFIGURATION), configuration_writer, Unreadable::Keep, move |_| {
                wake_too.notify_one();
            });
        let followed = Followed { secrets, configurations };
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow_secret => {}
            () = follow_configuration => {}
            () = self.look_again_and_again(&followed, &woken) => {}
        }
    }

    async fn look_again_and_again(&mut self, followed: &Followed, woken: &Notify) {
        // Before that, "there is no Secret" can't be told from "not seen yet". A writer is dropped only at the end.
        let _ = followed.secrets.wait_until_ready().await;
        let _ = followed.configurations.wait_until_ready().await;
        let (leading, mut retry) = (self.leading.clone(), FIRST_DELAY);
        loop {
            let pause = match self.look(followed).await {
                Ok(pause) => {
                    retry = FIRST_DELAY;
                    pause.min(LONGEST_PAUSE)
                }
                Err(error) => {
                    tracing::warn!(%error, retry_in_seconds = retry.as_secs(), "the webhook's certificate can't be kept");
                    let pause = retry;
                    retry = (retry * 2).min(LONGEST_DELAY);
                    pause
                }
            };
            let was_leading = leading.is_cancelled();
            tokio::select! {
                () = woken.notified() => {}
                () = leading.cancelled(), if !was_leading => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Does what is to be done now, and says when to look again if nothing happens.
    async fn look(&mut self, followed: &Followed) -> Result<Duration, UpkeepError> {
        let secret = followed.secrets.get(&ObjectRef::new(&self.secret).within(&self.namespace));
        if let Some(data) = secret.as_ref().and_then(|secret| secret.data.as_ref()) {
            self.serve(data);
        }
        if secret.is_some() && !self.leading.is_cancelled() {
            return Ok(LONGEST_PAUSE);
        }
        let now = Timestamp::now();
        let data = secret.as_ref().and_then(|secret| secret.data.as_ref());
        if !self.is_own {
            // Who brings the certificate tells the API server whom to trust.
            let path = data.and_then(|data| serving_key::path(data, now));
            let Some((path, until)) = path else { return Ok(LONGEST_PAUSE) };
            let pause = self.publish(followed, &Wanted { bundle: None, path }).await?;
            return Ok(pause.unwrap_or(LONGEST_PAUSE).min(left(until, now)));
        }
        let plan = own_certificate::plan(data, &self.namespace, now)?;
        if plan.changed {
            // What is written comes back by the watch; the API server hears of an authority only once it is stored.
            self.write(secret.as_deref(), &plan).await?;
            return Ok(LONGEST_PAUSE);
        }
        // A Secret that is whole has the authority's key.
        let (path, until) = serving_key::path(&plan.data, now).unwrap_or_default();
        let due = left(plan.due_at, now).min(left(until, now));
        let wanted = Wanted { bundle: Some(plan.bundle), path };
        Ok(self.publish(followed, &wanted).await?.map_or(due, |pause| pause.min(due)))
    }

    /// Serves what the Secret holds, if that is new.
    fn serve(&mut self, data: &SecretData) {
        if self.seen.as_ref() == Some(data) {
            return;
        }
        match self.key.load(data) {
            Ok(not_after) => tracing::info!(secret = self.secret, %not_after, "webhook certificate loaded"),
            Err(problem) => tracing::warn!(
                secret = self.secret, %problem, "the webhook's certificate can't be used; what was served before goes on"
            ),
        }
        self.seen = Some(data.clone());
    }

    async fn write(&self, existing: Option<&Secret>, plan: &OwnCertificate) -> Result<(), UpkeepError> {
        for note in &plan.notes {
            tracing::warn!(secret = self.secret, note, "the webhook's certificate is mended");
        }
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let written = match existing {
            None => {
                let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
                api.create(&parameters, &new_secret(&plan.data)).await
            }
            Some(secret) if !is_ours(secret) => return Err(UpkeepError::Foreign),
            Some(secret) => {
                let parameters =
                    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
                let patch = json!({
                    "metadata": { "resourceVersion": secret.metadata.resource_version },
                    "data": changes(&plan.data),
                });
                api.patch(&self.secret, &parameters, &Patch::Merge(patch)).await
            }
        };
        match written {
            // Another replica was faster, and the watch tells what it wrote.
            Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_conflict() => Ok(()),
            result => {
                result?;
                tracing::info!(secret = self.secret, "webhook certificate written");
                Ok(())
            }
        }
    }

    /// Tells the API server whom to trust and where to ask. Says when to try again, if somebody else keeps changing it.
    async fn publish(&mut self, followed: &Followed, wanted: &Wanted) -> Result<Option<Duration>, UpkeepError> {
        let Some(configuration) = followed.configurations.get(&ObjectRef::new(CONFIGURATION)) else {
            tracing::warn!(
                name = CONFIGURATION,
                "there is no ValidatingWebhookConfiguration: changes of landfast's objects are not judged, RBAC alone decides. Install it again, or turn the webhook off with LANDFAST_WEBHOOK=false and delete the ClusterRole landfast-edit"
            );
            self.published.cancel();
            return Ok(None);
        };
        let patch = match self.injection.step(&configuration, wanted, Instant::now()) {
            Step::Nothing => {
                self.published.cancel();
                return Ok(None);
            }
            Step::Wait(until) => return Ok(Some(until.saturating_duration_since(Instant::now()))),
            Step::Write(patch) => patch,
        };
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(CONFIGURATION, &parameters, &Patch::Apply(patch)).await {
            // It has changed since it was seen; the watch tells how.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            result => {
                self.injection.wrote(&result?, wanted, Instant::now());
                self.published.cancel();
                tracing::info!("the API server has been told where the webhook is, and whom to trust for it");
            }
        }
        Ok(None)
    }
}

/// At least a little, should a clock be put back.
fn left(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default().max(Duration::from_millis(100))
}

fn is_ours(secret: &Secret) -> bool {
    secret.labels().get(MANAGED_BY).map(String::as_str) == Some("landfast")
}

fn new_secret(data: &SecretData) -> Secret {
    let labels = BTreeMap::from([(MANAGED_BY.to_owned(), "landfast".to_owned())]);
    let metadata = ObjectMeta { name: Some(SECRET.to_owned()), labels: Some(labels), ..ObjectMeta::default() };
    Secret { metadata, type_: Some("kubernetes.io/tls".to_owned()), data: Some(data.clone()), ..Secret::default() }
}

/// The data of a merge patch: entries that are gone are null.
fn changes(data: &SecretData) -> BTreeMap<&str, Option<&ByteString>> {
    own_certificate::owned_entries().map(|entry| (entry, data.get(entry))).collect()
}
