//! Patterns of repository names: `*` inside of a component, `**` for any number of components.

use std::collections::BTreeSet;
use std::fmt;

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    components: Vec<Component>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    /// `**`
    Any,
    /// Text in which `*` stands for any text without a slash.
    Pattern(String),
}

/// How narrow a pattern is: more literal characters first, then fewer wildcards. Greater is more specific.
pub type Specificity = (usize, std::cmp::Reverse<usize>);

impl Glob {
    /// Every text is a pattern; one that no repository can have as its name just never matches.
    pub fn new(pattern: &str) -> Self {
        let component = |text: &str| match text {
            "**" => Component::Any,
            // A run of stars inside of a component means what one star does, and matches without back-tracking twice.
            _ => Component::Pattern(text.split("**").collect::<Vec<_>>().join("*")),
        };
        Self { components: pattern.split('/').map(component).collect() }
    }

    pub fn matches(&self, name: &str) -> bool {
        // What differs at the beginning, as most does, is not taken apart.
        if let (Some(Component::Pattern(pattern)), Some(first)) = (self.components.first(), name.split('/').next())
            && !matches_component(pattern, first)
        {
            return false;
        }
        let components: Vec<&str> = name.split('/').collect();
        matches_components(&self.components, &components)
    }

    /// Whether it is this name, without any wildcard.
    pub fn is_literally(&self, name: &str) -> bool {
        !name.contains('*') && self.to_string() == name
    }

    /// Whether every name that `other` matches is matched by this one too. It says no where it can't tell, which is only
    /// where both have wildcards in the same component.
    pub fn covers(&self, other: &Self) -> bool {
        covers_components(&self.components, &other.components)
    }

    /// What is left of the pattern below a folder: what it matches there is what one of these matches of the rest of a name.
    pub fn within(&self, folder: &str) -> Vec<Self> {
        let component = |at: usize| self.components.get(at);
        // A `**` may be nothing too.
        let reached =
            |at| std::iter::successors(Some(at), |at| matches!(component(*at), Some(Component::Any)).then_some(at + 1));
        let mut rests = BTreeSet::from([0]);
        for text in folder.split('/').filter(|text| !text.is_empty()) {
            let step = |at| match component(at)? {
                Component::Any => Some(at),
                Component::Pattern(pattern) => matches_component(pattern, text).then_some(at + 1),
            };
            rests = rests.into_iter().flat_map(reached).filter_map(step).collect();
        }
        let rests = rests.into_iter().map(|at| self.components[at..].to_vec());
        rests.filter(|rest| !rest.is_empty()).map(|components| Self { components }).collect()
    }

    pub fn specificity(&self) -> Specificity {
        let text = self.to_string();
        let stars = text.bytes().filter(|byte| *byte == b'*').count();
        (text.len() - stars, std::cmp::Reverse(stars))
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, component) in self.components.iter().enumerate() {
            let separator = if index == 0 { "" } else { "/" };
            match component {
                Component::Any => write!(f, "{separator}**")?,
                Component::Pattern(text) => write!(f, "{separator}{text}")?,
            }
        }
        Ok(())
    }
}

/// The usual two-pointer match: on a mismatch only the last wildcard is widened, so the time is bounded by the product
/// of the lengths, whatever the pattern.
fn matches_with_wildcard<P, T>(
    pattern: &[P],
    text: &[T],
    is_wildcard: impl Fn(&P) -> bool,
    equal: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_wildcard = None;
    while t < text.len() {
        if pattern.get(p).is_some_and(&is_wildcard) {
            last_wildcard = Some((p, t));
            p += 1;
        } else if pattern.get(p).is_some_and(|item| equal(item, &text[t])) {
            (p, t) = (p + 1, t + 1);
        } else if let Some((wildcard, start)) = last_wildcard {
            (p, t) = (wildcard + 1, start + 1);
            last_wildcard = Some((wildcard, start + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(is_wildcard)
}

fn matches_components(pattern: &[Component], name: &[&str]) -> bool {
    let is_any = |component: &Component| matches!(component, Component::Any);
    matches_with_wildcard(pattern, name, is_any, |component, text| match component {
        Component::Any => true,
        Component::Pattern(pattern) => matches_component(pattern, text),
    })
}

fn matches_component(pattern: &str, text: &str) -> bool {
    matches_with_wildcard(pattern.as_bytes(), text.as_bytes(), |byte| *byte == b'*', |a, b| a == b)
}

/// A `**` of the narrow pattern is a component like any other to a `**` of the wide one, and to nothing else.
fn covers_components(wide: &[Component], narrow: &[Component]) -> bool {
    let is_any = |component: &Component| matches!(component, Component::Any);
    matches_with_wildcard(wide, narrow, is_any, |wide, narrow| match (wide, narrow) {
        (Component::Pattern(wide), Component::Pattern(narrow)) => covers_pattern(wide, narrow),
        _ => false,
    })
}

/// A star of the narrow pattern is text like any other to a star of the wide one, and to nothing else.
fn covers_pattern(wide: &str, narrow: &str) -> bool {
    matches_with_wildcard(wide.as_bytes(), narrow.as_bytes(), |byte| *byte == b'*', |a, b| a == b && *b != b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::literal("app", "app", true)]
    #[case::other("app", "apps", false)]
    #[case::star("base-*", "base-debian", true)]
    #[case::star_stays_in_its_component("*", "a/b", false)]
    #[case::star_in_the_middle("a*c*e", "abcde", true)]
    #[case::double_star("**", "a/b/c", true)]
    #[case::double_star_may_be_empty("a/**", "a", true)]
    #[case::double_star_inside("a/**/z", "a/b/c/z", true)]
    #[case::double_star_inside_needs_the_end("a/**/z", "a/b/c", false)]
    #[case::run_of_stars("a***b", "axxb", true)]
    fn matches(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
        assert_eq!(Glob::new(pattern).matches(name), expected);
    }

    #[rstest]
    #[case::itself("app-*", "app-*", true)]
    #[case::literal_in_pattern("app-*", "app-1", true)]
    #[case::narrower_pattern("app-*", "app-web-*", true)]
    #[case::wider_pattern("app-web-*", "app-*", false)]
    #[case::everything("**", "a/*/c", true)]
    #[case::everything_below("a/**", "a/b/**", true)]
    #[case::everything_below_is_less_than_everything("a/**", "**", false)]
    #[case::one_component("*", "a", true)]
    #[case::one_component_is_not_several("*", "a/b", false)]
    #[case::one_component_is_not_any_number("*", "**", false)]
    #[case::any_number_in_one("a/*", "a/**", false)]
    #[case::end("*-prod", "*-dev", false)]
    fn covers(#[case] wide: &str, #[case] narrow: &str, #[case] expected: bool) {
        assert_eq!(Glob::new(wide).covers(&Glob::new(narrow)), expected);
    }

    #[test]
    fn literal_is_more_specific_than_pattern() {
        let mut globs: Vec<Glob> = ["**", "app", "app-*", "app-*-*"].map(Glob::new).into();
        globs.sort_by_key(|glob| std::cmp::Reverse(glob.specificity()));
        assert_eq!(globs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["app-*-*", "app-*", "app", "**"]);
    }

    proptest::proptest! {
        #[test]
        fn a_name_matches_itself_and_everything_matches_all(name in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            proptest::prop_assert!(Glob::new(&name).matches(&name));
            proptest::prop_assert!(Glob::new("**").matches(&name));
        }

        /// Whoever may only grant what he has can't grant more.
        #[test]
        fn what_is_covered_is_matched(
            wide in "([ab*]{1,3}|[*][*])(/([ab*]{1,3}|[*][*])){0,2}",
            narrow in "([ab*]{1,3}|[*][*])(/([ab*]{1,3}|[*][*])){0,2}",
            name in "[ab]{1,3}(/[ab]{1,3}){0,3}",
        ) {
            let (wide, narrow) = (Glob::new(&wide), Glob::new(&narrow));
            if wide.covers(&narrow) && narrow.matches(&name) {
                proptest::prop_assert!(wide.matches(&name), "{} covers {}, not {}", wide, narrow, name);
            }
        }

        #[test]
        fn what_is_left_within_a_folder_matches_the_same(
            pattern in "([ab*]{1,3}|[*][*])(/([ab*]{1,3}|[*][*])){0,4}",
            folder in "([ab]{1,2}(/[ab]{1,2}){0,2})?",
            name in "[ab]{1,2}(/[ab]{1,2}){0,2}",
        ) {
            let glob = Glob::new(&pattern);
            let whole = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let is_left = glob.within(&folder).iter().any(|rest| rest.matches(&name));
            proptest::prop_assert_eq!(is_left, glob.matches(&whole), "{} below {}: {}", glob, folder, name);
        }

        #[test]
        fn never_panics_and_ends(pattern in "[a*/]{0,60}", name in "[a/]{0,60}") {
            Glob::new(&pattern).matches(&name);
        }
    }
}
