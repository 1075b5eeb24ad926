//! `landfast access who-can`

use landfast::policy::Action;
use landfast::policy::access::{Holder, who_can};
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
    #[command(flatten)]
    place: Where,
}

pub async fn run(arguments: &Arguments, cluster: &Cluster) -> anyhow::Result<u8> {
    let Source { registry, snapshot, now } = Source::open(&arguments.place, cluster).await?;
    let Target { repository, .. } = target(&arguments.repository, &registry, &snapshot)?;
    if snapshot.project_of(&repository).is_none() {
        eprintln!("warning: no Project owns {repository}");
    }
    let holders = who_can(&snapshot, arguments.action, &repository, now);
    match arguments.place.output {
        Form::Text => print::lines(table(&holders)),
        Form::Json => print::json(&Value::Array(holders.iter().map(as_json).collect())),
    }
    Ok(0)
}

fn table(holders: &[Holder]) -> Vec<String> {
    let head = ["WHO".to_owned(), "ROLE".to_owned(), "REASON".to_owned()];
    let row = |holder: &Holder| {
        let role = holder.role.map_or("-", |role| role.name()).to_owned();
        let but = holder.login.as_ref().map(|login| format!("; but {login}")).unwrap_or_default();
        [holder.principal.to_string(), role, format!("{}{but}", holder.reason)]
    };
    print::columns(std::iter::once(head).chain(holders.iter().map(row)).collect())
}

fn as_json(holder: &Holder) -> Value {
    json!({
        "kind": holder.principal.kind(),
        "who": holder.principal.to_string(),
        "role": holder.role.map(|role| role.name()),
        "reason": holder.reason,
        "noLogin": holder.login.as_ref().map(ToString::to_string),
    })
}
