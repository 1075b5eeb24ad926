//! Leader election by a Lease (`coordination.k8s.io/v1`), by the rules of client-go's `leaderelection`.
//!
//! # Flow
//! [`LeaseElection::acquire`] looks at the Lease every retry period until it is free, and takes it. From then on a task
//! renews it. [`Held::lost`] resolves when that hasn't worked for the renew deadline, or when somebody else holds the
//! Lease: the caller must stop acting, and exits. [`Held::release`] gives the Lease up, so that the next one need not
//! wait for its expiry.
//!
//! # Guarantees
//! No two processes hold the Lease at once: each write names the resource version that was read, and a holder stops
//! (renew deadline) before anybody else may take over (lease duration).
//!
//! # Assumptions
//! Clocks of different machines may differ by any amount, but run equally fast: whether another's Lease has expired is
//! judged by how long *this* process has seen its record unchanged, never by the times in the record.

use std::future::Future;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Why an election can't be held.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LeaseError {
    #[error("lease duration must be longer than the renew deadline, and that longer than the retry period")]
    Times,
}

/// The times of an election. The defaults are client-go's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

impl LeaseTimes {
    /// Checks the times against each other. The duration counts in whole seconds.
    pub fn new(duration: Duration, renew_deadline: Duration, retry_period: Duration) -> Result<Self, LeaseError> {
        let duration = Duration::from_secs(duration.as_secs());
        let ordered = duration > renew_deadline && renew_deadline > retry_period && !retry_period.is_zero();
        ordered.then_some(Self { duration, renew_deadline, retry_period }).ok_or(LeaseError::Times)
    }
}

/// What is known of the Lease: its record, and when this process first saw it so.
#[derive(Clone, Debug)]
struct Observation {
    record: LeaseSpec,
    since: Instant,
}

/// What to do about the Lease now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is no Lease: make it.
    Create,
    /// It is free, or its holder has been silent for too long: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it.
    Wait,
}

/// Decides. `seen` is `None` if there is no Lease.
fn decide(seen: Option<&Observation>, identity: &str, now: Instant) -> Step {
    let Some(Observation { record, since }) = seen else { return Step::Create };
    let holder = record.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Step::Renew;
    }
    let seconds = u64::try_from(record.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    let valid = now.duration_since(*since) < Duration::from_secs(seconds);
    if valid && !holder.is_empty() { Step::Wait } else { Step::Take }
}

/// Takes note of a record that was read: the time changes only if the record has.
fn observe(before: Option<Observation>, record: Option<&LeaseSpec>, now: Instant) -> Option<Observation> {
    let record = record?;
    let unchanged = before.filter(|old| old.record == *record);
    Some(unchanged.unwrap_or_else(|| Observation { record: record.clone(), since: now }))
}

/// The record to write. What it doesn't know of stays as it was.
fn claim(before: LeaseSpec, step: Step, identity: &str, times: LeaseTimes, now: Timestamp) -> LeaseSpec {
    let transitions = before.lease_transitions.unwrap_or(0);
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(i32::try_from(times.duration.as_secs()).unwrap_or(i32::MAX)),
        renew_time: Some(MicroTime(now)),
        acquire_time: if step == Step::Renew { before.acquire_time } else { Some(MicroTime(now)) },
        lease_transitions: Some(if step == Step::Take { transitions.saturating_add(1) } else { transitions }),
        ..before
    }
}

/// One process's part in an election.
pub struct LeaseElection {
    leases: Api<Lease>,
    namespace: String,
    name: String,
    identity: String,
    times: LeaseTimes,
    seen: Option<Observation>,
}

impl LeaseElection {
    /// `identity` must differ from that of every other process; an empty one would stand for nobody.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str, times: LeaseTimes) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            times,
            seen: None,
        }
    }

    /// Waits until the Lease is ours. `None`: `shutdown` came first. Errors of the API server are logged and tried
    /// again, for as long as it takes.
    pub async fn acquire(mut self, shutdown: impl Future<Output = ()>) -> Option<Held> {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let started = Instant::now();
            // Once the Lease may have been taken the attempt isn't cut short by `shutdown`: it would stay taken.
            match timeout(self.times.renew_deadline, self.attempt()).await {
                Ok(Ok(true)) => return Some(Held::start(self, started)),
                Ok(Ok(false)) => tracing::debug!(lease = self.name, "lease is held by another process"),
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "can't take the lease, will try again"),
                Err(_) => tracing::warn!(lease = self.name, "API server doesn't answer about the lease"),
            }
            // Spread, so that the candidates don't all come at the same moment (client-go's jitter factor).
            let pause = self.times.retry_period.mul_f64(1.0 + 1.2 * rand::random::<f64>());
            tokio::select! {
                () = &mut shutdown => return None,
                () = sleep(pause) => {}
            }
        }
    }

    /// Reads the Lease and takes or renews it if that is allowed. Says whether it is ours now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(&self.name).await?;
        // A Lease without a spec is a free one.
        let record = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let now = Instant::now();
        self.seen = observe(self.seen.take(), record.as_ref(), now);
        let step = decide(self.seen.as_ref(), &self.identity, now);
        if step == Step::Wait {
            return Ok(false);
        }
        let spec = claim(record.unwrap_or_default(), step, &self.identity, self.times, Timestamp::now());
        let written = self.write(lease, spec).await?;
        self.seen = observe(self.seen.take(), written.spec.as_ref(), now);
        Ok(true)
    }

    /// Writes the record. The resource version in `lease` makes it fail if somebody else was faster.
    async fn write(&self, lease: Option<Lease>, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        let parameters = PostParams::default();
        match lease {
            Some(lease) => self.leases.replace(&self.name, &parameters, &Lease { spec: Some(spec), ..lease }).await,
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.name.clone()),
                    namespace: Some(self.namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.leases.create(&parameters, &Lease { metadata, spec: Some(spec) }).await
            }
        }
    }

    /// Renews until `stop`, or until the Lease is lost. `renewed` is when the request began that took it.
    async fn keep(mut self, stop: CancellationToken, mut renewed: Instant) -> Option<Self> {
        loop {
            let left = (renewed + self.times.renew_deadline).saturating_duration_since(Instant::now());
            if stop.run_until_cancelled(sleep(left.min(self.times.retry_period))).await.is_none() {
                return Some(self);
            }
            let started = Instant::now();
            let left = (renewed + self.times.renew_deadline).saturating_duration_since(started);
            if left.is_zero() {
                tracing::error!(lease = self.name, "lease could not be renewed in time");
                return None;
            }
            match timeout(left, self.attempt()).await {
                // Counted from before the request: others count from when they see its effect, which is later.
                Ok(Ok(true)) => renewed = started,
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "lease has been taken by another process");
                    return None;
                }
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "can't renew the lease"),
                Err(_) => tracing::warn!(lease = self.name, "API server doesn't answer about the lease"),
            }
        }
    }

    /// Gives the Lease up, if it is still ours.
    async fn give_up(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let before = lease.spec.clone().unwrap_or_default();
        if before.holder_identity.as_deref() != Some(&self.identity) {
            return Ok(());
        }
        let now = Some(MicroTime(Timestamp::now()));
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            // Not zero: the API server doesn't take it.
            lease_duration_seconds: Some(1),
            renew_time: now.clone(),
            acquire_time: now,
            ..before
        };
        self.write(Some(lease), spec).await.map(drop)
    }
}

/// The Lease is ours. If this is dropped it is no longer renewed, and expires.
pub struct Held {
    stop: CancellationToken,
    lost: CancellationToken,
    task: JoinHandle<Option<LeaseElection>>,
}

impl Held {
    fn start(election: LeaseElection, since: Instant) -> Self {
        let (stop, lost) = (CancellationToken::new(), CancellationToken::new());
        let (stopped, ended) = (stop.clone(), lost.clone());
        let task = tokio::spawn(async move {
            // A guard, so that a panic counts as a loss too.
            let _guard = ended.drop_guard();
            election.keep(stopped, since).await
        });
        Self { stop, lost, task }
    }

    /// Resolves when the Lease is no longer kept: it is lost, or has been released or dropped.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.lost.clone().cancelled_owned()
    }

    /// Gives the Lease up so that another process can take it at once. Call it when all work has stopped.
    ///
    /// A failure is logged only: the Lease then expires by itself.
    pub async fn release(mut self) {
        self.stop.cancel();
        let Ok(Some(election)) = (&mut self.task).await else { return };
        match timeout(election.times.renew_deadline, election.give_up()).await {
            Ok(Ok(())) => tracing::info!(lease = election.name, "lease released"),
            Ok(Err(error)) => tracing::warn!(lease = election.name, %error, "can't release the lease, it will expire"),
            Err(_) => tracing::warn!(lease = election.name, "can't release the lease in time, it will expire"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
