//! What `serve` is told by flags, and what it tells the person in front of it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use landfast::config::{ConfigError, Layers, PolicySource, ServeConfig};
use landfast::registry::snapshots::file::{Loaded, RobotFiles};

use super::serve::Arguments;

const LISTEN: &str = "127.0.0.1:5000";
const HEALTH_LISTEN: &str = "127.0.0.1:8081";
const ROOT: &str = "storage.filesystem.root";
const BUCKET: &str = "storage.s3.bucket";
const STATE: &str = "policy.manifests.state";
const HOSTS: &str = "policy.manifests.hosts";

/// The configuration that file, environment and flags make together.
pub fn config(arguments: &Arguments) -> anyhow::Result<ServeConfig> {
    let mut layers = Layers::default();
    // Who starts it by hand gets it for this machine alone.
    if arguments.manifests.is_some() || arguments.kube.is_some() {
        layers.assignments([("listen", LISTEN.to_owned(), ""), ("healthListen", HEALTH_LISTEN.to_owned(), "")])?;
    }
    if let Some(path) = &arguments.config {
        layers.file(path)?;
    }
    let data = std::env::var_os("LANDFAST_DATA").filter(|data| !data.is_empty()).map(PathBuf::from);
    if let Some(data) = &data
        && !layers.has(BUCKET)
    {
        layers.assignments([(ROOT, text(&data.join("registry"))?, "environment variable LANDFAST_DATA")])?;
    }
    layers.environment(std::env::vars_os())?;
    // With a bucket, the folder is for keys and credentials only.
    let has_bucket = layers.has(BUCKET) || arguments.set.iter().any(|set| set.starts_with(BUCKET));
    let said = flags(arguments)?.into_iter().filter(|(key, ..)| *key != ROOT || !has_bucket);
    layers.assignments(said)?;
    for assignment in &arguments.set {
        layers.set(assignment)?;
    }
    let data = arguments.data.as_ref().or(data.as_ref());
    if let (Some(_), Some(data), false) = (&arguments.manifests, data, layers.has(STATE)) {
        layers.assignments([(STATE, text(data)?, "--data")])?;
    }
    let mut config = layers.finish().map_err(|error| with_flags(error, arguments))?;
    if let (Some(_), false, PolicySource::Manifests { hosts, .. }) =
        (&arguments.manifests, layers.has(HOSTS), &mut config.policy)
    {
        *hosts = local_hosts(config.listen);
    }
    Ok(config)
}

/// What each named flag stands for.
fn flags(arguments: &Arguments) -> anyhow::Result<Vec<(&'static str, String, &'static str)>> {
    let mut said = Vec::new();
    let addresses =
        [("listen", &arguments.listen, "--listen"), ("healthListen", &arguments.health_listen, "--health-listen")];
    for (key, value, flag) in addresses {
        said.extend(value.clone().map(|value| (key, value, flag)));
    }
    let data = arguments.data.as_ref().map(|data| data.join("registry"));
    let paths = [
        ("policy.manifests.directory", &arguments.manifests, "--manifests"),
        (ROOT, &data, "--data"),
        ("tls.certificate", &arguments.tls_certificate, "--tls-certificate"),
        ("tls.key", &arguments.tls_key, "--tls-key"),
        ("authentication.htpasswd", &arguments.htpasswd, "--htpasswd"),
    ];
    for (key, value, flag) in paths {
        if let Some(path) = value {
            said.push((key, text(path)?, flag));
        }
    }
    if let Some(name) = &arguments.kube {
        let (namespace, registry) = name.split_once('/').context("--kube takes NAMESPACE/NAME")?;
        said.push(("policy.kube.namespace", namespace.to_owned(), "--kube"));
        said.push(("policy.kube.registry", registry.to_owned(), "--kube"));
    }
    Ok(said)
}

/// Most who miss something have forgotten a flag.
fn with_flags(error: ConfigError, arguments: &Arguments) -> anyhow::Error {
    let hint = match &error {
        ConfigError::Missing { key, .. } if key == "storage" || (key == STATE && arguments.manifests.is_some()) => {
            "give --data DIR, or name a file with --config"
        }
        ConfigError::Missing { key, .. } if key == "policy" => {
            "give --manifests DIR or --kube NAMESPACE/NAME, or name a file with --config"
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(hint)
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{} is not UTF-8 text", path.display()))
}

/// What clients on this machine may call it. Docker takes plain HTTP for both names.
fn local_hosts(listen: SocketAddr) -> Vec<String> {
    let port = listen.port();
    let mut hosts = vec![format!("localhost:{port}"), format!("127.0.0.1:{port}")];
    if !listen.ip().is_unspecified() && listen.ip() != Ipv4Addr::LOCALHOST {
        hosts.push(listen.to_string());
    }
    hosts
}

/// What to call it in what is printed. Only these addresses are reached by the name.
fn shown_host(listen: SocketAddr) -> String {
    let ip = listen.ip();
    let local = ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    if local { format!("localhost:{}", listen.port()) } else { listen.to_string() }
}

/// Prints how to log in, push and pull. To stdout, where logs don't go; never a password.
pub fn print_help(config: &ServeConfig, loaded: &Loaded) {
    let hostname = loaded.inputs.registry.spec.hostnames.first().cloned();
    let host = hostname.unwrap_or_else(|| shown_host(config.listen));
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

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::localhost("127.0.0.1:5000", "localhost:5000", &[])]
    #[case::every_address("0.0.0.0:5000", "localhost:5000", &[])]
    #[case::another_loopback_address("127.0.0.2:5000", "127.0.0.2:5000", &["127.0.0.2:5000"])]
    #[case::an_address("10.1.2.3:5000", "10.1.2.3:5000", &["10.1.2.3:5000"])]
    fn credentials_are_for_the_names_that_reach_it(#[case] listen: &str, #[case] shown: &str, #[case] more: &[&str]) {
        let listen = listen.parse().unwrap();
        assert_eq!(shown_host(listen), shown);
        assert_eq!(local_hosts(listen), [&["localhost:5000", "127.0.0.1:5000"], more].concat());
    }
}
