//! Holds the sources against the import table of `src/lib.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a rule holds, and which modules of ours code there may name. The longest matching path counts.
const TABLE: &[(&str, &[&str])] = &[
    ("src/oci", &[]),
    ("src/telemetry", &[]),
    ("src/watch.rs", &[]),
    ("src/config", &["oci"]),
    ("src/api", &["oci"]),
    ("src/policy", &["oci"]),
    ("src/policy/compile", &["oci", "api", "policy"]),
    ("src/registry", &["oci", "policy", "config", "telemetry"]),
    ("src/registry/snapshots", &["oci", "policy", "config", "telemetry", "api", "watch"]),
    ("src/controller", &["oci", "api", "policy", "config", "telemetry", "watch"]),
    ("src/cli", &["oci", "api", "policy", "config", "telemetry", "watch", "registry", "controller"]),
];

/// Folders whose code must not know of Kubernetes' API machinery. (`k8s_openapi::jiff` is a clock's type, no more.)
const WITHOUT_KUBE: &[&str] = &["src/oci", "src/telemetry", "src/config", "src/policy", "src/registry"];
const WITH_KUBE: &[&str] = &["src/registry/snapshots", "src/policy/compile"];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn all() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    sources(&root.join("src"), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    found.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

/// The modules of ours that a source names, by `crate::` or `landfast::`.
fn named(source: &str) -> Vec<String> {
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for prefix in ["crate::", "landfast::"] {
        for (at, _) in code.match_indices(prefix) {
            // Not the tail of a longer word, and not a string such as a log target.
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '"') {
                continue;
            }
            let rest = &code[at + prefix.len()..];
            names.push(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    names
}

fn rule(path: &str) -> Option<(&'static str, &'static [&'static str])> {
    let rules = TABLE.iter().filter(|(prefix, _)| path.starts_with(prefix));
    rules.max_by_key(|(prefix, _)| prefix.len()).copied()
}

fn top_level(path: &str) -> &str {
    path.trim_start_matches("src/").split(['/', '.']).next().unwrap()
}

#[test]
fn modules_import_what_the_table_allows() {
    let mut broken = Vec::new();
    let mut checked = 0;
    for (path, source) in all() {
        let Some((_, allowed)) = rule(&path) else { continue };
        for name in named(&source) {
            checked += 1;
            if name != top_level(&path) && !allowed.contains(&name.as_str()) {
                broken.push(format!("{path} imports {name}"));
            }
        }
    }
    assert!(checked > 50, "the test reads nothing: {checked} imports seen");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_source_has_a_rule() {
    let exempt = ["src/lib.rs", "src/main.rs"];
    let without: Vec<_> = all()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| rule(path).is_none() && !exempt.contains(&path.as_str()))
        .filter(|path| !["src/tests/", "src/benches/", "src/fuzz/"].iter().any(|folder| path.starts_with(folder)))
        .collect();
    assert_eq!(without, Vec::<String>::new());
}

#[test]
fn only_the_shells_know_kube() {
    let inside = |path: &str, list: &[&str]| list.iter().any(|prefix| path.starts_with(prefix));
    let knows = |source: &str| {
        source.lines().any(|line| {
            let line = line.trim_start();
            !line.starts_with("//")
                && (line.contains("use kube::") || line.contains(" kube::") || line.contains("use ::kube"))
        })
    };
    let broken: Vec<_> = all()
        .into_iter()
        .filter(|(path, source)| inside(path, WITHOUT_KUBE) && !inside(path, WITH_KUBE) && knows(source))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_module_says_what_it_is() {
    let silent: Vec<_> =
        all().into_iter().filter(|(_, source)| !source.starts_with("//!")).map(|(path, _)| path).collect();
    assert_eq!(silent, Vec::<String>::new());
}

/// What a client shows is compared with what it should be in a time that doesn't depend on how much of it is right: by a
/// signature, by bcrypt, by a keyed hash, or byte by byte to the end.
#[test]
fn secrets_are_compared_in_constant_time() {
    let secrets = ["password", "credential", "token", "secret", "username"];
    let compared = |line: &str| {
        secrets.iter().any(|secret| {
            [format!("{secret} == "), format!("{secret} != "), format!("== {secret}"), format!("!= {secret}")]
                .iter()
                .any(|text| line.contains(text.as_str()))
        })
    };
    let mut broken = Vec::new();
    for (path, source) in all().into_iter().filter(|(path, _)| path.starts_with("src/registry/auth")) {
        let code = source.split("#[cfg(test)]").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//") && compared(line));
        broken.extend(lines.map(|line| format!("{path}: {}", line.trim())));
    }
    assert_eq!(broken, Vec::<String>::new());
    let authenticate =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/registry/auth/authenticate.rs"));
    assert!(authenticate.unwrap().contains("ct_eq"), "the user name of a credential");
}
