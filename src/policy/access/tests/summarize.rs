//! Sentences for a person.

use crate::policy::Action;
use crate::policy::access::{AccessChange, Change, Difference, Principal, Revoked};

fn loses(name: &str, pattern: &str, actions: &[Action]) -> AccessChange {
    let change = Change::Loses { pattern: pattern.to_owned(), actions: actions.to_vec() };
    AccessChange { principal: Principal::User(name.parse().unwrap()), change }
}

fn summarize(changes: &[AccessChange]) -> Vec<String> {
    crate::policy::access::summarize(&Difference { changes: changes.to_vec(), is_whole: true })
}

#[test]
fn says_that_there_is_more_than_was_compared() {
    let changes: Vec<_> = (0..9).map(|i| loses("htpasswd:bob", &format!("team/{i}"), &[Action::Push])).collect();
    let sentences = crate::policy::access::summarize(&Difference { changes, is_whole: false });
    assert_eq!(sentences.len(), 8);
    let expected =
        ["besides, 3 more losses and 0 more gains", "there is more: so much changes that not all of it was compared"];
    assert_eq!(sentences[6..], expected);
}

#[test]
fn counts_and_names_the_first() {
    let changes: Vec<_> = (0..14)
        .map(|i| {
            loses(&format!("htpasswd:alice-{i:02}{}", "-".repeat(20)), "team/app-*", &[Action::Push, Action::Delete])
        })
        .collect();
    let sentences = summarize(&changes);
    assert_eq!(sentences.len(), 1);
    assert!(sentences[0].starts_with("14 lose push to team/app-*: htpasswd:alice-00-"), "{}", sentences[0]);
    assert!(sentences[0].ends_with(" more") && sentences[0].len() <= 250, "{}", sentences[0]);
}

#[test]
fn one_is_told_by_name() {
    let robot = Principal::Robot { namespace: "team".to_owned(), member: "ci".to_owned(), robot: "builder".to_owned() };
    let gains =
        Change::Gains { pattern: "team/**".to_owned(), actions: vec![Action::View, Action::Pull, Action::Push] };
    let changes = [
        AccessChange { principal: robot.clone(), change: gains },
        AccessChange { principal: robot, change: Change::Revoked(Revoked::Generation) },
        loses("htpasswd:bob", "team/**", &[Action::ChangeVisibility, Action::DeleteRepository]),
    ];
    let expected = [
        "robot team/ci/builder credentials revoked, their generation is raised",
        "htpasswd:bob loses delete-repository on team/**",
        "robot team/ci/builder gains pull, push on team/**",
    ];
    assert_eq!(summarize(&changes), expected);
}

#[test]
fn however_long_names_are_a_sentence_is_short() {
    let long = |i: usize| format!("certificate:{}{i}", "ä".repeat(120));
    let changes: Vec<_> =
        (0..30).map(|i| loses(&long(i % 3), &format!("{}/{i:02}", "p".repeat(250 - i)), &Action::ALL)).collect();
    let sentences = summarize(&changes);
    assert_eq!(sentences.len(), 8);
    assert!(sentences.iter().all(|sentence| sentence.len() <= 250), "{sentences:#?}");
    assert_eq!(sentences[7], "besides, 23 more losses and 0 more gains");
}
