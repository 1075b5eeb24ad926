//! Fills a server with what is read later.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::ensure;

use crate::client::{LARGE_BUFFER, SMALL_BUFFER};
use crate::content::{APP, Content, TAG, manifest};
use crate::measure::{Load, drive};
use crate::push::{self, Way};
use crate::servers::{Kind, Mode, Server, landfast, nginx};

pub const TAGS: usize = 10_000;
pub const REPOSITORIES: usize = 1_000;
pub const TAGGED: &str = "bench/tagged";
const CONNECTIONS: usize = 8;
const NO_END: Duration = Duration::from_secs(600);

pub fn repository(number: usize) -> String {
    format!("bench/catalogue/r{number:04}")
}

pub fn tag(number: usize) -> String {
    format!("v{number:05}")
}

/// The image, the large and the small blobs.
pub async fn content(server: &mut Server, content: &Content) -> anyhow::Result<()> {
    if server.kind == Kind::Nginx {
        return nginx::seed(&server.place, content);
    }
    server.ensure(Mode::Plain).await?;
    server.authorize(&[APP.to_owned()]).await?;
    let mut client = server.client(LARGE_BUFFER)?;
    for blob in [&content.large, &content.config] {
        let status = push::blob(server, &mut client, APP, (&blob.bytes, &blob.digest), Way::Monolithic).await?;
        ensure!(status == 201, "status {status} of a push");
    }
    all(server, content.small.len(), async |client, index| {
        let blob = &content.small[index];
        let status = push::blob(server, client, APP, (&blob.bytes, &blob.digest), Way::Monolithic).await?;
        ensure!(status == 201, "status {status} of a push");
        Ok(())
    })
    .await?;
    push::manifest(server, &mut client, APP, TAG, &content.manifest).await
}

/// The repository of many tags, and many repositories.
pub async fn listings(server: &mut Server, content: &Content) -> anyhow::Result<()> {
    let image = manifest(&content.config, &[]);
    server.authorize(&[APP.to_owned(), TAGGED.to_owned()]).await?;
    let mut client = server.client(SMALL_BUFFER)?;
    push::mount(server, &mut client, TAGGED, APP, &content.config.digest).await?;
    push::manifest(server, &mut client, TAGGED, &tag(0), &image).await?;
    if server.kind == Kind::Distribution {
        return distribution(&server.place.data());
    }
    all(server, TAGS - 1, async |client, index| push::manifest(server, client, TAGGED, &tag(index + 1), &image).await)
        .await?;
    let names: Vec<String> = (0..REPOSITORIES).map(repository).collect();
    for some in names.chunks(landfast::SCOPES - 1) {
        let scopes: Vec<String> = some.iter().cloned().chain([APP.to_owned()]).collect();
        server.authorize(&scopes).await?;
        all(server, some.len(), async |client, index| {
            push::mount(server, client, &some[index], APP, &content.config.digest).await?;
            push::manifest(server, client, &some[index], TAG, &image).await
        })
        .await?;
    }
    Ok(())
}

async fn all(
    server: &Server,
    count: usize,
    work: impl AsyncFn(&mut crate::client::Client, usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let load = Load { connections: CONNECTIONS, time: NO_END, most: count as u64, buffer: SMALL_BUFFER };
    drive(&server.target()?, load, async |client, number| work(client, number as usize).await).await.map(drop)
}

/// Writes what Distribution's listings look at, names of folders: to push all of it takes minutes, and so does removing
/// it. Its layout has been the same for ten years, and the names in its answers are counted.
fn distribution(data: &Path) -> anyhow::Result<()> {
    let repositories = data.join("docker/registry/v2/repositories");
    for number in 1..TAGS {
        fs::create_dir(repositories.join(TAGGED).join("_manifests/tags").join(tag(number)))?;
    }
    for number in 0..REPOSITORIES {
        let repository = repositories.join(repository(number));
        fs::create_dir_all(repository.join("_layers"))?;
        fs::create_dir(repository.join("_manifests"))?;
    }
    Ok(())
}
