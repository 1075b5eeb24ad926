//! What is asked about: an action, and an image reference.

use anyhow::{Context as _, bail};
use landfast::api::v1alpha1::Registry;
use landfast::controller::registry::build::names::{host_of, hosts};
use landfast::oci::{Digest, RepositoryName, Tag};
use landfast::policy::{Action, Snapshot};

/// Reads an action's name.
pub fn action(text: &str) -> Result<Action, String> {
    let names = || Action::ALL.map(Action::name).join(", ");
    Action::from_name(text).ok_or_else(|| format!("no such action; use one of {}", names()))
}

/// A repository, perhaps with a tag.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    pub repository: RepositoryName,
    pub tag: Option<Tag>,
}

/// Reads `[HOST/]REPOSITORY[:TAG][@DIGEST]`. The host has to be one of the Registry's.
pub fn target(text: &str, registry: &Registry, snapshot: &Snapshot) -> anyhow::Result<Target> {
    let name = without_host(text, registry, snapshot)?;
    let (name, digest) = name.split_once('@').map_or((name, None), |(name, digest)| (name, Some(digest)));
    if let Some(digest) = digest {
        digest.parse::<Digest>().with_context(|| format!("{text:?}"))?;
    }
    // No name has a colon, once the host is away.
    let (name, tag) = name.split_once(':').map_or((name, None), |(name, tag)| (name, Some(tag)));
    let tag = tag.map(str::parse).transpose().with_context(|| format!("{text:?}"))?;
    Ok(Target { repository: name.parse().with_context(|| format!("{text:?}"))?, tag })
}

/// What has a dot or a port is a host, as clients of registries take it, unless a Project's path begins so.
fn without_host<'a>(text: &'a str, registry: &Registry, snapshot: &Snapshot) -> anyhow::Result<&'a str> {
    let Some((first, rest)) = text.split_once('/') else { return Ok(text) };
    let hosts = hosts(registry);
    if hosts.iter().any(|host| host == first || host == host_of(first) || host_of(host) == first) {
        return Ok(rest);
    }
    let begins_so = |path: &String| path.split('/').next() == Some(first);
    if first.contains(['.', ':']) && !snapshot.projects.keys().any(begins_so) {
        bail!("{first} is no host name of Registry {}: it has {}", snapshot.registry.name, hosts.join(", "));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use landfast::policy::{ProjectEntry, RegistryFacts, Visibility};

    fn read(text: &str) -> anyhow::Result<(String, Option<String>)> {
        let registry: Registry = serde_json::from_value(serde_json::json!({
            "apiVersion": "landfast.dev/v1alpha1", "kind": "Registry",
            "metadata": {"name": "main", "namespace": "images"},
            "spec": {
                "storage": {"emptyDir": {}}, "hostnames": ["registry.example.com", "other.example:5000"],
                "exposure": {"service": {"port": 5000}},
            },
        }))?;
        let mut snapshot = Snapshot::new(RegistryFacts::new("uid", "images/main"));
        snapshot.projects.insert("v1.2/x".to_owned(), ProjectEntry::new("v1.2/x", Visibility::Private));
        let Target { repository, tag } = target(text, &registry, &snapshot)?;
        Ok((repository.to_string(), tag.map(|tag| tag.to_string())))
    }

    #[test]
    fn a_reference_is_a_repository_and_perhaps_a_tag() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let with_digest = format!("team/app:v1@{digest}");
        for (text, tag) in [
            ("team/app", None),
            ("team/app:v1", Some("v1")),
            (with_digest.as_str(), Some("v1")),
            ("registry.example.com/team/app:v1", Some("v1")),
            ("registry.example.com:443/team/app", None),
            ("other.example:5000/team/app:v1", Some("v1")),
            ("other.example/team/app", None),
            ("main.images.svc/team/app", None),
            ("main.images.svc.cluster.local:5000/team/app", None),
            ("main.images.svc.cluster.local/team/app", None),
        ] {
            assert_eq!(read(text).unwrap(), ("team/app".to_owned(), tag.map(str::to_owned)), "{text}");
        }
    }

    #[test]
    fn a_project_may_look_like_a_host() {
        assert_eq!(read("v1.2/x/app").unwrap().0, "v1.2/x/app");
    }

    #[test]
    fn another_host_is_refused_with_those_that_there_are() {
        for host in ["ghcr.io", "elsewhere.example:5000", "localhost:5000", "main.images.svc:5001"] {
            let error = read(&format!("{host}/acme/app")).unwrap_err().to_string();
            let hosts =
                "registry.example.com, other.example:5000, main.images.svc:5000, main.images.svc.cluster.local:5000";
            assert_eq!(error, format!("{host} is no host name of Registry images/main: it has {hosts}"));
        }
    }

    #[test]
    fn what_is_no_reference_to_this_registry_is_refused() {
        for text in
            ["", "Team/app", "team/app:", "team/app:v 1", "team/app@sha256:1", "elsewhere.example:5000/team/app"]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_action_has_a_name() {
        for known in Action::ALL {
            assert_eq!(action(known.name()), Ok(known));
        }
        assert!(action("write").is_err_and(|error| error.contains("change-visibility")));
    }
}
