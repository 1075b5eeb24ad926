//! Does the registry work: judged from the claim, the Deployment and its pods.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;

use super::super::status::Verdict;
use super::pods;

/// What the pods and their volume say about themselves.
#[derive(Debug, PartialEq)]
pub(super) struct Readiness {
    pub ready: Verdict,
    pub progressing: Verdict,
}

/// Judges. `claim` is absent where none is used; its absence where one is needed is the caller's to say.
pub(super) fn judge(
    wanted: i32,
    deployment: Option<&Deployment>,
    claim: Option<&PersistentVolumeClaim>,
    pods: &[Arc<Pod>],
) -> Readiness {
    let status = deployment.and_then(|deployment| deployment.status.clone()).unwrap_or_default();
    let current = status.observed_generation >= deployment.and_then(|deployment| deployment.metadata.generation);
    let (updated, available) = (status.updated_replicas.unwrap_or(0), status.available_replicas.unwrap_or(0));
    let done = deployment.is_some() && current && updated == wanted && available >= wanted;
    if done && status.replicas.unwrap_or(0) == wanted {
        let ready = match wanted {
            0 => Verdict::no("ScaledToZero", "replicas is 0: nothing is served"),
            _ => Verdict::yes("PodsReady", ""),
        };
        return Readiness { ready, progressing: Verdict::no("Complete", "") };
    }
    let progress = format!("{available} of {wanted} pods are ready");
    if let Some(verdict) = claim.and_then(|claim| storage_problem(claim, available)) {
        return Readiness { progressing: Verdict::yes("WaitingForStorage", verdict.message.clone()), ready: verdict };
    }
    let (stalled, trouble) = (failure(&status), trouble(pods));
    let text = match stalled.iter().chain(&trouble).cloned().collect::<Vec<_>>() {
        texts if texts.is_empty() => progress,
        texts => format!("{progress}: {}", texts.join("; ")),
    };
    let reason = if stalled.is_some() || trouble.is_some() { "PodsFailing" } else { "PodsStarting" };
    let progressing = match stalled {
        Some(_) => Verdict::no("Stalled", text.clone()),
        None => Verdict::yes(reason, text.clone()),
    };
    // What goes on while enough pods serve leaves the registry ready: an update, and one pod that is away, as the
    // disruption budget allows.
    let ready = match available {
        0 => Verdict::no(reason, text),
        _ if available >= wanted => Verdict::yes("PodsReady", ""),
        _ if available + 1 >= wanted => Verdict::yes("PodsReady", text),
        _ => Verdict::no(reason, text),
    };
    Readiness { ready, progressing }
}

/// Of the first pod that has any, so that it says the same each time.
fn trouble(pods: &[Arc<Pod>]) -> Option<String> {
    let mut pods: Vec<_> = pods.iter().collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods.into_iter().find_map(|pod| pods::trouble(pod))
}

fn storage_problem(claim: &PersistentVolumeClaim, available: i32) -> Option<Verdict> {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    if phase == "Bound" || available > 0 {
        return None;
    }
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let class = class.map_or_else(
        || "it has no storage class and the cluster has no default one".to_owned(),
        |class| format!("does storage class {class} exist and provision volumes?"),
    );
    let name = claim.name_any();
    let message = format!("PersistentVolumeClaim {name} is {phase}: {class} See `kubectl describe pvc {name}`");
    Some(Verdict::no("StorageNotReady", message))
}

fn failure(status: &k8s_openapi::api::apps::v1::DeploymentStatus) -> Option<String> {
    let conditions = status.conditions.iter().flatten();
    let mut failing = conditions.filter(|condition| {
        (condition.type_ == "ReplicaFailure" && condition.status == "True")
            || (condition.type_ == "Progressing" && condition.status == "False")
    });
    failing.next().map(|condition| condition.message.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(status: &str) -> Deployment {
        serde_saphyr::from_str(&format!("metadata: {{name: main, generation: 2}}\nstatus: {status}")).unwrap()
    }

    fn claim(phase: &str) -> PersistentVolumeClaim {
        serde_saphyr::from_str(&format!(
            "metadata: {{name: main-data}}\nspec: {{storageClassName: fast}}\nstatus: {{phase: {phase}}}"
        ))
        .unwrap()
    }

    fn ready(wanted: i32, status: &str, phase: &str) -> (bool, String) {
        let Readiness { ready, .. } = judge(wanted, Some(&deployment(status)), Some(&claim(phase)), &[]);
        (ready.holds, ready.reason)
    }

    const DONE: &str = "{observedGeneration: 2, replicas: 1, updatedReplicas: 1, availableReplicas: 1}";

    #[test]
    fn ready_when_all_pods_of_the_current_spec_serve() {
        assert_eq!(ready(1, DONE, "Bound"), (true, "PodsReady".to_owned()));
        assert_eq!(ready(3, DONE, "Bound"), (false, "PodsStarting".to_owned()));
        let stale = "{observedGeneration: 1, replicas: 1, updatedReplicas: 1, availableReplicas: 1}";
        assert!(judge(1, Some(&deployment(stale)), None, &[]).progressing.holds);
        assert_eq!(judge(1, None, None, &[]).ready.reason, "PodsStarting");
        assert_eq!(ready(0, "{observedGeneration: 2}", "Bound"), (false, "ScaledToZero".to_owned()));
    }

    #[test]
    fn a_claim_that_is_not_bound_is_named() {
        let Readiness { ready, .. } =
            judge(1, Some(&deployment("{observedGeneration: 2}")), Some(&claim("Pending")), &[]);
        assert_eq!(ready.reason, "StorageNotReady");
        assert!(ready.message.contains("main-data") && ready.message.contains("fast"), "{}", ready.message);
    }

    #[test]
    fn what_the_deployment_says_of_failures_is_passed_on() {
        let status =
            "{observedGeneration: 2, conditions: [{type: ReplicaFailure, status: 'True', message: exceeded quota}]}";
        let Readiness { ready, .. } = judge(1, Some(&deployment(status)), None, &[]);
        assert!(ready.reason == "PodsFailing" && ready.message.contains("exceeded quota"), "{ready:?}");
    }

    fn pod(name: &str) -> Arc<Pod> {
        let status = "{containerStatuses: [{name: registry, image: i, imageID: i, restartCount: 1, ready: false, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, message: 'Error: access denied'}}}]}";
        Arc::new(serde_saphyr::from_str(&format!("metadata: {{name: {name}}}\nstatus: {status}")).unwrap())
    }

    #[test]
    fn what_a_pod_ended_with_is_passed_on() {
        let judged = judge(1, Some(&deployment("{observedGeneration: 2}")), None, &[pod("main-b"), pod("main-a")]);
        let expected = "0 of 1 pods are ready: pod main-a: access denied";
        assert_eq!(judged.ready, Verdict::no("PodsFailing", expected));
        assert_eq!(judged.progressing, Verdict::yes("PodsFailing", expected));
    }

    /// Old pods serve while new ones come, and the registry is ready all the while, also if none does.
    #[test]
    fn a_rollout_leaves_it_ready() {
        let rolling = "{observedGeneration: 2, replicas: 4, updatedReplicas: 1, availableReplicas: 3}";
        let judged = judge(3, Some(&deployment(rolling)), None, &[]);
        assert!(judged.ready.holds && judged.progressing.holds, "{judged:?}");
        let stalled = "{observedGeneration: 2, replicas: 4, updatedReplicas: 1, availableReplicas: 3, conditions: [{type: Progressing, status: 'False', message: timed out}]}";
        let judged = judge(3, Some(&deployment(stalled)), None, &[pod("main-a")]);
        assert_eq!((judged.ready.holds, judged.progressing.reason.as_str()), (true, "Stalled"));
        assert!(judged.progressing.message.contains("access denied"), "{judged:?}");
    }

    #[test]
    fn one_of_several_pods_may_be_away() {
        let of_three = |available| {
            ready(
                3,
                &format!("{{observedGeneration: 2, replicas: 3, updatedReplicas: 3, availableReplicas: {available}}}"),
                "Bound",
            )
            .0
        };
        assert_eq!([1, 2, 3].map(of_three), [false, true, true]);
        assert!(!ready(1, "{observedGeneration: 2, replicas: 1, updatedReplicas: 1}", "Bound").0);
    }
}
