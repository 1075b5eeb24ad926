//! Changes of access in a few sentences.

use std::collections::BTreeMap;

use super::{AccessChange, Change, Difference, Principal};
use crate::policy::Action;

/// As many warnings as a person reads, and as long as an API server passes on whole.
const MOST_SENTENCES: usize = 8;
const MOST_BYTES: usize = 250;
/// What of a name or a pattern is told.
const MOST_OF_NAME: usize = 60;
const MOST_OF_PATTERN: usize = 80;
/// What stands before the names. It leaves room for one of them and for how many more there are.
const MOST_OF_HEAD: usize = 160;

/// Says what changes: at most 8 sentences of at most 250 bytes, losses first, each with a count and the first names.
/// Where there is more than was compared the last one says so.
pub fn summarize(difference: &Difference) -> Vec<String> {
    let Difference { changes, is_whole } = difference;
    let most = if *is_whole { MOST_SENTENCES } else { MOST_SENTENCES - 1 };
    let mut groups: BTreeMap<Head, Vec<&Principal>> = BTreeMap::new();
    for AccessChange { principal, change } in changes {
        groups.entry(Head::of(change)).or_default().push(principal);
    }
    let mut groups: Vec<(Head, Vec<&Principal>)> = groups.into_iter().collect();
    // The sort is stable: among equals the order of the heads stays.
    groups.sort_by_key(|(head, principals)| (head.rank, std::cmp::Reverse(principals.len())));
    let told = if groups.len() > most { most - 1 } else { groups.len() };
    let mut sentences: Vec<String> =
        groups[..told].iter().map(|(head, principals)| sentence(head, principals)).collect();
    let rest = &groups[told..];
    if !rest.is_empty() {
        let count = |is_loss| -> usize {
            rest.iter().filter(|(head, _)| head.is_loss == is_loss).map(|(_, principals)| principals.len()).sum()
        };
        sentences.push(format!("besides, {} more losses and {} more gains", count(true), count(false)));
    }
    if !is_whole {
        sentences.push("there is more: so much changes that not all of it was compared".to_owned());
    }
    sentences
}

/// What several have in common.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Head {
    rank: u8,
    pattern: String,
    /// What one does, and what several do.
    verbs: (String, String),
    is_loss: bool,
}

impl Head {
    fn of(change: &Change) -> Self {
        let both = |text: &str| (text.to_owned(), text.to_owned());
        let verbs = match change {
            Change::Revoked(why) => both(&format!("credentials revoked, {why}")),
            Change::NoLogin => both("can't log in any more"),
            Change::NewLogin => both("have to log in again, if they still can"),
            Change::Login => both("can log in"),
            Change::Loses { pattern, actions } => {
                let what = what(actions, pattern);
                (format!("loses {what}"), format!("lose {what}"))
            }
            Change::Gains { pattern, actions } => {
                let what = what(actions, pattern);
                (format!("gains {what}"), format!("gain {what}"))
            }
        };
        Self { rank: change.rank(), pattern: change.pattern().to_owned(), verbs, is_loss: change.is_loss() }
    }
}

/// `pull and push on team/app-*`. What goes with another action in every row of the matrix is told by that one's name.
fn what(actions: &[Action], pattern: &str) -> String {
    let told = |action: Action| match action {
        Action::View | Action::SelectInBuilds | Action::ViewDockerfile => Action::Pull,
        Action::Delete | Action::ChangeImageType | Action::ChangeDescription => Action::Push,
        Action::ChangeVisibility => Action::DeleteRepository,
        Action::Pull | Action::Push | Action::DeleteRepository => action,
    };
    let is_told = |action: &Action| told(*action) == *action || !actions.contains(&told(*action));
    let names: Vec<_> = actions.iter().copied().filter(is_told).map(Action::name).collect();
    let preposition = match names.as_slice() {
        ["push"] => "to",
        ["pull"] => "from",
        _ => "on",
    };
    format!("{} {preposition} {}", names.join(", "), shortened(pattern, MOST_OF_PATTERN))
}

fn sentence(head: &Head, principals: &[&Principal]) -> String {
    let (singular, plural) = &head.verbs;
    if let [only] = principals {
        let verb = if only.is_plural() { plural } else { singular };
        return shortened(&format!("{} {verb}", shortened(&only.to_string(), MOST_OF_NAME)), MOST_BYTES);
    }
    let mut text = format!("{}: ", shortened(&format!("{} {plural}", principals.len()), MOST_OF_HEAD));
    for (index, principal) in principals.iter().enumerate() {
        let name = shortened(&principal.to_string(), MOST_OF_NAME);
        let separator = if index == 0 { "" } else { ", " };
        let left = principals.len() - index;
        // Room for saying how many are left, should the next one not fit.
        let is_last = left == 1;
        let room = if is_last { 0 } else { format!(" and {} more", left - 1).len() };
        if text.len() + separator.len() + name.len() + room > MOST_BYTES {
            text.push_str(&format!(" and {left} more"));
            break;
        }
        text.push_str(separator);
        text.push_str(&name);
    }
    text
}

/// The text, or its beginning and an ellipsis, in at most so many bytes.
fn shortened(text: &str, most: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub(ELLIPSIS.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &text[..end])
}
