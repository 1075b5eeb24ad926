//! The rules: who may change what, and what can't be accepted.
//!
//! # Flow
//! A change is compared with what the object says now ([`needs`]): each difference needs something, as the permission
//! matrix says. The requester has it by a Member that names him, in the policy as it is now, or he is free of it by a
//! right of Kubernetes ([`authority`]). Then the policy with the change is compiled: what it would refuse is refused here
//! already ([`validity`]). And both are compared, to say who gains and who loses what before it is so.
//!
//! # Guarantees
//! - Nobody grants what he lacks: neither a greater role, nor more repositories, nor for longer.
//! - What is said twice is not asked twice: an object that stays as it is may be written by whoever may write it.
//! - Those who may not do something hear nothing of what others have; those of a namespace nothing of who has a role in the
//!   whole Registry.

mod authority;
mod needs;
mod objects;
#[cfg(test)]
mod tests;
mod validity;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;

use self::authority::Authority;
pub use self::objects::Objects;
use self::objects::Plan;
use super::{Request, Requester};
use crate::policy::access::{self, Principal};

/// What a requester may do by Kubernetes' own rights (a SubjectAccessReview).
#[async_trait]
pub trait Privileges: Send + Sync {
    /// Whether he may do `verb` to `resource` of our API group, in this namespace, to the object of this name if there is one.
    async fn may(
        &self,
        requester: &Requester,
        verb: &str,
        resource: &str,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<bool, kube::Error>;
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why not, and what to do instead.
    pub denial: Option<String>,
    /// What somebody should know who does this.
    pub warnings: Vec<String>,
}

/// Judges a change.
pub async fn judge(
    objects: &Objects,
    privileges: &dyn Privileges,
    request: &Request,
    now: Timestamp,
) -> Result<Judgement, kube::Error> {
    let Some((gone, come)) = request.change.as_move() else {
        return judge_in_place(objects, privileges, request, now).await;
    };
    // What goes from one place to another needs what it needs in both.
    let of = |change| Request { change, ..request.clone() };
    let gone = judge_in_place(objects, privileges, &of(gone), now).await?;
    if gone.denial.is_some() {
        return Ok(gone);
    }
    let come = judge_in_place(objects, privileges, &of(come), now).await?;
    Ok(Judgement { warnings: [gone.warnings, come.warnings].concat(), ..come })
}

async fn judge_in_place(
    objects: &Objects,
    privileges: &dyn Privileges,
    request: &Request,
    now: Timestamp,
) -> Result<Judgement, kube::Error> {
    let (among, planned) = (objects.clone(), request.clone());
    let Some(plan) = aside(move || among.plan(&planned, now)).await else { return Ok(Judgement::default()) };
    let mut needs = needs::of(&request.change);
    needs.extend(plan.is_near_official.then(needs::near_official));
    let authority = Authority { plan: &plan, requester: &request.requester, privileges, now };
    if let Some(denial) = authority.lacks(&needs).await? {
        return Ok(Judgement { denial: Some(denial), warnings: Vec::new() });
    }
    let validity::Verdict { denial, mut warnings } = validity::of(objects, &plan, &request.change);
    if denial.is_none() {
        warnings.extend(aside(move || who_is_touched(&plan, now)).await);
    }
    Ok(Judgement { denial, warnings })
}

/// Work that takes a second where a Registry with many Members changes: others are answered meanwhile.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process is ending, and nobody waits for the answer.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Who gains and who loses what.
fn who_is_touched(plan: &Plan, now: Timestamp) -> Vec<String> {
    let (Some(before), Some(after)) = (&plan.before, &plan.after) else { return Vec::new() };
    let mut difference = access::diff(&before.snapshot, &after.snapshot, now);
    if let Some(known) = &plan.known {
        difference.changes.retain(|change| match &change.principal {
            somebody @ (Principal::User(_) | Principal::Group(_) | Principal::Robot { .. }) => known.contains(somebody),
            _ => true,
        });
    }
    access::summarize(&difference)
}
