//! What writes. Each answer means that the content survives a crash, as far as the server promises it.

use anyhow::ensure;

use super::storms::mebibytes;
use super::{Context, Outcome};
use crate::client::{Client, LARGE_BUFFER, SMALL_BUFFER};
use crate::content::{APP, Blob, Made};
use crate::measure::{Load, Measured, Meter, drive};
use crate::push::{self, Way};
use crate::seed::TAGGED;
use crate::servers::{Mode, Server};

const PUSHED: &str = "bench/pushed";
/// Bytes of the large ones.
pub const LARGEST_PUSH: usize = 128 * 1024 * 1024;
/// Of them in one measurement.
const PUSHES: usize = 2;
const CONNECTIONS: usize = 4;
/// Small blobs that one measurement pushes at most.
const SMALL_PUSHES: usize = 4_000;
/// Repositories that one measurement mounts into.
const MOUNT_TARGETS: u64 = 8;

/// Large blobs, one after the other, in one of the ways.
pub async fn large(server: &mut Server, context: &mut Context, way: Way) -> anyhow::Result<Outcome> {
    server.authorize(&[PUSHED.to_owned()]).await?;
    let mut client = server.client(LARGE_BUFFER)?;
    push::check(server, &mut client, PUSHED, &context.fresh.small(1)[0], way).await?;
    let mut sum = Measured::default();
    for _ in 0..PUSHES {
        let (bytes, digest) = context.fresh.next(LARGEST_PUSH);
        let meter = Meter::start(server)?;
        let status = push::blob(server, &mut client, PUSHED, (bytes, &digest), way).await?;
        sum = sum.plus(&meter.stop(1, LARGEST_PUSH as u64).await?);
        ensure!(status == 201, "status {status} of a push");
        client.expect(&server.head("HEAD", &format!("/v2/{PUSHED}/blobs/{digest}"), ""), 200).await?;
    }
    Ok(Outcome::of(sum, Measured::cpu_seconds_per_gigabyte))
}

/// One blob, as large as asked for, to a server that has just started: how far its memory grows.
pub async fn growth(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.restart(Mode::Plain).await?;
    server.authorize(&[PUSHED.to_owned()]).await?;
    let made = Made::new(context.large_blob);
    let digest = made.digest();
    let mut client = server.client(LARGE_BUFFER)?;
    server.tree()?.reset_peak()?;
    let (before, meter) = (server.tree()?.resident()?, Meter::start(server)?);
    let status = push::made(server, &mut client, PUSHED, (made, &digest)).await?;
    let measured = meter.stop(1, made.length).await?;
    ensure!(status == 201, "status {status} of a push");
    let grown = server.tree()?.peak()?.saturating_sub(before);
    client.expect(&server.head("HEAD", &format!("/v2/{PUSHED}/blobs/{digest}"), ""), 200).await?;
    let values = vec![mebibytes(grown), measured.cpu_seconds_per_gigabyte()];
    Ok(Outcome { values, measured: vec![measured] })
}

pub async fn small(server: &mut Server, context: &mut Context) -> anyhow::Result<Outcome> {
    server.authorize(&[PUSHED.to_owned()]).await?;
    let blobs = context.fresh.small(SMALL_PUSHES);
    push::check(server, &mut server.client(SMALL_BUFFER)?, PUSHED, &blobs[0], Way::Monolithic).await?;
    let blobs = &blobs[1..];
    let work = async |client: &mut Client, number: u64| {
        let Blob { digest, bytes } = &blobs[number as usize];
        let status = push::blob(server, client, PUSHED, (bytes, digest), Way::Monolithic).await?;
        ensure!(status == 201, "status {status} of a push");
        Ok(())
    };
    let measured = measure(server, context, blobs.len() as u64, work).await?;
    Ok(Outcome::of(measured, Measured::cpu_microseconds_per_request))
}

/// New tags of a manifest that is there.
pub async fn tag(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let (manifest, serial) = (&context.content.manifest, context.serial());
    let work = async |client: &mut Client, number: u64| {
        push::manifest(server, client, APP, &format!("t{serial}-{number}"), manifest).await
    };
    let measured = measure(server, context, u64::MAX, work).await?;
    let last = server.head("GET", &format!("/v2/{APP}/manifests/t{serial}-0"), "");
    let received = server.client(SMALL_BUFFER)?.expect(&last, 200).await?;
    ensure!(received == manifest.bytes.len() as u64, "the tag is not there");
    Ok(Outcome::of(measured, Measured::cpu_microseconds_per_request))
}

/// Small blobs into repositories that don't hold them yet.
pub async fn mount(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    let serial = context.serial();
    let targets: Vec<String> = (0..MOUNT_TARGETS).map(|number| format!("bench/mounted-{serial}-{number}")).collect();
    let scopes: Vec<String> = targets.iter().cloned().chain([APP.to_owned(), TAGGED.to_owned()]).collect();
    server.authorize(&scopes).await?;
    let blobs = &context.content.small;
    let work = async |client: &mut Client, number: u64| {
        let (target, blob) = (number as usize / blobs.len(), number as usize % blobs.len());
        push::mount(server, client, &targets[target], APP, &blobs[blob].digest).await
    };
    let measured = measure(server, context, MOUNT_TARGETS * blobs.len() as u64, work).await?;
    let there = server.head("GET", &format!("/v2/{}/blobs/{}", targets[0], blobs[0].digest), "");
    server.client(SMALL_BUFFER)?.expect(&there, 200).await?;
    Ok(Outcome::of(measured, Measured::cpu_microseconds_per_request))
}

async fn measure<W>(server: &Server, context: &Context, most: u64, work: W) -> anyhow::Result<Measured>
where
    W: AsyncFn(&mut Client, u64) -> anyhow::Result<()>,
{
    let load = Load { connections: CONNECTIONS, time: context.time, most, buffer: SMALL_BUFFER };
    let meter = Meter::start(server)?;
    let requests = drive(&server.target()?, load, work).await?;
    meter.stop(requests, 0).await
}
