//! Many small requests.

use std::time::Duration;

use anyhow::ensure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Context, Outcome};
use crate::client::{Body, Client, SMALL_BUFFER};
use crate::content::{APP, TAG, sha256};
use crate::measure::{Load, Measured, Meter, drive};
use crate::servers::{Mode, Server};

const STORM: usize = 64;
const MANY: usize = 1000;
/// Connections at the same time where each serves one request.
const NEW: usize = 8;
const HEADS: usize = 8;
/// A buffer for an answer without much of a body: a thousand of them stay small.
const LITTLE: usize = 8 * 1024;

/// GET and HEAD of the manifest by its tag, after a look at what comes.
async fn manifest_requests(server: &Server, context: &Context) -> anyhow::Result<[Vec<u8>; 2]> {
    let path = format!("/v2/{APP}/manifests/{TAG}");
    let requests = ["GET", "HEAD"].map(|method| server.head(method, &path, ""));
    let manifest = &context.content.manifest.bytes;
    let (mut client, mut body) = (server.client(SMALL_BUFFER)?, Vec::new());
    let answer = client.send(&requests[0], Body::None, &mut body).await?;
    ensure!(answer.status == 200 && body == *manifest, "the manifest is another (status {})", answer.status);
    let answer = client.send(&requests[1], Body::None, &mut body).await?;
    ensure!(answer.status == 200 && answer.length == Some(manifest.len() as u64), "HEAD says something else");
    if server.kind.is_landfast() {
        let bare = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", server.place.address);
        client.expect(bare.as_bytes(), 401).await?;
    }
    client.close().await;
    Ok(requests)
}

pub async fn kept(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let measured = storm(server, context, STORM).await?;
    let values = vec![measured.cpu_microseconds_per_request(), measured.requests_per_second()];
    Ok(Outcome { values, measured: vec![measured] })
}

async fn storm(server: &Server, context: &Context, connections: usize) -> anyhow::Result<Measured> {
    let requests = manifest_requests(server, context).await?;
    let work =
        async |client: &mut Client, number: u64| client.expect(&requests[number as usize % 2], 200).await.map(drop);
    measure(server, context, connections, work).await
}

/// A thousand connections to a server that has just started.
pub async fn many(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.restart(Mode::Plain).await?;
    server.authorize(&[APP.to_owned()]).await?;
    server.tree()?.reset_peak()?;
    let measured = storm(server, context, MANY).await?;
    let peak = server.tree()?.peak()?;
    Ok(Outcome { values: vec![mebibytes(peak)], measured: vec![measured] })
}

/// A connection for each request.
pub async fn new(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let requests = manifest_requests(server, context).await?;
    let work = async |client: &mut Client, number: u64| {
        client.expect(&requests[number as usize % 2], 200).await?;
        client.close().await;
        Ok(())
    };
    let measured = measure(server, context, NEW, work).await?;
    Ok(Outcome::of(measured, Measured::cpu_microseconds_per_request))
}

pub async fn head_blob(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let path = |digest: &str| format!("/v2/{APP}/blobs/{digest}");
    let hits: Vec<_> = context.content.small.iter().map(|blob| server.head("HEAD", &path(&blob.digest), "")).collect();
    let hit = async |client: &mut Client, number: u64| {
        client.expect(&hits[number as usize % hits.len()], 200).await.map(drop)
    };
    let hit = measure(server, context, HEADS, hit).await?;
    // Each is asked for once.
    let salt = context.serial();
    let miss = async |client: &mut Client, number: u64| {
        let digest = sha256(format!("{salt} {number}").as_bytes());
        client.expect(&server.head("HEAD", &path(&digest), ""), 404).await.map(drop)
    };
    let miss = measure(server, context, HEADS, miss).await?;
    let values = [hit, miss].map(|measured| measured.cpu_microseconds_per_request()).to_vec();
    Ok(Outcome { values, measured: vec![hit, miss] })
}

/// The storm with a password in each request.
pub async fn htpasswd(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize_with(format!("Authorization: Basic {}\r\n", STANDARD.encode("bench:bench")));
    let measured = storm(server, context, STORM).await;
    server.authorize_with(String::new());
    Ok(Outcome::of(measured?, Measured::cpu_microseconds_per_request))
}

async fn measure<W>(server: &Server, context: &Context, connections: usize, work: W) -> anyhow::Result<Measured>
where
    W: AsyncFn(&mut Client, u64) -> anyhow::Result<()>,
{
    let load = |time: Duration| Load { connections, time, most: u64::MAX, buffer: LITTLE };
    let target = server.target()?;
    drive(&target, load(context.warm_up()), &work).await?;
    let meter = Meter::start(server)?;
    let requests = drive(&target, load(context.time), &work).await?;
    meter.stop(requests, 0).await
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}
