//! landfast itself, from manifests, with a private Project: each request needs a token.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Mode, Place, Server};
use crate::client::{Body, SMALL_BUFFER};

/// Repositories that one token may be for: the catalogue is one of the 32 resources.
pub const SCOPES: usize = 31;

const HTPASSWD_FLAG: &str = "--htpasswd";

const MANIFESTS: &str = "\
apiVersion: landfast.dev/v1alpha1
kind: Registry
metadata: {name: bench, namespace: bench}
spec: {storage: {emptyDir: {}}, tls: {disabled: {}}}
---
apiVersion: landfast.dev/v1alpha1
kind: Project
metadata: {name: bench, namespace: bench}
spec: {registryRef: {name: bench}, visibility: VISIBILITY}
---
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: bench, namespace: bench}
spec: {projectRef: {name: bench}, role: Developer, subjects: [{kind: Robot, name: ci}]}
";

pub fn command(binary: &Path, place: &Place, mode: Mode) -> anyhow::Result<Command> {
    let manifests = place.folder.join("manifests");
    std::fs::create_dir_all(&manifests)?;
    // A user of a file is in no Member here, and pulls what is internal.
    let visibility = if mode == Mode::Htpasswd { "Internal" } else { "Private" };
    std::fs::write(manifests.join("bench.yaml"), MANIFESTS.replace("VISIBILITY", visibility))?;
    let mut command = Command::new(binary);
    command.arg("serve").arg("--manifests").arg(&manifests).arg("--data").arg(place.data());
    command.args(["--listen", &place.address.to_string(), "--health-listen", &place.health.to_string()]);
    match mode {
        Mode::Plain => {}
        Mode::Tls => {
            command.arg("--tls-certificate").arg(&place.trust.certificate).arg("--tls-key").arg(&place.trust.key);
        }
        Mode::Htpasswd => {
            command.arg(HTPASSWD_FLAG).arg(place.htpasswd()?);
        }
    }
    Ok(command)
}

/// Whether this binary can take users from a file.
pub fn knows_htpasswd(binary: &Path) -> bool {
    let help = Command::new(binary).args(["serve", "--help"]).output();
    help.is_ok_and(|help| String::from_utf8_lossy(&help.stdout).contains(HTPASSWD_FLAG))
}

/// A token to push to and pull from these repositories, got as clients do: with the robot's password, from `/token`.
pub async fn token(server: &Server, repositories: &[String]) -> anyhow::Result<String> {
    ensure!(repositories.len() <= SCOPES, "too many repositories for one token");
    let credential = |name: &str| {
        let path = server.place.data().join("credentials/bench/bench/ci").join(name);
        std::fs::read_to_string(&path).with_context(|| format!("{} is missing", path.display()))
    };
    let basic = STANDARD.encode(format!("{}:{}", credential("username")?.trim(), credential("password")?.trim()));
    let repositories: String = repositories.iter().map(|name| format!("&scope=repository:{name}:pull,push")).collect();
    let scopes = format!("&scope=registry:catalog:*{repositories}");
    let address = server.place.address;
    let head = format!(
        "GET /token?service={address}{scopes} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {basic}\r\n\r\n"
    );
    let mut body = Vec::new();
    let answer = server.client(SMALL_BUFFER)?.send(head.as_bytes(), Body::None, &mut body).await?;
    ensure!(answer.status == 200, "no token: status {}", answer.status);
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    Ok(answer["token"].as_str().context("no token in the answer")?.to_owned())
}
