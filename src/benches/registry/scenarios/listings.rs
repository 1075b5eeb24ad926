//! Tags and repositories, whole and page by page over one connection.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, Outcome};
use crate::client::{Body, Client, LARGE_BUFFER};
use crate::content::APP;
use crate::measure::{Measured, Meter};
use crate::seed::{REPOSITORIES, TAGGED, TAGS, repository};
use crate::servers::{Kind, Server};

const PAGE: usize = 100;
const REPEATS: usize = 3;

pub async fn tags(server: &mut Server, _: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[TAGGED.to_owned()]).await?;
    let path = format!("/v2/{TAGGED}/tags/list");
    let whole = fastest(server, &path, "tags", TAGS).await?;
    if server.kind == Kind::Distribution {
        // Version 2.8 answers with all of them, whatever is asked for.
        return Ok(Outcome { values: vec![milliseconds(whole), f64::NAN], measured: vec![whole] });
    }
    let pages = fastest(server, &format!("{path}?n={PAGE}"), "tags", TAGS).await?;
    Ok(Outcome { values: vec![milliseconds(whole), milliseconds(pages)], measured: vec![whole, pages] })
}

pub async fn catalogue(server: &mut Server, _: &Context) -> anyhow::Result<Outcome> {
    server.authorize(&[APP.to_owned(), repository(0)]).await?;
    let pages = fastest(server, &format!("/v2/_catalog?n={PAGE}"), "repositories", REPOSITORIES).await?;
    Ok(Outcome { values: vec![milliseconds(pages)], measured: vec![pages] })
}

/// The fastest of several walks, each of which must find at least this many different names.
async fn fastest(server: &Server, path: &str, field: &str, least: usize) -> anyhow::Result<Measured> {
    let mut client = server.client(LARGE_BUFFER)?;
    let mut best: Option<Measured> = None;
    for _ in 0..REPEATS {
        let meter = Meter::start(server)?;
        let (bodies, wall) = walk(server, &mut client, path).await?;
        let mut measured = meter.stop(bodies.len() as u64, 0).await?;
        measured.wall = wall;
        let names = names(&bodies, field)?;
        ensure!(names.len() >= least, "{} names instead of {least}", names.len());
        if best.is_none_or(|best| measured.wall < best.wall) {
            best = Some(measured);
        }
    }
    best.context("nothing was measured")
}

/// Follows the links from page to page.
async fn walk(server: &Server, client: &mut Client, path: &str) -> anyhow::Result<(Vec<Vec<u8>>, Duration)> {
    let (mut bodies, mut next, began) = (Vec::new(), Some(path.to_owned()), Instant::now());
    while let Some(path) = next {
        let mut body = Vec::new();
        let answer = client.send(&server.head("GET", &path, ""), Body::None, &mut body).await?;
        ensure!(answer.status == 200, "status {} of {path}: {}", answer.status, String::from_utf8_lossy(&body));
        bodies.push(body);
        next = answer.link.as_deref().and_then(linked);
    }
    Ok((bodies, began.elapsed()))
}

/// The path in `<path>; rel="next"`.
fn linked(link: &str) -> Option<String> {
    let (target, _) = link.strip_prefix('<')?.split_once('>')?;
    let path = target.split_once("://").map_or(target, |(_, rest)| &rest[rest.find('/').unwrap_or(0)..]);
    Some(path.to_owned())
}

fn names(bodies: &[Vec<u8>], field: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for body in bodies {
        let page: Value = serde_json::from_slice(body)?;
        names.extend(
            page[field].as_array().context("no list")?.iter().filter_map(|name| name.as_str().map(str::to_owned)),
        );
    }
    Ok(names)
}

fn milliseconds(measured: Measured) -> f64 {
    measured.wall.as_secs_f64() * 1e3
}
