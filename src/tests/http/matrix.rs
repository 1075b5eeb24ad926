//! The permission matrix as a running server shows it: every cell, by what is really answered.
//!
//! The words below are those of the specification (who may pull, push, delete a version, delete the repository, see it in
//! the catalogue, its tags and what is said about it, choose it in builds, and read the Dockerfile's source, the config), not
//! of the code. `-` in an official project means that nobody may by membership of it: only the team of the whole Registry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::jiff::Timestamp;
use landfast::oci::Digest;
use landfast::policy::{
    Glob, Grant, ImageType, PolicyRule, ProjectEntry, RobotGrant, Role, Scope, Snapshot, User, Visibility,
};

use crate::harness::{Call, NOW, OCI_MANIFEST, Registry, Reply, image, snapshot};

const EXPECTED: &str = "
official                  | pull | push | delete version | delete repository | catalogue | tags | described | in builds | Dockerfile
anonymous                 | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
without a role            | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Guest                     | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer                 | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Admin                     | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer of the Registry | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin of the Registry     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Admin elsewhere           | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer of this         | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer of others       | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
expired Admin             | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes

internal                  | pull | push | delete version | delete repository | catalogue | tags | described | in builds | Dockerfile
anonymous                 | no   | no   | no             | no                | no        | no   | no        | no        | no
without a role            | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Guest                     | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer                 | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin                     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Developer of the Registry | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin of the Registry     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Admin elsewhere           | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer of this         | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Developer of others       | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
expired Admin             | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes

private                   | pull | push | delete version | delete repository | catalogue | tags | described | in builds | Dockerfile
anonymous                 | no   | no   | no             | no                | no        | no   | no        | no        | no
without a role            | no   | no   | no             | no                | no        | no   | no        | no        | no
Guest                     | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer                 | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin                     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Developer of the Registry | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin of the Registry     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Admin elsewhere           | no   | no   | no             | no                | no        | no   | no        | no        | no
Developer of this         | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Developer of others       | no   | no   | no             | no                | no        | no   | no        | no        | no
expired Admin             | no   | no   | no             | no                | no        | no   | no        | no        | no

public                    | pull | push | delete version | delete repository | catalogue | tags | described | in builds | Dockerfile
anonymous                 | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
without a role            | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Guest                     | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer                 | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin                     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Developer of the Registry | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Admin of the Registry     | yes  | yes  | yes            | yes               | yes       | yes  | yes       | yes       | yes
Admin elsewhere           | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
Developer of this         | yes  | yes  | yes            | no                | yes       | yes  | yes       | yes       | yes
Developer of others       | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
expired Admin             | yes  | no   | no             | no                | yes       | yes  | yes       | yes       | yes
";

const KINDS: [&str; 4] = ["official", "internal", "private", "public"];
const DOCKERFILE: &[u8] = br#"{"history":[{"created_by":"RUN make"}]}"#;

/// What somebody is in the Project of this path.
fn grant(who: &str, project: &str) -> Option<Grant> {
    let here = |role| Grant::new(Scope::Project(project.to_owned()), role);
    let only = |pattern| Grant { repositories: vec![Glob::new(pattern)], ..here(Role::Developer) };
    match who {
        "without a role" => None,
        "Guest" => Some(here(Role::Guest)),
        "Developer" => Some(here(Role::Developer)),
        "Admin" => Some(here(Role::Admin)),
        "Developer of the Registry" => Some(Grant::new(Scope::Registry, Role::Developer)),
        "Admin of the Registry" => Some(Grant::new(Scope::Registry, Role::Admin)),
        "Admin elsewhere" => Some(Grant::new(Scope::Project("elsewhere".to_owned()), Role::Admin)),
        "Developer of this" => Some(only("app-*")),
        "Developer of others" => Some(only("other-*")),
        "expired Admin" => {
            Some(Grant { expires_at: Some(Timestamp::from_second(NOW - 1).unwrap()), ..here(Role::Admin) })
        }
        other => panic!("who is {other}?"),
    }
}

fn user(who: &str) -> String {
    who.replace(' ', "_")
}

/// Every kind of project, everybody in it, and a robot that fills them.
fn policy(everybody: &[&str]) -> Snapshot {
    let mut snapshot = snapshot();
    for (path, visibility) in [
        ("official", Visibility::Private),
        ("internal", Visibility::Internal),
        ("private", Visibility::Private),
        ("public", Visibility::Public),
        ("elsewhere", Visibility::Private),
    ] {
        let mut project = ProjectEntry { official: path == "official", ..ProjectEntry::new(path, visibility) };
        let build = PolicyRule::new("build", vec![Glob::new("**")]);
        project.policies.push(PolicyRule { image_type: Some(ImageType::Build), ..build });
        snapshot.projects.insert(path.to_owned(), project);
    }
    for who in everybody.iter().filter(|who| **who != "anonymous") {
        let grants = KINDS.iter().filter_map(|kind| grant(who, kind)).collect();
        snapshot.users.insert(User::htpasswd(&user(who)).unwrap(), grants);
    }
    let platform = Grant::new(Scope::Registry, Role::Admin);
    let platform = RobotGrant { grant: platform, robots: vec!["platform".to_owned()], generation: 0 };
    snapshot.robots.insert("uid-platform".to_owned(), platform);
    snapshot
}

struct Asker<'a> {
    registry: &'a Registry,
    who: &'a str,
}

impl<'a> Asker<'a> {
    fn call(&self, method: &str, target: &str) -> Call<'a> {
        let call = self.registry.request(method, target);
        match self.who {
            "anonymous" => call,
            who => {
                let basic = STANDARD.encode(format!("{}:secret", user(who)));
                call.header("authorization", &format!("Basic {basic}"))
            }
        }
    }

    /// A refusal has to be one of those that tell nothing.
    fn word(&self, reply: &Reply, allowed: u16, refused: u16) -> &'static str {
        let refused = if self.who == "anonymous" { 401 } else { refused };
        match reply.status.as_u16() {
            status if status == allowed => "yes",
            status if status == refused => "no",
            _ => panic!("{}: {} {:?}", self.who, reply.status, reply.body),
        }
    }

    async fn does(&self, method: &str, target: &str, allowed: u16) -> &'static str {
        self.word(&self.call(method, target).send().await, allowed, 403)
    }

    async fn is_listed(&self, path: &str, repository: &str) -> &'static str {
        let mut call = self.call("GET", path);
        if self.who == "anonymous" {
            call = call.bearer(&self.registry.token(None, &["registry:catalog:*"]).await);
        }
        let list = call.send().await.expect(200).json()["repositories"].as_array().unwrap().clone();
        let name = |entry: &serde_json::Value| entry["name"].as_str().or(entry.as_str()).map(str::to_owned);
        if list.iter().any(|entry| name(entry).as_deref() == Some(repository)) { "yes" } else { "no" }
    }

    async fn pushes(&self, repository: &str) -> &'static str {
        let layer = format!("layer of {}", self.who);
        let digest = Digest::sha256(layer.as_bytes());
        let upload = self.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}"));
        let uploaded = self.word(&upload.body(layer.clone()).send().await, 201, 403);
        let config = Digest::sha256(DOCKERFILE);
        let layers = if uploaded == "yes" { (digest, layer.len()) } else { (config.clone(), DOCKERFILE.len()) };
        let manifest = image(OCI_MANIFEST, &config, DOCKERFILE.len(), &layers.0, layers.1);
        let put = self.call("PUT", &format!("/v2/{repository}/manifests/v2")).header("content-type", OCI_MANIFEST);
        let put = self.word(&put.body(manifest).send().await, 201, 403);
        assert_eq!(uploaded, put, "{}: a blob and a manifest", self.who);
        put
    }

    /// A row of the table, by what is answered.
    async fn row(&self, repository: &str, manifest: &Digest) -> Vec<&'static str> {
        let (v2, api) = (format!("/v2/{repository}"), format!("/api/v1/repositories/{repository}"));
        let dockerfile = format!("{v2}/blobs/{}", Digest::sha256(DOCKERFILE));
        let catalogue = self.is_listed("/v2/_catalog", repository).await;
        assert_eq!(catalogue, self.is_listed("/api/v1/repositories", repository).await);
        let in_builds = self.is_listed("/api/v1/repositories?imageType=Build", repository).await;
        assert_eq!(in_builds, self.is_listed("/v2/_catalog?imageType=Build", repository).await);
        assert_eq!(self.is_listed("/api/v1/repositories?imageType=Base", repository).await, "no");
        let described = self.word(&self.call("GET", &api).send().await, 200, 404);
        let (pull, tags, dockerfile) = (
            self.does("GET", &format!("{v2}/manifests/v1"), 200).await,
            self.does("GET", &format!("{v2}/tags/list"), 200).await,
            self.does("GET", &dockerfile, 200).await,
        );
        // Last what changes something.
        let push = self.pushes(repository).await;
        let delete_version = self.does("DELETE", &format!("{v2}/manifests/{manifest}"), 202).await;
        let delete_repository = self.does("DELETE", &api, 202).await;
        vec![pull, push, delete_version, delete_repository, catalogue, tags, described, in_builds, dockerfile]
    }
}

/// The words of each row, by kind and by who.
fn expected() -> Vec<(String, String, Vec<&'static str>)> {
    let (mut rows, mut kind) = (Vec::new(), "");
    for line in EXPECTED.lines().filter(|line| !line.is_empty()) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if KINDS.contains(&cells[0]) {
            kind = cells[0];
        } else {
            rows.push((kind.to_owned(), cells[0].to_owned(), cells[1..].to_vec()));
        }
    }
    rows
}

#[tokio::test]
async fn every_cell_of_the_matrix_is_as_the_specification_says() {
    let expected = expected();
    let everybody: Vec<&str> =
        expected.iter().filter(|(kind, ..)| kind == KINDS[0]).map(|(_, who, _)| &**who).collect();
    let registry = Registry::new();
    registry.publish(policy(&everybody));
    let names: Vec<String> = everybody.iter().map(|who| user(who)).collect();
    registry.publish_users(&names.iter().map(|name| (&**name, "secret")).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (number, (kind, who, words)) in expected.iter().enumerate() {
        let repository = format!("{kind}/app-{number}");
        let config = registry.push_blob("platform", &repository, DOCKERFILE).await;
        let manifest = image(OCI_MANIFEST, &config, DOCKERFILE.len(), &config, DOCKERFILE.len());
        registry.put_manifest("platform", &repository, "v1", OCI_MANIFEST, &manifest).await.expect(201);
        let actual = Asker { registry: &registry, who }.row(&repository, &Digest::sha256(&manifest)).await;
        if actual != *words {
            wrong.push(format!("{kind}, {who}: {actual:?} instead of {words:?}"));
        }
        let gone = registry.by("platform", "GET", &format!("/api/v1/repositories/{repository}")).send().await;
        assert_eq!(gone.status == 404, actual[3] == "yes", "{kind}, {who}: what was allowed was done");
    }
    assert_eq!((expected.len(), everybody.len()), (44, 11));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
