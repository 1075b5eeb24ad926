//! Who says how many pods there are: the Registry, or the autoscaler.
//!
//! # Flow
//! What an applier stops to name is gone, if nobody else names it. When a Registry begins to scale by itself, the number of
//! pods is therefore first named by a second field manager, [`HANDOVER`], then no longer by the operator's own, and then
//! the autoscaler is made, whose writes take it over. Otherwise the Deployment would fall to one pod on the way.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::Api;
use kube::api::{Patch, PatchParams};

use super::super::FIELD_MANAGER;
use super::super::apply::{ApplyError, Owner};
use super::super::context::Context;
use super::super::world::Child as _;
use super::build::names;
use crate::api::v1alpha1::Registry;

const HANDOVER: &str = "landfast-handover";

/// Keeps the number of pods as it is, within the autoscaler's bounds, while nobody is about to own it.
pub(super) async fn hand_over(
    registry: &Registry,
    owner: &Owner,
    known: Option<&Deployment>,
    context: &Context,
) -> Result<(), ApplyError> {
    let (namespace, name) = (names::namespace(registry), names::name(registry));
    let autoscaler = HorizontalPodAutoscaler::observed(&context.world, Some(&namespace), &name);
    let Some(deployment) = known.filter(|known| owner.owns(&known.metadata)) else { return Ok(()) };
    let Some(replicas) = handed_over(registry, deployment).filter(|_| autoscaler.is_none()) else { return Ok(()) };
    let api: Api<Deployment> = Api::namespaced(context.client.clone(), &namespace);
    let failed = |source| ApplyError::Api { kind: "Deployment".to_owned(), name: name.clone(), source };
    // Once it is handed over it stays so, also while the autoscaler can't be made: else it would be written again and again.
    if !api.get_metadata_opt(&name).await.map_err(failed)?.is_some_and(|known| is_named_by_us(&known.metadata)) {
        return Ok(());
    }
    // With its UID: one that is gone is not made anew.
    let patch = serde_json::json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": name, "uid": deployment.metadata.uid },
        "spec": { "replicas": replicas },
    });
    context.metrics.wrote("Deployment");
    match api.patch(&name, &PatchParams::apply(HANDOVER).force(), &Patch::Apply(patch)).await {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        result => {
            result.map_err(failed)?;
            Ok(())
        }
    }
}

/// Whether it is the operator who says how many pods there are.
fn is_named_by_us(deployment: &ObjectMeta) -> bool {
    let named = |entry: &ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER)
            && entry.operation.as_deref() == Some("Apply")
            && entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    };
    deployment.managed_fields.iter().flatten().any(named)
}

/// `None` where the Registry itself says how many pods there are.
fn handed_over(registry: &Registry, deployment: &Deployment) -> Option<i32> {
    let settings = registry.spec.autoscaling.as_ref().filter(|_| registry.spec.replicas > 0)?;
    // Not `clamp`, which panics on bounds that are no bounds: the CRD's rule may have been taken out.
    Some(current(deployment).min(settings.max_replicas).max(settings.min_replicas))
}

/// How many pods there are to be.
pub(super) fn wanted(registry: &Registry, deployment: Option<&Deployment>) -> i32 {
    let itself = registry.spec.autoscaling.is_none() || registry.spec.replicas == 0;
    if itself { registry.spec.replicas } else { deployment.map_or(0, current) }
}

/// Kubernetes makes one where a Deployment doesn't say.
fn current(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn registry(replicas: &str) -> Registry {
        serde_saphyr::from_str(&format!(
            "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {{name: main, namespace: ns}}\nspec: {{storage: {{s3: {{bucket: images}}}}, {replicas}}}"
        ))
        .unwrap()
    }

    fn deployment(replicas: i32) -> Deployment {
        serde_saphyr::from_str(&format!(
            "metadata: {{name: main}}\nspec: {{replicas: {replicas}, selector: {{}}, template: {{}}}}"
        ))
        .unwrap()
    }

    #[rstest]
    #[case::by_hand("replicas: 3", 2, None)]
    #[case::as_it_is("replicas: 1, autoscaling: {maxReplicas: 5}", 3, Some(3))]
    #[case::too_few("replicas: 1, autoscaling: {maxReplicas: 5}", 0, Some(2))]
    #[case::too_many("replicas: 1, autoscaling: {maxReplicas: 5}", 9, Some(5))]
    #[case::stopped("replicas: 0, autoscaling: {maxReplicas: 5}", 3, None)]
    #[case::no_bounds("replicas: 1, autoscaling: {minReplicas: 5, maxReplicas: 2}", 3, Some(5))]
    fn an_autoscaler_begins_with(#[case] spec: &str, #[case] current: i32, #[case] expected: Option<i32>) {
        assert_eq!(handed_over(&registry(spec), &deployment(current)), expected);
    }

    #[rstest]
    #[case::named("{manager: landfast, operation: Apply, fieldsV1: {f:spec: {f:replicas: {}}}}", true)]
    #[case::not_named("{manager: landfast, operation: Apply, fieldsV1: {f:spec: {f:selector: {}}}}", false)]
    #[case::handed_over("{manager: landfast-handover, operation: Apply, fieldsV1: {f:spec: {f:replicas: {}}}}", false)]
    #[case::by_others("{manager: kubectl, operation: Update, fieldsV1: {f:spec: {f:replicas: {}}}}", false)]
    fn the_number_of_pods_is_handed_over_while_we_name_it(#[case] entry: &str, #[case] expected: bool) {
        let entry = entry.replace("manager: landfast,", &format!("manager: {FIELD_MANAGER},"));
        let metadata = format!("managedFields: [{entry}]").replace("f:spec", "'f:spec'");
        let metadata = metadata.replace("f:replicas", "'f:replicas'").replace("f:selector", "'f:selector'");
        let metadata: ObjectMeta = serde_saphyr::from_str(&metadata).unwrap();
        assert_eq!(is_named_by_us(&metadata), expected);
    }

    #[rstest]
    #[case::by_hand("replicas: 3", 2, 3)]
    #[case::autoscaled("replicas: 1, autoscaling: {maxReplicas: 5}", 4, 4)]
    #[case::stopped("replicas: 0, autoscaling: {maxReplicas: 5}", 4, 0)]
    fn as_many_pods_are_wanted(#[case] spec: &str, #[case] current: i32, #[case] expected: i32) {
        assert_eq!(wanted(&registry(spec), Some(&deployment(current))), expected);
    }
}
