//! The reference page of the configuration, `config/serve.md`.

use serde_json::Value;

use super::keys::{Kind, Leaf, Node, Section, join, variable};

const START: &str = "# Configuration of `landfast serve`

<!-- Made by `make manifests` from the types in src/config. Edit the comments there. -->

Read in layers, each over the one before: defaults, the file that `--config` (or `LANDFAST_CONFIG`) names, the environment,
flags. Every key can be set in each of them:

```sh
landfast serve --config serve.yaml                        # limits: {uploads: 100}
LANDFAST_LIMITS_UPLOADS=100 landfast serve --config serve.yaml
landfast serve --config serve.yaml --set limits.uploads=100
```

Values are YAML, lists and sections in its flow style (`[a, b]`, `{key: value}`); an empty value, or `null`, takes back what a
lower layer has set. A key or a variable that is not known ends the process, and so does a value that can't be used: the
message names it. `landfast serve --print-config` with the same layers prints what comes out of them. Of alternatives
(`policy.kube` and `policy.manifests`) a higher layer's choice replaces a lower one's.

Shorthands: `--listen`, `--health-listen`, `--tls-certificate` and `--tls-key` set the keys of their names, `--htpasswd` sets
`authentication.htpasswd`. `--data DIR` (`LANDFAST_DATA`) sets `storage.filesystem.root` to `DIR/registry` and the state of
`--manifests` to `DIR`. `--manifests DIR` and `--kube NAMESPACE/NAME` set `policy`, and with them the default addresses are
127.0.0.1:5000 and 127.0.0.1:8081.

Sizes are in bytes. Logs have variables of their own: `LANDFAST_LOG` and `LANDFAST_LOG_FORMAT`.
";

/// The page, in Markdown.
pub fn reference() -> String {
    let mut page = START.to_owned();
    let Node::Section(root) = Node::schema() else { return page };
    let leaves = |(name, node): (&String, &Node)| match node {
        Node::Leaf(leaf) => Some((name.clone(), leaf.clone())),
        Node::Section(_) => None,
    };
    let top: Vec<_> = root.keys.iter().filter_map(leaves).collect();
    page.push_str("\n## Addresses and process\n\n");
    page.push_str(&table(top.iter().map(|(name, leaf)| row(name, leaf, false)).collect()));
    for (name, node) in &root.keys {
        if let Node::Section(section) = node {
            page.push_str(&chapter(name, section, root.required.contains(name)));
        }
    }
    page
}

fn chapter(name: &str, section: &Section, required: bool) -> String {
    let mut rows = Vec::new();
    rows_of(name, section, &mut rows);
    if rows.is_empty() {
        return String::new();
    }
    let needed = match (required, section.alternatives && section.keys.len() > 1) {
        (true, true) => " Needed: exactly one of the alternatives.",
        (true, false) => " Needed.",
        _ => "",
    };
    format!("\n## {name}\n\n{}{needed}\n\n{}", section.meaning, table(rows))
}

fn rows_of(path: &str, section: &Section, rows: &mut Vec<String>) {
    for (name, node) in &section.keys {
        let path = join(path, name);
        match node {
            Node::Leaf(leaf) => rows.push(row(&path, leaf, section.required.contains(name))),
            Node::Section(inner) => rows_of(&path, inner, rows),
        }
    }
}

fn table(rows: Vec<String>) -> String {
    let head = "| key | variable | value | default | meaning | beyond it |\n|---|---|---|---|---|---|\n";
    head.to_owned() + &rows.concat()
}

fn row(path: &str, leaf: &Leaf, required: bool) -> String {
    let default = match &leaf.default {
        Some(Value::String(text)) => format!("`{text}`"),
        Some(other) => format!("`{other}`"),
        None if required => "needed".to_owned(),
        None => "none".to_owned(),
    };
    let value = match &leaf.kind {
        Kind::Number { minimum, maximum: Some(maximum) } => format!("{minimum} to {maximum}"),
        Kind::Number { minimum, maximum: None } => format!("{minimum} or more"),
        Kind::Decimal(minimum, maximum) => format!("{minimum} to {maximum}"),
        Kind::Choice(choices) => choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", "),
        other => other.expected(),
    };
    let cells = [
        format!("`{path}`"),
        format!("`{}`", variable(path)),
        value,
        default,
        leaf.meaning.clone(),
        leaf.answer.clone().unwrap_or_default(),
    ];
    format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "))
}
