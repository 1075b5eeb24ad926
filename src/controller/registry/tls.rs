//! The serving certificate of a Registry: issued and renewed, or brought and checked.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::runtime::events::EventType;

use super::super::apply::{ApplyError, Owner};
use super::super::certificates::{Authority, CertificateError, Planned, SecretData, Serving, inspect, wanted_names};
use super::super::context::{Context, ReconcileError};
use super::super::status::{self, Verdict};
use super::build::names;
use crate::api::v1alpha1::{Registry, TlsStatus};

/// What came out.
#[derive(Default)]
pub(super) struct Outcome {
    pub status: Option<TlsStatus>,
    /// What is wrong, if anything.
    pub problem: Option<Verdict>,
    /// When there is something to do next.
    pub due_at: Option<Timestamp>,
}

/// Brings the certificate in place.
pub(super) async fn bring_in_place(
    registry: &Registry,
    owner: &Owner,
    cluster_ip: Option<&str>,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let tls = &registry.spec.tls;
    if tls.disabled.is_some() {
        remove_own(registry, owner, context, None).await?;
        return Ok(Outcome::default());
    }
    if let Some(brought) = &tls.secret_ref {
        // The one that was brought may have been ours before.
        remove_own(registry, owner, context, Some(&brought.name)).await?;
        return check(registry, &brought.name, context, now).await;
    }
    issue(registry, owner, cluster_ip, context, now).await
}

async fn remove_own(
    registry: &Registry,
    owner: &Owner,
    context: &Context,
    but: Option<&str>,
) -> Result<(), ReconcileError> {
    let namespace = names::namespace(registry);
    let own = [names::authority_secret(registry), format!("{}-tls", names::name(registry))];
    for name in own.into_iter().filter(|name| Some(name.as_str()) != but) {
        context.apply.delete::<Secret>(owner, Some(&namespace), &name).await?;
    }
    Ok(())
}

async fn check(registry: &Registry, name: &str, context: &Context, now: Timestamp) -> Result<Outcome, ReconcileError> {
    let namespace = names::namespace(registry);
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let problem = |reason, message| Outcome { problem: Some(Verdict::no(reason, message)), ..Outcome::default() };
    let Some(secret) = api.get_opt(name).await? else {
        let message =
            format!("there is no Secret {name} in namespace {namespace}: create it, or correct tls.secretRef");
        return Ok(problem("CertificateNotFound", message));
    };
    match inspect(&secret.data.unwrap_or_default()) {
        Err(error) => Ok(problem("CertificateInvalid", format!("Secret {name}: {error}"))),
        Ok(provided) if provided.not_after <= now => {
            let message = format!("the certificate in Secret {name} expired at {}: replace it", provided.not_after);
            Ok(problem("CertificateExpired", message))
        }
        Ok(provided) => {
            let (secret_name, not_after) = (name.to_owned(), Some(Time(provided.not_after)));
            let status = TlsStatus { secret_name, ca_bundle: provided.ca_bundle, not_after };
            Ok(Outcome { status: Some(status), problem: None, due_at: Some(provided.not_after) })
        }
    }
}

async fn issue(
    registry: &Registry,
    owner: &Owner,
    cluster_ip: Option<&str>,
    context: &Context,
    now: Timestamp,
) -> Result<Outcome, ReconcileError> {
    let (namespace, name) = (names::namespace(registry), names::name(registry));
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let invalid = |error: CertificateError| ReconcileError::Certificate(error.to_string());

    let authority_name = names::authority_secret(registry);
    let existing = read(&api, owner, &authority_name).await?;
    let data = existing.as_ref().and_then(|secret| secret.data.as_ref());
    let authority = Authority::plan(&format!("landfast registry {namespace}/{name}"), data, now).map_err(invalid)?;
    report(context, registry, &authority.notes).await;
    // The authority is stored before anything is signed with it: a leaf of an authority that nobody has is worthless.
    // And only if it is still as it was read: two operators, one of them about to stop, must not make two.
    let version = existing.and_then(|secret| secret.metadata.resource_version);
    let target = (authority_name, "Opaque", version);
    store(registry, owner, context, target, &authority, Authority::data).await?;
    let authority = authority.value;

    let serving_name = names::tls_secret(registry).unwrap_or_else(|| format!("{name}-tls"));
    let existing = read(&api, owner, &serving_name).await?;
    let data = existing.as_ref().and_then(|secret| secret.data.as_ref());
    let wanted = wanted_names(registry, cluster_ip);
    let serving = Serving::plan(data, &authority, &wanted, now).map_err(invalid)?;
    report(context, registry, &serving.notes).await;
    let target = (serving_name.clone(), "kubernetes.io/tls", None);
    store(registry, owner, context, target, &serving, Serving::data).await?;
    let serving = serving.value;
    if let Some(reason) = serving.issued {
        let note = format!("a serving certificate was issued, valid until {}: {reason}", serving.not_after());
        status::event(context, registry, EventType::Normal, "CertificateIssued", note).await;
    }
    let status = TlsStatus {
        secret_name: serving_name,
        ca_bundle: Some(authority.bundle()),
        not_after: Some(Time(serving.not_after())),
    };
    let due_at = Some(serving.renew_at().min(authority.due_at()));
    Ok(Outcome { status: Some(status), problem: None, due_at })
}

/// Reads a Secret of ours. One that somebody else has put in its place is not trusted.
async fn read(api: &Api<Secret>, owner: &Owner, name: &str) -> Result<Option<Secret>, ReconcileError> {
    let secret = api.get_opt(name).await?;
    if secret.as_ref().is_some_and(|secret| !owner.owns(&secret.metadata)) {
        return Err(ApplyError::Foreign { kind: "Secret".to_owned(), name: name.to_owned() }.into());
    }
    Ok(secret)
}

async fn store<T>(
    registry: &Registry,
    owner: &Owner,
    context: &Context,
    (name, type_, version): (String, &str, Option<String>),
    planned: &Planned<T>,
    data: impl Fn(&T) -> SecretData,
) -> Result<(), ReconcileError> {
    if !planned.changed {
        return Ok(());
    }
    let metadata = ObjectMeta { resource_version: version, ..names::owned(registry, name) };
    let secret =
        Secret { metadata, type_: Some(type_.to_owned()), data: Some(data(&planned.value)), ..Secret::default() };
    context.apply.apply(owner, secret).await?;
    Ok(())
}

async fn report(context: &Context, registry: &Registry, notes: &[String]) {
    for note in notes {
        status::event(context, registry, EventType::Warning, "CertificateReplaced", note.clone()).await;
    }
}
