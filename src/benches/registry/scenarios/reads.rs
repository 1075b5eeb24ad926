//! Pulls of blobs.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::digest::{Context as Hash, SHA256};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Context, Outcome};
use crate::client::{Body, Client, Count, LARGE_BUFFER, SMALL_BUFFER, Sink, Target};
use crate::content::{APP, Blob, SMALL_SIZE, named};
use crate::measure::{Load, Measured, Meter, drive};
use crate::page_cache;
use crate::servers::{Mode, Server};

/// containerd, too, has a few at a time.
const CONNECTIONS: usize = 4;
const RANGE: u64 = 64 * 1024;
const COLD_PULLS: usize = 2;
/// What Go's client allows a server to have on the way.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024 * 1024;

fn blob_path(blob: &Blob) -> String {
    format!("/v2/{APP}/blobs/{}", blob.digest)
}

async fn check(client: &mut Client, request: &[u8], blob: &Blob) -> anyhow::Result<()> {
    let mut hash = Hash::new(&SHA256);
    let answer = client.send(request, Body::None, &mut hash).await?;
    ensure!(
        answer.status == 200 && named(hash.finish()) == blob.digest,
        "the blob is another (status {})",
        answer.status
    );
    Ok(())
}

/// One connection, one blob after the other.
pub async fn pull(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let blob = &context.content.large;
    let request = server.head("GET", &blob_path(blob), "");
    let mut client = server.client(LARGE_BUFFER)?;
    check(&mut client, &request, blob).await?;
    let (meter, mut bytes, mut count) = (Meter::start(server)?, 0, 0);
    let began = Instant::now();
    while began.elapsed() < context.time {
        bytes += client.expect(&request, 200).await?;
        count += 1;
    }
    let measured = meter.stop(count, bytes).await?;
    Ok(Outcome::of(measured, Measured::cpu_seconds_per_gigabyte))
}

/// The same after the file has left the page cache, from a server that has just started and so has it nowhere else.
pub async fn pull_cold(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    let blob = &context.content.large;
    let mut sum = Measured::default();
    for _ in 0..COLD_PULLS {
        server.restart(Mode::Plain).await?;
        server.authorize(&[APP.to_owned()]).await?;
        let mut client = server.client(LARGE_BUFFER)?;
        let small = server.head("GET", &blob_path(&context.content.small[0]), "");
        check(&mut client, &small, &context.content.small[0]).await?;
        page_cache::forget(&server.place.data(), blob.bytes.len() as u64)?;
        let request = server.head("GET", &blob_path(blob), "");
        let meter = Meter::start(server)?;
        let bytes = client.expect(&request, 200).await?;
        sum = sum.plus(&meter.stop(1, bytes).await?);
        check(&mut client, &request, blob).await?;
    }
    Ok(Outcome::of(sum, Measured::cpu_seconds_per_gigabyte))
}

/// One connection, one stream after the other.
pub async fn pull_http2(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let blob = &context.content.large;
    let target = Target { address: server.place.address, tls: Some(server.place.trust.connector(b"h2")?) };
    // hyper wants what moves between threads; this connection is opened here for that reason.
    let stream = tokio::net::TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let name = rustls_pki_types::ServerName::IpAddress(target.address.ip().into());
    let stream = target.tls.context("no TLS")?.connect(name, stream).await?;
    ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "the server doesn't speak HTTP/2");
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await?;
    let connection = tokio::spawn(connection);
    let mut get = async |sink: &mut dyn Sink| -> anyhow::Result<()> {
        let uri = format!("https://{}{}", server.place.address, blob_path(blob));
        let mut request = http::Request::get(uri);
        if let Some(authorization) = server.authorization() {
            request = request.header("authorization", authorization);
        }
        sender.ready().await?;
        let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new())?).await?;
        ensure!(response.status() == 200, "status {}", response.status());
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame?.data_ref() {
                sink.take(data);
            }
        }
        Ok(())
    };
    let mut hash = Hash::new(&SHA256);
    get(&mut hash).await?;
    ensure!(named(hash.finish()) == blob.digest, "the blob is another");
    let (meter, mut bytes, mut count) = (Meter::start(server)?, Count::default(), 0);
    let began = Instant::now();
    while began.elapsed() < context.time {
        get(&mut bytes).await?;
        count += 1;
    }
    let measured = meter.stop(count, bytes.0).await?;
    drop(sender);
    connection.abort();
    Ok(Outcome::of(measured, Measured::cpu_seconds_per_gigabyte))
}

pub async fn small(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let blobs = &context.content.small;
    let requests: Vec<_> = blobs.iter().map(|blob| server.head("GET", &blob_path(blob), "")).collect();
    let mut client = server.client(SMALL_BUFFER)?;
    for (request, blob) in requests.iter().zip(blobs) {
        check(&mut client, request, blob).await?;
    }
    client.close().await;
    let work = async |client: &mut Client, number: u64| {
        let received = client.expect(&requests[number as usize % requests.len()], 200).await?;
        ensure!(received == SMALL_SIZE as u64, "{received} bytes of a small blob");
        Ok(())
    };
    let measured = loaded(server, context, SMALL_BUFFER, work).await?;
    Ok(Outcome::of(measured, Measured::cpu_microseconds_per_request))
}

/// Ranges of the large blob, all over it.
pub async fn ranges(server: &mut Server, context: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned()]).await?;
    let blob = &context.content.large;
    let pieces = blob.bytes.len() as u64 / RANGE;
    let request = |number: u64| {
        // A prime apart, so that no two that follow each other are neighbours.
        let first = number.wrapping_mul(7919) % pieces * RANGE;
        let range = format!("Range: bytes={first}-{}\r\n", first + RANGE - 1);
        (first as usize, server.head("GET", &blob_path(blob), &range))
    };
    let mut client = server.client(LARGE_BUFFER)?;
    for number in 0..8 {
        let ((first, request), mut body) = (request(number), Vec::new());
        let answer = client.send(&request, Body::None, &mut body).await?;
        ensure!(answer.status == 206 && body == blob.bytes[first..first + RANGE as usize], "a wrong range");
    }
    client.close().await;
    let work = async |client: &mut Client, number: u64| {
        let received = client.expect(&request(number).1, 206).await?;
        ensure!(received == RANGE, "{received} bytes of a range");
        Ok(())
    };
    let mut measured = loaded(server, context, 2 * SMALL_BUFFER, work).await?;
    measured.bytes = measured.requests * RANGE;
    Ok(Outcome::of(measured, Measured::cpu_seconds_per_gigabyte))
}

/// Warms up, then measures.
async fn loaded<W>(server: &Server, context: &Context, buffer: usize, work: W) -> anyhow::Result<Measured>
where
    W: AsyncFn(&mut Client, u64) -> anyhow::Result<()>,
{
    let load = |time: Duration| Load { connections: CONNECTIONS, time, most: u64::MAX, buffer };
    let target = server.target()?;
    drive(&target, load(context.warm_up()), &work).await?;
    let meter = Meter::start(server)?;
    let requests = drive(&target, load(context.time), &work).await?;
    meter.stop(requests, 0).await
}
