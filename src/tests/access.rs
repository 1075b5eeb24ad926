//! `landfast access` as people and scripts meet it: what it prints, and its exit status.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const REGISTRY: &str = "apiVersion: landfast.dev/v1alpha1
kind: Registry
metadata: {name: main, namespace: images}
spec:
  storage: {emptyDir: {}}
  hostnames: [registry.example.com]
  projectNamespaces: {from: All}
";

const TEAM: &str = "apiVersion: landfast.dev/v1alpha1
kind: Project
metadata: {name: team, namespace: team}
spec: {registryRef: {name: main, namespace: images}}
---
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: devs, namespace: team}
spec:
  projectRef: {name: team}
  role: Developer
  repositories: [app-*]
  subjects:
    - {kind: User, name: 'htpasswd:alice'}
    - {kind: Group, name: 'oidc:corp:devs'}
    - {kind: Robot, name: builder}
---
apiVersion: landfast.dev/v1alpha1
kind: RepositoryPolicy
metadata: {name: open, namespace: team}
spec: {projectRef: {name: team}, repositories: [open-*], visibility: Public, immutableTags: ['v*']}
";

/// What else lies in a folder of manifests.
const OTHERS: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec: {replicas: 2}
";

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

fn manifests() -> TempDir {
    folder(&[("registry.yaml", REGISTRY), ("team/access.yaml", TEAM), ("team/web.yaml", OTHERS)])
}

fn access(arguments: &[&str], folders: &[&Path]) -> Output {
    // Nothing may be asked of a cluster that this machine knows by chance.
    access_with(Path::new("/nonexistent"), arguments, folders)
}

fn access_with(kubeconfig: &Path, arguments: &[&str], folders: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_landfast"));
    command.env("KUBECONFIG", kubeconfig).env_remove("KUBERNETES_SERVICE_HOST");
    command.arg("access").args(arguments).args(folders).output().unwrap()
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

/// Exit status and standard output.
fn asked(arguments: &[&str], folder: &TempDir) -> (Option<i32>, String) {
    let output = access(&[arguments, &["--manifests"]].concat(), &[folder.path()]);
    assert!(output.stderr.is_empty(), "{output:?}");
    (output.status.code(), text(&output.stdout))
}

#[test]
fn can_i_says_yes_and_why() {
    let (status, answer) =
        asked(&["can-i", "push", "registry.example.com/team/app-1:v1", "--as", "htpasswd:alice"], &manifests());
    let expected = "yes
Project team/team owns team/**
Project team/team makes team/app-1 Private
push needs the role Developer there
Member team/devs: role Developer on team/app-*
";
    assert_eq!((status, answer.as_str()), (Some(0), expected));
}

#[test]
fn can_i_says_no_and_what_to_do() {
    let (status, answer) = asked(&["can-i", "push", "team/other", "--as", "robot:team/devs/builder"], &manifests());
    let expected = "no
Project team/team owns team/**
Project team/team makes team/other Private
push needs the role Developer there
Member team/devs: role Developer on team/app-*: not this repository
to do: add a pattern to spec.repositories of Member team/devs
";
    assert_eq!((status, answer.as_str()), (Some(1), expected));
}

#[test]
fn whose_provider_is_not_trusted_may_and_cannot() {
    let arguments = ["can-i", "pull", "team/app-1", "--as", "oidc:corp:bob", "--group", "oidc:corp:devs", "-o", "json"];
    let (status, answer) = asked(&arguments, &manifests());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["allowed"]), (Some(1), &Value::Bool(false)));
    let because = answer["because"].to_string();
    assert!(
        because.contains("through group oidc:corp:devs") && because.contains("no OIDC issuer named corp"),
        "{because}"
    );
    assert!(answer["advice"].as_str().unwrap().contains("spec.authentication.oidc of Registry images/main"));
}

#[test]
fn can_i_is_for_scripts_too() {
    let arguments = ["can-i", "push", "team/open-1:v1", "--as", "htpasswd:zoe", "-o", "json"];
    let (status, answer) = asked(&arguments, &manifests());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(status, Some(1));
    let expected = serde_json::json!({
        "project": "Project team/team", "path": "team", "kind": "Public",
        "setBy": "RepositoryPolicy team/open", "needs": "Developer",
    });
    assert_eq!(answer["rule"], expected);
    assert!(answer["note"].as_str().unwrap().contains("tag v1 is immutable"), "{answer}");
}

#[test]
fn who_can_lists_everybody() {
    let (status, answer) = asked(&["who-can", "push", "team/app-1"], &manifests());
    let expected = "WHO                      ROLE       REASON
htpasswd:alice           Developer  Member team/devs: role Developer on team/app-*
group oidc:corp:devs     Developer  Member team/devs: role Developer on team/app-*; but the Registry trusts no OIDC issuer named corp
robot team/devs/builder  Developer  Member team/devs: role Developer on team/app-*
";
    assert_eq!((status, answer.as_str()), (Some(0), expected));
    // Objects are changed at the API server, not by a login at the Registry.
    let (_, answer) = asked(&["who-can", "change-description", "team/app-1"], &manifests());
    assert!(answer.contains("oidc:corp:devs") && !answer.contains("but"), "{answer}");
    let (_, answer) = asked(&["who-can", "pull", "team/open-1", "--output", "json"], &manifests());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let expected = serde_json::json!([{
        "kind": "Anyone", "who": "anyone", "role": null, "noLogin": null,
        "reason": "RepositoryPolicy team/open makes it Public",
    }]);
    assert_eq!(answer, expected);
}

#[test]
fn what_cannot_be_found_out_is_neither_yes_nor_no() {
    let there = manifests();
    let two = folder(&[("a.yaml", REGISTRY), ("b.yaml", &REGISTRY.replace("name: main", "name: other"))]);
    let broken = folder(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1\nkind: [")]);
    for (arguments, folder, expected) in [
        (&["who-can", "write", "team/app", "--manifests"][..], &there, "no such action"),
        (&["can-i", "pull", "Team/app", "--as", "anonymous", "--manifests"], &there, "repository name"),
        (&["can-i", "pull", "team/app", "--as", "alice", "--manifests"], &there, "names nobody"),
        (&["can-i", "pull", "team/app", "--as", "anonymous", "--manifests"], &two, "images/main, images/other"),
        (
            &["who-can", "pull", "team/app", "--registry", "images/none", "--manifests"],
            &two,
            "there is no Registry images/none",
        ),
        (&["who-can", "pull", "team/app", "--manifests"], &broken, "not valid YAML"),
        (
            &["can-i", "pull", "ghcr.io/acme/app", "--as", "anonymous", "--manifests"],
            &there,
            "ghcr.io is no host name of Registry images/main: it has registry.example.com, main.images.svc",
        ),
        (&["diff"], &there, "name two folders"),
    ] {
        let output = access(arguments, &[folder.path()]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).contains(expected), "{arguments:?}: {}", text(&output.stderr));
    }
    let without_cluster = access(&["who-can", "pull", "team/app"], &[]);
    assert_eq!(without_cluster.status.code(), Some(2));
    assert!(text(&without_cluster.stderr).contains("--manifests"), "{without_cluster:?}");
}

/// The manifests with one thing said otherwise.
fn changed(from: &str, to: &str) -> TempDir {
    assert!(TEAM.contains(from));
    folder(&[("all/registry.yaml", REGISTRY), ("all/team.yaml", &TEAM.replace(from, to))])
}

#[test]
fn diff_tells_losses_and_gains() {
    let output = access(&["diff"], &[manifests().path(), changed("[app-*]", "[web-*]").path()]);
    let of = |verb: &str, pattern: &str| {
        let actions =
            "view, select-in-builds, pull, view-dockerfile, push, delete, change-image-type, change-description";
        let line = |who: &str| {
            format!("  {} {who} {verb} {actions} on team/{pattern}\n", if verb == "loses" { '-' } else { '+' })
        };
        ["htpasswd:alice", "group oidc:corp:devs", "robot team/devs/builder"].map(line).concat()
    };
    let expected = format!("Registry images/main\n{}{}3 losses, 3 gains\n", of("loses", "app-*"), of("gains", "web-*"));
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), expected), "{output:?}");
}

#[test]
fn diff_of_the_same_is_nothing() {
    let output = access(&["diff"], &[manifests().path(), changed("[app-*]", "[ 'app-*' ]").path()]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "nobody gains or loses access\n".to_owned()));
}

#[test]
fn diff_fails_on_what_one_asks_for() {
    let (old, public) = (manifests(), changed("registryRef:", "visibility: Public, registryRef:"));
    let status = |fail_on: &str, folders: [&TempDir; 2]| {
        access(&["diff", "--fail-on", fail_on], &folders.map(TempDir::path)).status.code()
    };
    assert_eq!((status("gain", [&old, &public]), status("loss", [&old, &public])), (Some(1), Some(0)));
    assert_eq!((status("gain", [&public, &old]), status("loss", [&public, &old])), (Some(0), Some(1)));
    assert_eq!((status("any", [&old, &public]), status("none", [&old, &public])), (Some(1), Some(0)));
}

#[test]
fn diff_is_for_scripts_too() {
    let folders = [manifests(), changed("role: Developer", "role: Developer\n  credentialGeneration: 1")];
    let output = access(&["diff", "-o", "json"], &folders.each_ref().map(TempDir::path));
    let answer: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    let expected = serde_json::json!({
        "registry": "images/main", "kind": "Robot", "who": "robot team/devs/builder", "change": "revoked", "loss": true,
        "pattern": null, "actions": null,
        "text": "robot team/devs/builder: credentials revoked, their generation is raised",
    });
    assert_eq!((output.status.code(), &answer["changes"]), (Some(1), &serde_json::json!([expected])));
}

#[test]
fn what_would_not_be_accepted_is_an_error_of_the_new_manifests_alone() {
    let wrong = changed("projectRef: {name: team}\n  role", "projectRef: {name: tem}\n  role");
    let output = access(&["diff", "--fail-on", "none"], &[manifests().path(), wrong.path()]);
    assert_eq!(output.status.code(), Some(2));
    let problem = "Member team/devs: there is no Project tem in namespace team: create it, or correct projectRef";
    assert_eq!(text(&output.stderr).trim_end(), problem);
    assert!(text(&output.stdout).contains("robot team/devs/builder: credentials revoked"), "{output:?}");
    let mended = access(&["diff", "--fail-on", "none"], &[wrong.path(), manifests().path()]);
    assert_eq!((mended.status.code(), mended.stderr.len()), (Some(0), 0), "{mended:?}");
    let known = access(&["diff", "-o", "json"], &[wrong.path(), wrong.path()]);
    assert_eq!((known.status.code(), text(&known.stderr)), (Some(0), format!("warning: {problem}\n")));
    let answer: Value = serde_json::from_str(&text(&known.stdout)).unwrap();
    assert_eq!(answer, serde_json::json!({"changes": [], "whole": true, "problems": []}));
}

#[test]
fn registries_come_and_go() {
    let other = REGISTRY.replace("name: main", "name: other");
    let project = TEAM.replace("name: main", "name: other").replace("namespace: team}", "namespace: other}");
    let both = folder(&[("a.yaml", REGISTRY), ("b.yaml", TEAM), ("c.yaml", &other), ("d.yaml", &project)]);
    let output = access(&["diff"], &[manifests().path(), both.path()]);
    let answer = text(&output.stdout);
    assert!(answer.starts_with("Registry images/other\n") && answer.contains("0 losses, "), "{output:?}");
    let alone = access(&["diff", "--registry", "images/main"], &[manifests().path(), both.path()]);
    assert_eq!(alone.status.code(), Some(0));
}

#[test]
fn labels_that_are_not_known_are_told() {
    let selecting = REGISTRY.replace("{from: All}", "{from: Selector, selector: {matchLabels: {images: 'yes'}}}");
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team, labels: {images: 'yes'}}\n";
    let without = folder(&[("a.yaml", &selecting), ("b.yaml", TEAM)]);
    let with = folder(&[("a.yaml", &selecting), ("b.yaml", TEAM), ("c.yaml", namespace)]);
    let ask = |folder: &TempDir| access(&["who-can", "push", "team/app-1", "--manifests"], &[folder.path()]);
    let warned = text(&ask(&without).stderr);
    assert!(warned.contains("labels of namespaces are not known") && warned.contains("takes no Projects"), "{warned}");
    assert_eq!(text(&ask(&with).stderr), "");
}

/// An API server that has this Registry and these Projects, and a kubeconfig for it: the context `here` has the namespace
/// `team`, the context `there` none.
fn cluster(projects: &[Value]) -> TempDir {
    let registry = serde_json::json!({
        "apiVersion": "landfast.dev/v1alpha1", "kind": "Registry",
        "metadata": {"name": "main", "namespace": "images", "uid": "r", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"storage": {"emptyDir": {}}, "projectNamespaces": {"from": "All"}},
    });
    let answers = [("/registries?", vec![registry]), ("/projects?", projects.to_vec())];
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut lines = BufReader::new(connection.try_clone().unwrap()).lines().map(Result::unwrap);
            let Some(request) = lines.next() else { continue };
            lines.find(String::is_empty);
            let items = answers.iter().find(|(path, _)| request.contains(path)).map(|(_, items)| items.clone());
            let list = serde_json::json!({
                "apiVersion": "v1", "kind": "List", "metadata": {}, "items": items.unwrap_or_default(),
            });
            let body = list.to_string();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            write!(connection, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        }
    });
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
current-context: here
contexts:
  - {{name: here, context: {{cluster: c, user: u, namespace: team}}}}
  - {{name: there, context: {{cluster: c, user: u}}}}
clusters: [{{name: c, cluster: {{server: 'http://{address}'}}}}]
users: [{{name: u, user: {{}}}}]
"
    );
    folder(&[("config", &kubeconfig)])
}

const APP: &str = "apiVersion: landfast.dev/v1alpha1
kind: Project
metadata: {name: app}
spec: {registryRef: {name: main, namespace: images}}
---
apiVersion: landfast.dev/v1alpha1
kind: Member
metadata: {name: ci}
spec: {projectRef: {name: app}, role: Guest, subjects: [{kind: Robot, name: builder}]}
";

#[test]
fn what_is_applied_goes_where_kubectl_would_put_it() {
    let (cluster, new) = (cluster(&[]), folder(&[("app.yaml", APP)]));
    let kubeconfig = cluster.path().join("config");
    let path = kubeconfig.to_str().unwrap();
    for (kubeconfig, flags, namespace) in [
        (kubeconfig.as_path(), &[][..], "team"),
        (&kubeconfig, &["--context", "there"], "default"),
        (&kubeconfig, &["-n", "prod"], "prod"),
        (&kubeconfig, &["--context", "there", "--namespace", "prod"], "prod"),
        (Path::new("/nonexistent"), &["--kubeconfig", path], "team"),
        (&kubeconfig, &["-n", "images", "--registry", "main"], "images"),
    ] {
        let output = access_with(kubeconfig, &[&["diff", "--against-cluster"], flags].concat(), &[new.path()]);
        let told = text(&output.stdout);
        assert!(told.contains(&format!("robot {namespace}/ci/builder gains ")), "{flags:?}: {output:?}");
    }
    let unknown = access_with(&kubeconfig, &["diff", "--against-cluster", "--context", "nowhere"], &[new.path()]);
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}

#[test]
fn a_project_whose_registry_the_cluster_does_not_have_is_told() {
    let stray = |name: &str| {
        serde_json::json!({
            "apiVersion": "landfast.dev/v1alpha1", "kind": "Project",
            "metadata": {"name": name, "namespace": "team", "uid": name},
            "spec": {"registryRef": {"name": "nowhere", "namespace": "images"}},
        })
    };
    let (cluster, new) = (cluster(&[stray("old")]), folder(&[("new.json", &stray("new").to_string())]));
    let output = access_with(&cluster.path().join("config"), &["diff", "--against-cluster"], &[new.path()]);
    let problem = "there is no Registry images/nowhere: create it, or correct registryRef";
    let expected = format!("warning: Project team/old: {problem}\nProject team/new: {problem}\n");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(2), expected), "{output:?}");
}
