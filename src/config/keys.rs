//! The keys of the configuration, as the structs' JSON schema tells them, and values held against them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::ServeConfig;

/// Why a configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("can't read configuration file {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{layer} is not valid YAML: {source}")]
    Yaml { layer: String, source: Box<serde_saphyr::Error> },
    #[error("{layer}: there is no key {key:?} here; allowed: {allowed}")]
    UnknownKey { layer: String, key: String, allowed: String },
    #[error("environment variable {name} is not known; allowed with such a start: {allowed}")]
    UnknownVariable { name: String, allowed: String },
    #[error("environment variable {name} is not UTF-8 text")]
    VariableText { name: String },
    #[error("--set {text:?} has no '=': write --set limits.uploads=100")]
    Assignment { text: String },
    #[error("{layer}: {key} must be {expected}, not {value}")]
    Value { layer: String, key: String, expected: String, value: String },
    #[error("{layer}: {key} is set beside {other}: set only one of them")]
    Alternatives { layer: String, key: String, other: String },
    #[error("{key} is not set, and has no default: {fix}")]
    Missing { key: String, fix: String },
    #[error("{layer}: {key} can't be used: {message}. It is: {meaning}")]
    Refused { layer: String, key: String, message: String, meaning: String },
    #[error("{keys} don't fit together: {fix}")]
    Together { keys: &'static str, fix: &'static str },
}

/// A key, or a section of keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Section(Section),
    Leaf(Leaf),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Section {
    pub meaning: String,
    pub keys: BTreeMap<String, Node>,
    pub required: Vec<String>,
    /// At most one of `keys` may be set.
    pub alternatives: bool,
}

/// A key that has a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    pub meaning: String,
    pub kind: Kind,
    pub default: Option<Value>,
    /// What a client gets when it comes to the limit.
    pub answer: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Number {
        minimum: u64,
        maximum: Option<u64>,
    },
    /// Between these two, which may be reached.
    Decimal(f64, f64),
    Boolean,
    Text,
    Choice(Vec<String>),
    /// What only its type can judge: a list, or a list of sections.
    Other,
}

impl Node {
    /// The whole configuration.
    pub fn schema() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<ServeConfig>();
        Node::of(schema.as_value())
    }

    fn of(schema: &Value) -> Self {
        let text = |key: &str| schema[key].as_str().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let meaning = text("description").unwrap_or_default();
        let variants = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
        let variants = variants.into_iter().flatten().filter(|variant| variant["properties"].is_object());
        let shapes: Vec<&Value> =
            std::iter::once(schema).filter(|own| own["properties"].is_object()).chain(variants).collect();
        let is_object = schema["type"] == "object" && schema["additionalProperties"] == false;
        if shapes.is_empty() && !is_object {
            let default = schema.get("default").filter(|default| !default.is_null()).cloned();
            return Node::Leaf(Leaf { meaning, kind: Kind::of(schema), default, answer: text("x-answer") });
        }
        // An enum's variants are objects of one key each.
        let alternatives = schema["oneOf"].is_array();
        let mut section = Section { meaning, alternatives, ..Section::default() };
        for shape in shapes {
            let properties = shape["properties"].as_object().into_iter().flatten();
            section.keys.extend(properties.map(|(name, schema)| (name.clone(), Node::of(schema))));
            if !alternatives {
                let required = shape["required"].as_array().into_iter().flatten();
                section.required.extend(required.filter_map(Value::as_str).map(str::to_owned));
            }
        }
        Node::Section(section)
    }

    /// Each key below this one, sections left out, with its path from here.
    pub fn leaves(&self) -> Vec<(String, &Leaf)> {
        match self {
            Node::Leaf(leaf) => vec![(String::new(), leaf)],
            Node::Section(section) => section
                .keys
                .iter()
                .flat_map(|(name, node)| node.leaves().into_iter().map(move |(path, leaf)| (join(name, &path), leaf)))
                .collect(),
        }
    }

    /// `tree` without what its sections say and the defaults say too. What stands at the top is always said.
    pub fn without_defaults(&self, tree: Value) -> Value {
        let (Node::Section(section), Value::Object(map)) = (self, tree) else { return Value::Null };
        let kept = map.into_iter().filter_map(|(name, value)| {
            let pruned = match section.keys.get(&name) {
                Some(Node::Section(inner)) => prune(inner, value)?,
                _ => value,
            };
            Some((name, pruned))
        });
        Value::Object(kept.collect())
    }
}

fn prune(section: &Section, value: Value) -> Option<Value> {
    let Value::Object(map) = value else { return Some(value) };
    let kept: Map<String, Value> = map
        .into_iter()
        .filter_map(|(name, value)| match section.keys.get(&name) {
            Some(Node::Section(inner)) => prune(inner, value).map(|value| (name, value)),
            Some(Node::Leaf(leaf)) if leaf.default.as_ref() == Some(&value) => None,
            _ => Some((name, value)),
        })
        .collect();
    (!kept.is_empty()).then_some(Value::Object(kept))
}

impl Kind {
    fn of(schema: &Value) -> Self {
        let is = |wanted: &str| match &schema["type"] {
            Value::String(name) => name == wanted,
            Value::Array(names) => names.iter().any(|name| name == wanted),
            _ => false,
        };
        if let Some(choices) = schema["enum"].as_array() {
            return Kind::Choice(choices.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        }
        // The choices of an enum whose variants have comments.
        if let Some(variants) = schema["oneOf"].as_array() {
            return Kind::Choice(
                variants.iter().filter_map(|variant| variant["const"].as_str().map(str::to_owned)).collect(),
            );
        }
        if is("number") {
            let bound = |name: &str, otherwise| schema[name].as_f64().unwrap_or(otherwise);
            return Kind::Decimal(bound("minimum", f64::MIN), bound("maximum", f64::MAX));
        }
        if is("integer") {
            let minimum = schema["minimum"].as_u64().unwrap_or(0);
            return Kind::Number { minimum, maximum: schema["maximum"].as_u64() };
        }
        match () {
            () if is("boolean") => Kind::Boolean,
            () if is("string") => Kind::Text,
            () => Kind::Other,
        }
    }

    /// What a value must be, in words.
    pub fn expected(&self) -> String {
        match self {
            Kind::Number { minimum, maximum: Some(maximum) } => format!("a number from {minimum} to {maximum}"),
            Kind::Number { minimum, maximum: None } => format!("a number, at least {minimum}"),
            Kind::Decimal(minimum, maximum) => format!("a number from {minimum} to {maximum}"),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Choice(choices) => format!("one of {}", choices.join(", ")),
            Kind::Other => "a list".to_owned(),
        }
    }

    /// `value` in the form that the type reads, if it may be used. `text` is how it was written, where that is known.
    pub fn accept(&self, value: Value, text: Option<&str>) -> Option<Value> {
        let is_in_range = |number: u64, minimum: u64, maximum: Option<u64>| {
            number >= minimum && maximum.is_none_or(|maximum| number <= maximum)
        };
        match (self, &value) {
            (Kind::Number { minimum, maximum }, Value::Number(number)) => {
                is_in_range(number.as_u64()?, *minimum, *maximum).then_some(value)
            }
            (Kind::Decimal(minimum, maximum), Value::Number(number)) => {
                (*minimum..=*maximum).contains(&number.as_f64()?).then_some(value)
            }
            (Kind::Boolean, Value::Bool(_)) | (Kind::Text, Value::String(_)) => Some(value),
            // YAML takes `1.2` for a number, and `yes` or `007` for what they aren't.
            (Kind::Text, Value::Number(_) | Value::Bool(_)) => {
                Some(Value::String(text.map_or_else(|| value.to_string(), str::to_owned)))
            }
            (Kind::Choice(choices), Value::String(_) | Value::Number(_)) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                choices.contains(&text).then_some(Value::String(text))
            }
            (Kind::Other, Value::Array(_) | Value::Object(_)) => Some(value),
            _ => None,
        }
    }
}

/// Two parts of a key's path as one.
pub(super) fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", only) | (only, "") => only.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

/// The variable for a key: `limits.manifestBytes` is `LANDFAST_LIMITS_MANIFEST_BYTES`.
pub(super) fn variable(key: &str) -> String {
    let mut name = "LANDFAST_".to_owned();
    for character in key.chars() {
        match character {
            '.' => name.push('_'),
            upper if upper.is_ascii_uppercase() => name.extend(['_', upper]),
            other => name.push(other.to_ascii_uppercase()),
        }
    }
    name
}
