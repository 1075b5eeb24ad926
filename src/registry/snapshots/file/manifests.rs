//! Reading a folder of manifests.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::Resource;
use kube::core::cel::validate_cel_schema;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::GROUP;
use crate::api::v1alpha1::Member;
use crate::policy::Inputs;
use crate::policy::compile::Namespaces;
use crate::registry::snapshots::Objects;

/// Why a folder of manifests can't be used. Each text names the file.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    #[error("can't read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not valid YAML: {source}")]
    Yaml { path: PathBuf, source: Box<serde_saphyr::Error> },
    #[error("{path}: {message}")]
    Object { path: PathBuf, message: String },
    #[error("{directory} holds {count} Registries; there must be exactly one")]
    Registries { directory: PathBuf, count: usize },
}

/// Where an object belongs that names no namespace, as far as no cluster says otherwise.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Names, sizes and times of the files: a change of any of them is reason to read again.
pub(super) fn fingerprint(directory: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in files(directory).unwrap_or_default() {
        let metadata = std::fs::metadata(&path).ok();
        let times = metadata.map(|metadata| (metadata.len(), metadata.modified().ok()));
        (path, times).hash(&mut hasher);
    }
    hasher.finish()
}

/// The manifests of a folder, sub-folders not counted, in the order of their names.
fn files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if is_manifest(&path) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The same, those in sub-folders too. Hidden ones, such as version control's, and those behind links are left out.
fn files_below(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            match entry.file_type()?.is_dir() {
                true if !is_hidden => folders.push(path),
                false if is_manifest(&path) => files.push(path),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("yaml" | "yml" | "json"))
}

/// Reads all manifests of a folder, of exactly one Registry. Kinds that are not landfast's are passed over, so that a
/// whole GitOps folder may be given. Namespaces are too: without a cluster they have no labels.
pub fn read(directory: &Path) -> Result<Inputs, ManifestsError> {
    let read_error = |source| ManifestsError::Read { path: directory.to_owned(), source };
    let objects = read_files(&files(directory).map_err(read_error)?, DEFAULT_NAMESPACE, |_| false)?;
    let [registry] = objects.registries.as_slice() else {
        let count = objects.registries.len();
        return Err(ManifestsError::Registries { directory: directory.to_owned(), count });
    };
    Ok(Inputs { namespaces: None, ..objects.inputs(registry) })
}

/// Reads all manifests of a folder and of those below it, of however many Registries. Each object is held to the same
/// rules. Labels of namespaces are known if the folder has Namespaces. A file that is not YAML, such as a chart's template,
/// is an error only if it speaks of landfast. An object that names no namespace belongs into the given one.
pub fn read_all(directory: &Path, namespace: &str) -> Result<Objects, ManifestsError> {
    let read_error = |source| ManifestsError::Read { path: directory.to_owned(), source };
    read_files(&files_below(directory).map_err(read_error)?, namespace, |text| !text.contains(GROUP))
}

/// `is_foreign` says of what can't be read whether that makes no difference.
fn read_files(
    paths: &[PathBuf],
    namespace: &str,
    is_foreign: impl Fn(&str) -> bool,
) -> Result<Objects, ManifestsError> {
    let mut objects = Objects::default();
    for path in paths {
        let text =
            std::fs::read_to_string(path).map_err(|source| ManifestsError::Read { path: path.clone(), source })?;
        // Only `true` and `false` are booleans (YAML 1.2): a name such as `n` or `no` stays a text.
        let options = serde_saphyr::options! { strict_booleans: true };
        let documents: Vec<Value> = match serde_saphyr::from_multiple_with_options(&text, options) {
            Ok(documents) => documents,
            Err(_) if is_foreign(&text) => continue,
            Err(source) => return Err(ManifestsError::Yaml { path: path.clone(), source: Box::new(source) }),
        };
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            let added = add(document, namespace, &mut objects);
            added.map_err(|message| ManifestsError::Object { path: path.clone(), message })?;
        }
    }
    Ok(objects)
}

/// Adds what a document says, if it is about one of ours or a Namespace.
fn add(document: Value, namespace: &str, objects: &mut Objects) -> Result<(), String> {
    let version = document["apiVersion"].as_str().unwrap_or_default();
    let kind = document["kind"].as_str().unwrap_or_default().to_owned();
    if version == "v1" && kind == "Namespace" {
        add_namespace(&document, objects.namespaces.get_or_insert_default());
        return Ok(());
    }
    if version.split_once('/').map(|(group, _)| group) != Some(GROUP) {
        return Ok(());
    }
    let added = match kind.as_str() {
        "Registry" => take(document, namespace, &mut objects.registries),
        "Project" => take(document, namespace, &mut objects.projects),
        "RepositoryPolicy" => take(document, namespace, &mut objects.policies),
        "Member" => take(document, namespace, &mut objects.members).and_then(|()| check_robots(objects.members.last())),
        _ => Err(format!("is no kind of {GROUP}; use Registry, Project, RepositoryPolicy or Member")),
    };
    added.map_err(|message| format!("{kind}: {message}"))
}

fn check_robots(member: Option<&Arc<Member>>) -> Result<(), String> {
    let mut robots = member.into_iter().flat_map(|member| member.robots());
    match robots.find(|robot| !is_name(&robot.name)) {
        None => Ok(()),
        Some(robot) => Err(format!("{:?} is no name of a robot: use lower-case letters, digits and '-'", robot.name)),
    }
}

/// The API server gives each namespace its name as a label.
fn add_namespace(document: &Value, namespaces: &mut Namespaces) {
    let Some(name) = document["metadata"]["name"].as_str() else { return };
    let given = document["metadata"]["labels"].as_object().into_iter().flatten();
    let given = given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let own = ("kubernetes.io/metadata.name".to_owned(), name.to_owned());
    namespaces.insert(name.to_owned(), given.chain([own]).collect());
}

/// Makes an object of a document as the API server would: namespace and UID set, rules checked.
fn take<K>(document: Value, default_namespace: &str, list: &mut Vec<Arc<K>>) -> Result<(), String>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + JsonSchema,
{
    let mut object: K = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let read = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    let mut unknown = Vec::new();
    unknown_fields("", &document, &read, &mut unknown);
    if !unknown.is_empty() {
        return Err(format!("unknown field {}: is it misspelled?", unknown.join(", ")));
    }
    let metadata = object.meta_mut();
    let name = metadata.name.clone().filter(|name| !name.is_empty()).ok_or("metadata.name is missing")?;
    let namespace = metadata.namespace.get_or_insert_with(|| default_namespace.to_owned()).clone();
    for name in [&name, &namespace] {
        if !is_name(name) {
            return Err(format!("{name:?} is no name: use lower-case letters, digits, '-' and '.'"));
        }
    }
    // Stable, so that a credential outlives a restart; the same object written again is the same object.
    metadata.uid = Some(format!("{}/{namespace}/{name}", K::kind(&())));
    if list.iter().any(|other| other.meta().uid == object.meta().uid) {
        return Err(format!("{namespace}/{name} is there twice"));
    }
    let whole = serde_json::to_value(&object).map_err(|error| error.to_string())?;
    // By the schema alone: `K::validate_cel` goes through the whole definition of the kind, which takes far longer.
    validate_cel_schema::<K>(&whole, None).map_err(|error| format!("{namespace}/{name}: {error}"))?;
    list.push(Arc::new(object));
    Ok(())
}

/// A DNS subdomain (RFC 1123), as the API server demands of names. They become names of folders here.
fn is_name(text: &str) -> bool {
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Collects the paths of fields that were given and not read. A typo must not loosen a policy.
fn unknown_fields(path: &str, given: &Value, read: &Value, found: &mut Vec<String>) {
    match (given, read) {
        (Value::Object(given), Value::Object(read)) => {
            // The status is the cluster's business, and labels are anybody's.
            for (name, value) in given.iter().filter(|(name, _)| !(path.is_empty() && *name == "status")) {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match read.get(name) {
                    Some(read) => unknown_fields(&path, value, read, found),
                    // Left out when it is written because it says nothing.
                    None if is_empty(value) => {}
                    None => found.push(path),
                }
            }
        }
        (Value::Array(given), Value::Array(read)) => {
            for (index, (given, read)) in given.iter().zip(read).enumerate() {
                unknown_fields(&format!("{path}[{index}]"), given, read, found);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const REGISTRY: &str =
        "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {name: r}\nspec: {storage: {emptyDir: {}}}\n";

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn reads_several_documents_and_passes_over_other_kinds() {
        let more = format!(
            "{REGISTRY}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: x}}\n---\napiVersion: landfast.dev/v1alpha1\nkind: Project\nmetadata: {{name: p, namespace: n}}\nspec: {{registryRef: {{name: r, namespace: default}}}}\n"
        );
        let folder = folder(&[("a.yaml", &more), ("notes.txt", "kind: nothing")]);
        let inputs = read(folder.path()).unwrap();
        assert_eq!(inputs.projects.len(), 1);
        assert_eq!(inputs.projects[0].metadata.uid.as_deref(), Some("Project/n/p"));
        assert_eq!(inputs.registry.metadata.namespace.as_deref(), Some("default"));
    }

    #[rstest]
    #[case::none(&[("a.yaml", "")], "exactly one")]
    #[case::two(&[("a.yaml", REGISTRY), ("b.yaml", &REGISTRY.replace("name: r", "name: s"))], "holds 2 Registries")]
    #[case::twice(&[("a.yaml", REGISTRY), ("b.yaml", REGISTRY)], "there twice")]
    #[case::not_yaml(&[("a.yaml", "a: [")], "a.yaml is not valid YAML")]
    #[case::unknown_kind(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1\nkind: Regsitry\n")], "Regsitry: is no kind")]
    #[case::rule(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {name: r}\nspec: {storage: {}}\n")], "exactly one of")]
    #[case::rule_about_the_whole(&[("a.yaml", &*format!("apiVersion: landfast.dev/v1alpha1\nkind: Project\nmetadata: {{name: {}}}\nspec: {{registryRef: {{name: r}}}}\n", "p".repeat(201)))], "set spec.path")]
    #[case::path_as_name(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {name: ../x}\nspec: {storage: {emptyDir: {}}}\n")], "is no name")]
    #[case::typo(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1
kind: Registry
metadata: {name: r}
spec: {storage: {emptyDir: {}}, tsl: {disabled: {}}}
")], "unknown field spec.tsl")]
    #[case::no_name(&[("a.yaml", "apiVersion: landfast.dev/v1alpha1\nkind: Registry\nmetadata: {}\nspec: {storage: {emptyDir: {}}}\n")], "metadata.name is missing")]
    fn says_what_is_wrong(#[case] files: &[(&str, &str)], #[case] expected: &str) {
        let folder = folder(files);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_folder_of_several_registries_is_read_whole() {
        let other = REGISTRY.replace("name: r", "name: s");
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: n, labels: {team: a}}\n";
        let folder = folder(&[("a.yaml", REGISTRY)]);
        for (name, content) in
            [("deep/er/b.yml", other.as_str()), ("n.yaml", namespace), (".git/c.yaml", "apiVersion: landfast.dev/[")]
        {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        std::fs::write(folder.path().join("deep/template.yaml"), "a: {{ .Values.b }}").unwrap();
        let objects = read_all(folder.path(), "team").unwrap();
        assert_eq!(objects.registries.len(), 2);
        assert_eq!(objects.registries[0].metadata.namespace.as_deref(), Some("team"));
        let labels = &objects.namespaces.unwrap()["n"];
        assert_eq!(labels.get("team").map(String::as_str), Some("a"));
        assert_eq!(labels.get("kubernetes.io/metadata.name").map(String::as_str), Some("n"));
        std::fs::write(folder.path().join("deep/template.yaml"), "# landfast.dev\na: {{ .Values.b }}").unwrap();
        assert!(matches!(read_all(folder.path(), "team"), Err(ManifestsError::Yaml { .. })));
        // The registry reads the folder alone, and of namespaces it knows no labels.
        let inputs = read(folder.path()).unwrap();
        assert_eq!((inputs.registry.metadata.name.as_deref(), inputs.namespaces), (Some("r"), None));
    }

    #[test]
    fn a_changed_file_changes_the_fingerprint() {
        let folder = folder(&[("a.yaml", REGISTRY)]);
        let before = fingerprint(folder.path());
        assert_eq!(fingerprint(folder.path()), before);
        std::fs::write(folder.path().join("b.yaml"), "x").unwrap();
        assert_ne!(fingerprint(folder.path()), before);
    }
}
