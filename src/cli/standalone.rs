//! `serve` from flags, and what it tells the person in front of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use landfast::config::{AuthenticationSettings, PolicySource, Proxies, ServeConfig, StorageConfig};
use landfast::registry::snapshots::file::{Loaded, RobotFiles};

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 5000);
const HEALTH_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8081);
const DRAIN_SECONDS: u64 = 25;

/// The configuration that the flags stand for.
pub fn config(
    manifests: Option<PathBuf>,
    kube: Option<String>,
    data: Option<PathBuf>,
    listen: Option<SocketAddr>,
) -> anyhow::Result<ServeConfig> {
    let data = data.context("--data is missing")?;
    let policy = match (manifests, kube) {
        (Some(directory), _) => {
            let hosts = local_hosts(listen.unwrap_or(LISTEN));
            PolicySource::Manifests { directory, state: data.clone(), hosts }
        }
        (None, kube) => {
            let name = kube.unwrap_or_default();
            let (namespace, registry) = name.split_once('/').context("--kube takes NAMESPACE/NAME")?;
            PolicySource::Kube { namespace: namespace.to_owned(), registry: registry.to_owned() }
        }
    };
    Ok(ServeConfig {
        listen: LISTEN,
        health_listen: HEALTH_LISTEN,
        tls: None,
        storage: StorageConfig::Filesystem { root: data.join("registry") },
        policy,
        drain_seconds: DRAIN_SECONDS,
        authentication: AuthenticationSettings::default(),
        proxies: Proxies::default(),
    })
}

/// What clients on this machine may call it. Docker takes plain HTTP for both names.
fn local_hosts(listen: SocketAddr) -> Vec<String> {
    let port = listen.port();
    let mut hosts = vec![format!("localhost:{port}"), format!("127.0.0.1:{port}")];
    if !listen.ip().is_unspecified() && !listen.ip().is_loopback() {
        hosts.push(listen.to_string());
    }
    hosts
}

/// Prints how to log in, push and pull. To stdout, where logs don't go; never a password.
pub fn print_help(config: &ServeConfig, loaded: &Loaded) {
    let host = loaded.inputs.registry.spec.hostnames.first().cloned().unwrap_or_else(|| {
        let port = config.listen.port();
        if config.listen.ip().is_loopback() || config.listen.ip().is_unspecified() {
            format!("localhost:{port}")
        } else {
            config.listen.to_string()
        }
    });
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    println!("landfast serves {scheme}://{host}\n");
    let pushes = |robot: &&RobotFiles| robot.pushes && robot.project.is_some();
    match loaded.robots.iter().find(pushes) {
        Some(robot) => print!("{}", lines(&host, scheme, robot)),
        None => println!("No Member has a robot that may push: add one to the manifests."),
    }
    for robot in &loaded.robots {
        let RobotFiles { member, robot, username, folder, .. } = robot;
        println!("Credential of robot {robot} of Member {member} ({username}): {}", shown(&folder.join("config.json")));
    }
    println!();
}

fn lines(host: &str, scheme: &str, robot: &RobotFiles) -> String {
    let project = robot.project.as_deref().unwrap_or_default();
    let (username, folder) = (&robot.username, &robot.folder);
    let image = format!("{host}/{project}/hello:v1");
    let (password, config) = (shown(&folder.join("password")), shown(&folder.join("config.json")));
    let plain = |side: &str| if scheme == "http" { format!("--{side}-tls-verify=false ") } else { String::new() };
    format!(
        "With docker:
  docker login --username {username} --password-stdin {host} < {password}
  docker tag hello-world {image}
  docker push {image}
  docker pull {image}
With skopeo:
  skopeo copy {}--dest-authfile {config} oci:FOLDER docker://{image}
  skopeo copy {}--src-authfile {config} docker://{image} oci:FOLDER

",
        plain("dest"),
        plain("src"),
    )
}

/// A path as it can be pasted into a shell anywhere.
fn shown(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let text = absolute.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
