//! Admission: what people do to our objects is judged before the API server stores it.
//!
//! # Flow
//! The API server asks any replica ([`server`]). A [`Request`] is what it asks about, parsed ([`review`]). [`rules`]
//! judges it against the policy as it is and as it would be. The certificate of the server lies in a Secret; the leader
//! makes it and tells the API server whom to trust, and every replica serves what the Secret holds ([`upkeep`]).
//!
//! # Guarantees
//! - What can't be judged is denied, with the reason, and the API server gets its answer before it gives up.
//! - Requests of the operator itself and of Kubernetes' own controllers never come here (the webhook's
//!   `matchConditions`): nothing hangs while no replica is there to answer.

mod injection;
mod metrics;
mod own_certificate;
mod privileges;
mod request;
mod review;
mod rules;
mod server;
mod serving_key;
mod upkeep;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(super) use request::{Change, Request, Requester, Versions};
pub(super) use rules::{Judgement, Objects, Privileges, judge};

use super::world::World;
use crate::telemetry::Metrics;
use metrics::AdmissionMetrics;
use privileges::SubjectAccessReviews;
use review::Question;
use server::{Judge, Unavailable};
use serving_key::ServingKey;
use upkeep::Upkeep;

/// The Service by which the API server reaches the webhook.
pub const SERVICE: &str = "landfast-operator-webhook";
/// The ValidatingWebhookConfiguration.
pub const CONFIGURATION: &str = "landfast";
/// The Secret with the authority and the certificate that the operator makes.
pub const SECRET: &str = "landfast-webhook";

/// Settings of the webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Namespace of the operator.
    pub namespace: String,
    /// Secret with a certificate that somebody else makes, and tells the API server of. Without one the operator does
    /// both.
    pub certificate_secret: Option<String>,
}

/// One replica's webhook.
pub struct Webhook {
    judge: Arc<dyn Judge>,
    key: Arc<ServingKey>,
    upkeep: Upkeep,
    metrics: AdmissionMetrics,
}

impl Webhook {
    pub(super) fn new(
        client: &Client,
        world: &Arc<World>,
        settings: WebhookSettings,
        synced: CancellationToken,
        leading: CancellationToken,
        metrics: &Metrics,
    ) -> Self {
        let judge = Rules { world: Arc::clone(world), privileges: SubjectAccessReviews::new(client.clone()), synced };
        let key = Arc::new(ServingKey::default());
        let upkeep = Upkeep::new(client.clone(), settings, leading, Arc::clone(&key));
        Self { judge: Arc::new(judge), key, upkeep, metrics: AdmissionMetrics::register(metrics) }
    }

    /// Says why the API server can't be answered yet, if so.
    pub fn readiness(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let (key, published) = (Arc::clone(&self.key), self.upkeep.published());
        move || match () {
            () if !key.is_loaded() => Err("the webhook has no certificate yet".to_owned()),
            () if !published() => Err("the API server does not know the webhook's authority yet".to_owned()),
            () => Ok(()),
        }
    }

    /// Serves until some time after `shutdown`: until nobody asks this replica any more.
    pub async fn serve(self, listener: TcpListener, shutdown: CancellationToken) {
        let Self { judge, key, upkeep, metrics } = self;
        let upkeep = upkeep.run(shutdown.clone());
        tokio::join!(upkeep, server::serve(listener, key, judge, metrics, shutdown));
    }
}

/// Judges by the rules.
struct Rules {
    world: Arc<World>,
    privileges: SubjectAccessReviews,
    synced: CancellationToken,
}

/// How long news is waited for that may change a refusal, or bring what an object refers to, and how often it is looked for.
const CATCH_UP: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(50);

impl Rules {
    /// Judges by what is known now. Of objects that are applied together the one is often here before the watch has told of
    /// the other, such as a namespace's label: so what is refused or missing is judged again when there is news at once.
    async fn judge_change(&self, request: &Request) -> Result<Judgement, kube::Error> {
        let began = Instant::now();
        loop {
            let version = self.world.version();
            let objects = Objects::of(&self.world);
            let judgement = judge(&objects, &self.privileges, request, Timestamp::now()).await?;
            if judgement.denial.is_none() && !objects.lack_a_reference_of(&request.change) {
                return Ok(judgement);
            }
            while self.world.version() == version {
                if began.elapsed() >= CATCH_UP {
                    return Ok(judgement);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

#[async_trait]
impl Judge for Rules {
    async fn judge(&self, question: Question) -> Result<Judgement, Unavailable> {
        if !self.synced.is_cancelled() {
            return Err(Unavailable::NotRead);
        }
        match question {
            Question::Change(request) => Ok(self.judge_change(&request).await?),
            Question::Release(release) => Ok(release.judge(&self.privileges).await?),
        }
    }
}
