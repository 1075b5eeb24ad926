//! `landfast access can-i`

use landfast::policy::access::{Explanation, explain, identify};
use landfast::policy::{Action, Group, Needs, Operation, Snapshot};
use serde_json::{Value, json};

use super::question::{Target, action, target};
use super::{Cluster, Form, Source, Where, print};

#[derive(clap::Args)]
pub struct Arguments {
    /// What is to be done
    #[arg(value_parser = action)]
    action: Action,
    /// The repository, or an image in it, with or without a host name of the Registry
    #[arg(value_name = "REPOSITORY[:TAG|@DIGEST]")]
    repository: String,
    /// Who is to do it
    #[arg(long = "as", value_name = "IDENTITY")]
    identity: String,
    /// A group that he is in, by the name that a Member would give it
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<Group>,
    #[command(flatten)]
    place: Where,
}

/// 0 for yes, 1 for no.
pub async fn run(arguments: &Arguments, cluster: &Cluster) -> anyhow::Result<u8> {
    let Source { registry, snapshot, now } = Source::open(&arguments.place, cluster).await?;
    let Target { repository, tag } = target(&arguments.repository, &registry, &snapshot)?;
    let identity = identify(&snapshot, &arguments.identity, &arguments.groups)?;
    let operation = Operation { action: arguments.action, repository };
    let explanation = explain(&snapshot, &identity, &operation, now);
    let note = tag.and_then(|tag| immutable_note(&snapshot, &operation, &tag));
    match arguments.place.output {
        Form::Text => print::lines(text(&explanation, note.as_deref())),
        Form::Json => print::json(&as_json(&explanation, note.as_deref())),
    }
    Ok(if explanation.is_possible() { 0 } else { 1 })
}

/// What no right helps against.
fn immutable_note(snapshot: &Snapshot, operation: &Operation, tag: &landfast::oci::Tag) -> Option<String> {
    let changes_tags = matches!(operation.action, Action::Push | Action::Delete | Action::DeleteRepository);
    let stays = changes_tags && snapshot.immutable_tags(&operation.repository).contains(tag);
    stays.then(|| format!("tag {tag} is immutable: once it is there it neither moves nor goes, for nobody"))
}

fn text(explanation: &Explanation, note: Option<&str>) -> Vec<String> {
    let answer = if explanation.is_possible() { "yes" } else { "no" };
    let mut lines = vec![answer.to_owned()];
    lines.extend(explanation.because());
    lines.extend(note.map(|note| format!("note: {note}")));
    lines.extend(explanation.advice().map(|advice| format!("to do: {advice}")));
    lines
}

fn as_json(explanation: &Explanation, note: Option<&str>) -> Value {
    let rule = explanation.rule.as_ref().map(|rule| {
        let needs = match rule.needs {
            Needs::Anyone => "Anyone",
            Needs::User => "User",
            Needs::Role(role) => role.name(),
        };
        json!({
            "project": rule.project.to_string(), "path": rule.path, "kind": rule.kind.name(),
            "setBy": rule.set_by.to_string(), "needs": needs,
        })
    });
    json!({
        "allowed": explanation.is_possible(),
        "registry": explanation.registry,
        "identity": explanation.identity.to_string(),
        "action": explanation.operation.action.name(),
        "repository": explanation.operation.repository.as_str(),
        "rule": rule,
        "because": explanation.because(),
        "note": note,
        "advice": explanation.advice(),
    })
}
