//! Choosing namespaces, in the way Gateway API's `allowedRoutes` does.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use kube::core::{Selector, SelectorExt as _};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where namespaces are taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The namespace of the object itself.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces whose labels match `selector`.
    Selector,
}

/// A set of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(
    validation = Rule::new("has(self.selector) == (self.from == 'Selector')")
        .message("set selector if, and only if, from is Selector")
)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelection {
    /// `Same`: the namespace of this object. `All`: every namespace. `Selector`: those that `selector` matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Labels of the namespaces, with `from: Selector`. Each namespace carries its name in the label
    /// `kubernetes.io/metadata.name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

impl NamespaceSelection {
    /// Whether the selection of an object in the namespace `own` holds the namespace `candidate` with these labels.
    ///
    /// A selector that can't be read selects nothing.
    pub fn contains(&self, own: &str, candidate: &str, labels: &BTreeMap<String, String>) -> bool {
        self.matcher(own)(candidate, labels)
    }

    /// The same for many namespaces: the selector is read once.
    pub fn matcher<'a>(&self, own: &'a str) -> impl Fn(&str, &BTreeMap<String, String>) -> bool + use<'a> {
        let from = self.from;
        let selector = self.selector.clone().filter(|_| from == NamespacesFrom::Selector).map(Selector::try_from);
        move |candidate, labels| match from {
            NamespacesFrom::Same => own == candidate,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => matches!(&selector, Some(Ok(selector)) if selector.matches(labels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::same("{}", "own", true)]
    #[case::other("{}", "other", false)]
    #[case::all("{from: All}", "other", true)]
    #[case::selected("{from: Selector, selector: {matchLabels: {team: a}}}", "other", true)]
    #[case::not_selected("{from: Selector, selector: {matchLabels: {team: b}}}", "own", false)]
    #[case::expression(
        "{from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a]}]}}",
        "x",
        true
    )]
    #[case::unreadable("{from: Selector, selector: {matchExpressions: [{key: team, operator: Near}]}}", "own", false)]
    #[case::no_selector("{from: Selector}", "own", false)]
    fn contains(#[case] selection: &str, #[case] candidate: &str, #[case] expected: bool) {
        let selection: NamespaceSelection = serde_saphyr::from_str(selection).unwrap();
        let labels = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
        assert_eq!(selection.contains("own", candidate, &labels), expected);
    }
}
