//! The ways to push a blob, each as clients do it: start a session, send, finish with the digest.

use anyhow::{Context as _, ensure};

use crate::client::{Body, Client, Count, Head};
use crate::content::{Blob, MANIFEST_TYPE, Made, sha256};
use crate::servers::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// POST, then PUT with all bytes.
    Monolithic,
    /// POST, one PATCH in chunked encoding, PUT.
    Streamed,
    /// POST, PATCHes of 8 MiB, PUT.
    Chunks,
}

const CHUNK: usize = 8 * 1024 * 1024;
const OCTETS: &str = "Content-Type: application/octet-stream\r\n";

/// Pushes `bytes`. Returns the status of the last answer, which is 201 when all is well.
pub async fn blob(
    server: &Server,
    client: &mut Client,
    repository: &str,
    (bytes, digest): (&[u8], &str),
    way: Way,
) -> anyhow::Result<u16> {
    let start = server.head("POST", &format!("/v2/{repository}/blobs/uploads/"), "Content-Length: 0\r\n");
    let mut location = accepted(client.send(&start, Body::None, &mut Count::default()).await?)?;
    let length = |length: usize| format!("{OCTETS}Content-Length: {length}\r\n");
    match way {
        Way::Monolithic => {
            let head = server.head("PUT", &finish(&location, digest), &length(bytes.len()));
            return Ok(client.send(&head, Body::Whole(bytes), &mut Count::default()).await?.status);
        }
        Way::Streamed => {
            let head = server.head("PATCH", &location, &format!("{OCTETS}Transfer-Encoding: chunked\r\n"));
            location = accepted(client.send(&head, Body::Chunked(bytes), &mut Count::default()).await?)?;
        }
        Way::Chunks => {
            for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
                let (first, last) = (index * CHUNK, index * CHUNK + chunk.len() - 1);
                let range = format!("{}Content-Range: {first}-{last}\r\n", length(chunk.len()));
                let head = server.head("PATCH", &location, &range);
                location = accepted(client.send(&head, Body::Whole(chunk), &mut Count::default()).await?)?;
            }
        }
    }
    let head = server.head("PUT", &finish(&location, digest), "Content-Length: 0\r\n");
    Ok(client.send(&head, Body::None, &mut Count::default()).await?.status)
}

/// Pushes content that is made on the way, in a POST and a PUT.
pub async fn made(
    server: &Server,
    client: &mut Client,
    repository: &str,
    (made, digest): (Made, &str),
) -> anyhow::Result<u16> {
    let start = server.head("POST", &format!("/v2/{repository}/blobs/uploads/"), "Content-Length: 0\r\n");
    let location = accepted(client.send(&start, Body::None, &mut Count::default()).await?)?;
    let length = format!("{OCTETS}Content-Length: {}\r\n", made.length);
    let head = server.head("PUT", &finish(&location, digest), &length);
    Ok(client.send(&head, Body::Made(made), &mut Count::default()).await?.status)
}

/// Puts a manifest under a tag.
pub async fn manifest(
    server: &Server,
    client: &mut Client,
    repository: &str,
    tag: &str,
    manifest: &Blob,
) -> anyhow::Result<()> {
    let more = format!("Content-Type: {MANIFEST_TYPE}\r\nContent-Length: {}\r\n", manifest.bytes.len());
    let head = server.head("PUT", &format!("/v2/{repository}/manifests/{tag}"), &more);
    let mut answer = Vec::new();
    let status = client.send(&head, Body::Whole(&manifest.bytes), &mut answer).await?.status;
    ensure!(status == 201, "status {status} of a manifest: {}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Takes a blob over from another repository.
pub async fn mount(server: &Server, client: &mut Client, to: &str, from: &str, digest: &str) -> anyhow::Result<()> {
    let path = format!("/v2/{to}/blobs/uploads/?mount={digest}&from={from}");
    let head = server.head("POST", &path, "Content-Length: 0\r\n");
    client.expect(&head, 201).await.map(drop)
}

/// Proves that the server looks at what it is given: a wrong digest is refused, and what was pushed comes back.
pub async fn check(
    server: &Server,
    client: &mut Client,
    repository: &str,
    blob: &Blob,
    way: Way,
) -> anyhow::Result<()> {
    let wrong = sha256(b"something else");
    let status = self::blob(server, client, repository, (&blob.bytes, &wrong), way).await?;
    ensure!(status == 400, "status {status} of a push with a wrong digest");
    let status = self::blob(server, client, repository, (&blob.bytes, &blob.digest), way).await?;
    ensure!(status == 201, "status {status} of a push");
    let mut back = Vec::new();
    let head = server.head("GET", &format!("/v2/{repository}/blobs/{}", blob.digest), "");
    client.send(&head, Body::None, &mut back).await?;
    ensure!(back == blob.bytes, "other bytes came back");
    Ok(())
}

fn accepted(answer: Head) -> anyhow::Result<String> {
    ensure!(answer.status == 202, "status {} of an upload", answer.status);
    let location = answer.location.context("an upload without a Location")?;
    // Some servers answer with their whole address.
    let Some((_, rest)) = location.split_once("://") else { return Ok(location) };
    Ok(rest[rest.find('/').context("a Location without a path")?..].to_owned())
}

fn finish(location: &str, digest: &str) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}
