//! From layers to one configuration: file, then environment, then flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use serde_json::{Map, Value};

use super::keys::{Node, Section, join, variable};
use super::{ConfigError, ServeConfig};

/// Variables with our prefix that are read elsewhere: by the logs, by the command line, by the operator, by `make`.
const READ_ELSEWHERE: &[&str] = &[
    "LANDFAST_LOG",
    "LANDFAST_LOG_FORMAT",
    "LANDFAST_CONFIG",
    "LANDFAST_DATA",
    "LANDFAST_CACHE",
    "LANDFAST_REGISTRY_IMAGE",
];

/// What has been said so far, each layer over the ones before it.
pub struct Layers {
    schema: Node,
    tree: Value,
    /// Which layer has said it, by key: its place in the order, and what it is called.
    said_by: BTreeMap<String, (usize, String)>,
    layer: usize,
}

impl Default for Layers {
    fn default() -> Self {
        Self { schema: Node::schema(), tree: Value::Object(Map::new()), said_by: BTreeMap::new(), layer: 0 }
    }
}

impl Layers {
    /// Goes on to a layer over those before.
    fn next_layer(&mut self) {
        self.layer += 1;
    }

    /// A layer that is one YAML file.
    pub fn file(&mut self, path: &Path) -> Result<&mut Self, ConfigError> {
        self.next_layer();
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let name = format!("configuration file {}", path.display());
        self.say("", &text, &name)?;
        Ok(self)
    }

    /// A layer of variables. Those that are not ours are passed over.
    pub fn environment(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<&mut Self, ConfigError> {
        self.next_layer();
        let known = self.variables();
        let ours = |name: &OsString| name.to_str().filter(|name| name.starts_with("LANDFAST_")).map(str::to_owned);
        let found: BTreeMap<String, OsString> =
            variables.into_iter().filter_map(|(name, value)| Some((ours(&name)?, value))).collect();
        for (name, value) in found {
            // First: one of them is named like a section.
            if READ_ELSEWHERE.contains(&name.as_str()) {
                continue;
            }
            let Some(key) = known.get(&name) else {
                if is_service_link(&name) {
                    continue;
                }
                return Err(ConfigError::UnknownVariable { allowed: similar(&name, known.keys()), name });
            };
            let text = value.into_string().map_err(|_| ConfigError::VariableText { name: name.clone() })?;
            self.say(key, &text, &format!("environment variable {name}"))?;
        }
        Ok(self)
    }

    /// A layer of keys with their values, each with the name of what has said it.
    pub fn assignments<'a>(
        &mut self,
        assignments: impl IntoIterator<Item = (&'a str, String, &'a str)>,
    ) -> Result<&mut Self, ConfigError> {
        self.next_layer();
        for (key, value, name) in assignments {
            self.put(key, Value::String(value), None, name)?;
        }
        Ok(self)
    }

    /// Whether a layer has set this key.
    pub fn has(&self, key: &str) -> bool {
        self.said_by.contains_key(key)
    }

    /// `KEY=VALUE` with a value in YAML, in the layer that was last.
    pub fn set(&mut self, assignment: &str) -> Result<&mut Self, ConfigError> {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(ConfigError::Assignment { text: assignment.to_owned() });
        };
        self.say(key.trim(), value, &format!("--set {key}"))?;
        Ok(self)
    }

    /// The configuration, if all that is needed has been said.
    pub fn finish(&self) -> Result<ServeConfig, ConfigError> {
        missing(&self.schema, &self.tree, "")?;
        let config: ServeConfig = serde_path_to_error::deserialize(&self.tree).map_err(|error| {
            let key = error.path().to_string();
            let leaf = self.schema.leaves().into_iter().find(|(path, _)| *path == key);
            let meaning = leaf.map(|(_, leaf)| leaf.meaning.clone()).unwrap_or_default();
            ConfigError::Refused { layer: self.source(&key), key, message: error.into_inner().to_string(), meaning }
        })?;
        config.limits.check()?;
        Ok(config)
    }

    /// Every variable, sections' too, and its key.
    fn variables(&self) -> BTreeMap<String, String> {
        fn walk(node: &Node, path: &str, found: &mut BTreeMap<String, String>) {
            let Node::Section(section) = node else { return };
            for (name, node) in &section.keys {
                let path = join(path, name);
                found.insert(variable(&path), path.clone());
                walk(node, &path, found);
            }
        }
        let mut found = BTreeMap::new();
        walk(&self.schema, "", &mut found);
        found
    }

    /// Who has said `key`, or something about it.
    fn source(&self, key: &str) -> String {
        let about = |said: &str| key.starts_with(said) || said.starts_with(key);
        let said = self.said_by.iter().filter(|(said, _)| about(said)).max_by_key(|(said, _)| said.len());
        said.map_or_else(|| "configuration".to_owned(), |(_, (_, name))| name.clone())
    }

    fn say(&mut self, key: &str, text: &str, name: &str) -> Result<(), ConfigError> {
        // Else a Registry could not be called `n`.
        let options = serde_saphyr::options! { strict_booleans: true };
        let value: Value = serde_saphyr::from_str_with_options(text, options)
            .map_err(|source| ConfigError::Yaml { layer: name.to_owned(), source: Box::new(source) })?;
        self.put(key, value, Some(text.trim()), name)
    }

    fn put(&mut self, key: &str, mut value: Value, text: Option<&str>, name: &str) -> Result<(), ConfigError> {
        let path: Vec<&str> = key.split('.').filter(|part| !part.is_empty()).collect();
        if key.is_empty() && value.is_null() {
            return Ok(());
        }
        for part in path.iter().rev() {
            value = Value::Object(Map::from_iter([((*part).to_owned(), value)]));
        }
        let mut tree = std::mem::take(&mut self.tree);
        let mut merge = Merge { said_by: &mut self.said_by, layer: self.layer, name, text, key };
        let merged = merge.node(&self.schema, &mut tree, value, "");
        self.tree = tree;
        merged
    }
}

/// One statement on its way into the tree.
struct Merge<'a> {
    said_by: &'a mut BTreeMap<String, (usize, String)>,
    layer: usize,
    name: &'a str,
    /// As it was written, for the key that it was written for.
    text: Option<&'a str>,
    key: &'a str,
}

impl Merge<'_> {
    fn node(&mut self, node: &Node, into: &mut Value, value: Value, path: &str) -> Result<(), ConfigError> {
        // Whatever lower layers say is not said.
        if value.is_null() {
            *into = Value::Null;
            return Ok(());
        }
        let refused = |expected: String, value: &Value| ConfigError::Value {
            layer: self.name.to_owned(),
            key: path.to_owned(),
            expected,
            value: value.to_string(),
        };
        match (node, value) {
            (Node::Section(section), Value::Object(map)) => self.section(section, into, map, path),
            (Node::Section(section), other) => {
                Err(refused(format!("a section with keys among {}", names(section)), &other))
            }
            (Node::Leaf(leaf), value) => {
                let written = self.text.filter(|_| path == self.key);
                let expected = || refused(leaf.kind.expected(), &value);
                *into = leaf.kind.accept(value.clone(), written).ok_or_else(expected)?;
                self.said_by.insert(path.to_owned(), (self.layer, self.name.to_owned()));
                Ok(())
            }
        }
    }

    fn section(
        &mut self,
        section: &Section,
        into: &mut Value,
        map: Map<String, Value>,
        path: &str,
    ) -> Result<(), ConfigError> {
        if !into.is_object() {
            *into = Value::Object(Map::new());
        }
        for (name, value) in map {
            let path = join(path, &name);
            let Some(node) = section.keys.get(&name) else {
                return Err(ConfigError::UnknownKey {
                    layer: self.name.to_owned(),
                    key: path,
                    allowed: names(section),
                });
            };
            let Some(fields) = into.as_object_mut() else { continue };
            if section.alternatives {
                self.choose(fields, &name, &path)?;
            }
            let mut inner = fields.remove(&name).unwrap_or_default();
            self.node(node, &mut inner, value, &path)?;
            if !inner.is_null() {
                fields.insert(name, inner);
            }
        }
        Ok(())
    }

    /// Lets go of another alternative that a lower layer has chosen.
    fn choose(&mut self, fields: &mut Map<String, Value>, name: &str, path: &str) -> Result<(), ConfigError> {
        let Some(other) = fields.keys().find(|other| *other != name).cloned() else { return Ok(()) };
        let parent = path.trim_end_matches(name);
        let below = format!("{parent}{other}.");
        let same_layer =
            |(said, (layer, _)): (&String, &(usize, String))| said.starts_with(&below) && *layer == self.layer;
        if self.said_by.iter().any(same_layer) {
            return Err(ConfigError::Alternatives {
                layer: self.name.to_owned(),
                key: path.to_owned(),
                other: format!("{parent}{other}"),
            });
        }
        self.said_by.retain(|said, _| !said.starts_with(&below));
        fields.remove(&other);
        Ok(())
    }
}

/// The first key that is needed and has not been set.
fn missing(node: &Node, tree: &Value, path: &str) -> Result<(), ConfigError> {
    let Node::Section(section) = node else { return Ok(()) };
    let lacks = |key: String, keys: Vec<String>| {
        let written = keys.iter().map(|key| format!("{key} ({})", variable(key))).collect::<Vec<_>>().join(", ");
        Err(ConfigError::Missing { key, fix: format!("set {written}") })
    };
    let below = |node: &Node, path: &str| node.leaves().iter().map(|(leaf, _)| join(path, leaf)).collect();
    for name in &section.required {
        if tree.get(name).is_none_or(Value::is_null) {
            let path = join(path, name);
            return lacks(path.clone(), below(&section.keys[name], &path));
        }
    }
    if section.alternatives && tree.as_object().is_none_or(Map::is_empty) {
        return lacks(path.to_owned(), below(node, path));
    }
    for (name, tree) in tree.as_object().into_iter().flatten() {
        if let Some(node) = section.keys.get(name) {
            missing(node, tree, &join(path, name))?;
        }
    }
    Ok(())
}

fn names(section: &Section) -> String {
    section.keys.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Kubernetes makes these in each pod for a Service whose name starts with `landfast`.
fn is_service_link(name: &str) -> bool {
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"].iter().any(|end| name.ends_with(end));
    ends || name.contains("_SERVICE_PORT_")
        || (name.contains("_PORT_") && ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| name.contains(protocol)))
}

/// The variables that start most like `name`.
fn similar<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let shared = |known: &str| known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
    let known: Vec<_> = known.map(|known| (shared(known), known.as_str())).collect();
    let most = known.iter().map(|(length, _)| *length).max().unwrap_or_default();
    known.iter().filter(|(length, _)| *length == most).map(|(_, known)| *known).collect::<Vec<_>>().join(", ")
}
