//! Names that stand for patterns.

use crate::oci::RepositoryName;

/// Takes the place of a wildcard. No team calls anything so.
const ANY: &str = "q7x3any0z9";

/// A repository that the pattern matches, and as few others as possible. `None` if no repository can have such a name.
///
/// `**` becomes two components, so that it is not taken for `*`.
pub(super) fn of(pattern: &str) -> Option<RepositoryName> {
    let component = |component: &str| match component {
        "**" => format!("{ANY}/{ANY}"),
        component => component.replace('*', ANY),
    };
    pattern.split('/').map(component).collect::<Vec<_>>().join("/").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Glob;

    #[test]
    fn what_no_name_can_match_has_none() {
        assert!(of("app-*").is_some() && of("team/*/a*b/**").is_some());
        assert_eq!(of("app-"), None);
        assert_eq!(of(".*"), None);
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_matches_its_sample(pattern in "[a-z0-9*]{1,6}(/[a-z0-9*.-]{1,6}){0,3}") {
            if let Some(sample) = of(&pattern) {
                proptest::prop_assert!(Glob::new(&pattern).matches(sample.as_str()), "{} {}", pattern, sample);
            }
        }
    }
}
