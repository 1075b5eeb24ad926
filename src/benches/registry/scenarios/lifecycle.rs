//! Starting, and the memory of a server that does little.

use super::storms::mebibytes;
use super::{Context, Outcome};
use crate::client::LARGE_BUFFER;
use crate::content::APP;
use crate::measure::Meter;
use crate::servers::{Mode, Server};

const STARTS: usize = 5;

/// On a folder with content. landfast is asked with a token and answers 200, as the others do.
pub async fn start(server: &mut Server) -> anyhow::Result<Outcome> {
    server.ensure(Mode::Plain).await?;
    server.authorize(&[APP.to_owned()]).await?;
    let mut best = f64::INFINITY;
    for _ in 0..STARTS {
        best = best.min(server.restart(Mode::Plain).await?.as_secs_f64() * 1e3);
        server.client(LARGE_BUFFER)?.expect(&server.head("GET", "/v2/", ""), 200).await?;
    }
    Ok(Outcome { values: vec![best], measured: vec![] })
}

pub async fn memory(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.restart(Mode::Plain).await?;
    server.authorize(&[APP.to_owned()]).await?;
    let tree = server.tree()?;
    let started = tree.resident()?;
    tree.reset_peak()?;
    let request = server.head("GET", &format!("/v2/{APP}/blobs/{}", context.content.large.digest), "");
    let meter = Meter::start(server)?;
    let bytes = server.client(LARGE_BUFFER)?.expect(&request, 200).await?;
    let measured = meter.stop(1, bytes).await?;
    Ok(Outcome { values: vec![mebibytes(started), mebibytes(tree.peak()?)], measured: vec![measured] })
}
