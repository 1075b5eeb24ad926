//! What a change of policy changes for somebody.

use std::fmt;

use super::Principal;
use crate::policy::Action;

/// What changes for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessChange {
    pub principal: Principal,
    pub change: Change,
}

/// What changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Generated credentials are not valid any more, not even for what anyone may.
    Revoked(Revoked),
    /// The Registry doesn't trust any more who vouches for them.
    NoLogin,
    /// The Registry says something else about who vouches for them: tokens end, and it may be others who can log in.
    NewLogin,
    /// These actions on the repositories that match the pattern. `team/**` stands for every repository of `team` that no
    /// other pattern of policies and Members speaks of, `**` for every one of the Registry.
    Loses { pattern: String, actions: Vec<Action> },
    /// The same, the other way round.
    Gains { pattern: String, actions: Vec<Action> },
    /// The Registry trusts them from now on.
    Login,
}

/// Why credentials are not valid any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// The object is gone, is not accepted any more, or doesn't name the robot any more.
    Gone,
    /// The object was deleted and made anew. There will be new credentials.
    Remade,
    /// The generation was raised. There will be new credentials.
    Generation,
    /// Its time is over.
    Expired,
    /// Of pull secrets: those in these namespaces.
    Namespaces(Vec<String>),
}

impl Change {
    /// Whether somebody has less than before, or has to log in again.
    pub fn is_loss(&self) -> bool {
        !matches!(self, Change::Gains { .. } | Change::Login)
    }

    pub(super) fn pattern(&self) -> &str {
        match self {
            Change::Loses { pattern, .. } | Change::Gains { pattern, .. } => pattern,
            Change::Revoked(_) | Change::NoLogin | Change::NewLogin | Change::Login => "",
        }
    }

    /// In which order changes are listed.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Change::Revoked(_) => 0,
            Change::NoLogin => 1,
            Change::NewLogin => 2,
            Change::Loses { .. } => 3,
            Change::Gains { .. } => 4,
            Change::Login => 5,
        }
    }
}

impl fmt::Display for AccessChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, change } = self;
        let verb = |singular: &'static str, plural: &'static str| if principal.is_plural() { plural } else { singular };
        match change {
            Change::Revoked(why) => write!(f, "{principal}: credentials revoked, {why}"),
            Change::NoLogin => write!(f, "{principal} can't log in any more"),
            Change::NewLogin => {
                write!(f, "{principal} have to log in again, if they still can")
            }
            Change::Login => write!(f, "{principal} can log in"),
            Change::Loses { pattern, actions } => {
                write!(f, "{principal} {} {} on {pattern}", verb("loses", "lose"), names(actions))
            }
            Change::Gains { pattern, actions } => {
                write!(f, "{principal} {} {} on {pattern}", verb("gains", "gain"), names(actions))
            }
        }
    }
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Revoked::Gone => f.write_str("what they were made for is gone"),
            Revoked::Remade => f.write_str("what they were made for is made anew"),
            Revoked::Generation => f.write_str("their generation is raised"),
            Revoked::Expired => f.write_str("their time is over"),
            Revoked::Namespaces(namespaces) => write!(f, "in {}", namespaces.join(", ")),
        }
    }
}

fn names(actions: &[Action]) -> String {
    actions.iter().map(|action| action.name()).collect::<Vec<_>>().join(", ")
}
