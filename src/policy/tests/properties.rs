//! What holds for every decision.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::policy::{Decision, Grant, Identity, Kind, Operation, Role, Snapshot, authorize};

fn allows(snapshot: &Snapshot, identity: &Identity, operation: &Operation) -> bool {
    authorize(snapshot, identity, operation, NOW) == Decision::Allow
}

/// Takes something away from one Member.
#[derive(Clone, Copy, Debug)]
enum Less {
    Member,
    User,
    Group,
    Robot,
    /// One pattern of several: none of them would be all repositories.
    Pattern,
    EarlierEnd,
    SmallerRole,
}

impl Less {
    const ALL: [Less; 7] =
        [Less::Member, Less::User, Less::Group, Less::Robot, Less::Pattern, Less::EarlierEnd, Less::SmallerRole];

    fn of(self, before: &Everything, which: Index) -> Everything {
        let mut after = before.clone();
        let Some(index) = (!after.members.is_empty()).then(|| which.index(after.members.len())) else { return after };
        let member: &mut MemberSpec = &mut after.members[index];
        match self {
            // The place stays: the others keep their UIDs.
            Less::Member => (member.users, member.groups, member.robots) = (vec![], vec![], vec![]),
            Less::User => drop(member.users.pop()),
            Less::Group => drop(member.groups.pop()),
            Less::Robot => drop(member.robots.pop()),
            Less::Pattern if member.repositories.len() > 1 => drop(member.repositories.pop()),
            Less::Pattern => {}
            Less::EarlierEnd => member.expires_at = member.expires_at.map_or(Some(150), |_| Some(50)),
            Less::SmallerRole => {
                member.role = if member.role == Role::Admin { Role::Developer } else { Role::Guest };
            }
        }
        after
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    /// Without a grant there is only what a repository shows to everybody.
    #[test]
    fn no_grant_means_deny(all in everything(), identity in identities(), action in actions(), repository in repositories()) {
        let snapshot = all.snapshot();
        let operation = Operation { action, repository };
        let granted = snapshot.grants_of(&identity, NOW).is_some_and(|mut grants| grants.any(|grant: &Grant| grant.holds(NOW)));
        if granted || !allows(&snapshot, &identity, &operation) {
            return Ok(());
        }
        let kind = snapshot.project_of(&operation.repository).map(|project| project.kind_of(&operation.repository));
        let shown = [Kind::Official, Kind::Public];
        prop_assert!(
            kind.is_some_and(|kind| shown.contains(&kind) || (kind == Kind::Internal && identity != Identity::Anonymous)),
            "{} may {:?} what is {:?}", identity, operation, kind
        );
        prop_assert_eq!(action.scope_name(), "pull");
    }

    /// Removing a Member, a subject or a pattern, an earlier end and a smaller role never allow more.
    #[test]
    fn less_never_allows_more(
        before in everything(), less in proptest::sample::select(Less::ALL.to_vec()), which: Index,
        identity in identities(), action in actions(), repository in repositories(),
    ) {
        let operation = Operation { action, repository };
        let after = less.of(&before, which);
        if allows(&after.snapshot(), &identity, &operation) {
            prop_assert!(allows(&before.snapshot(), &identity, &operation), "{:?} gives {} {:?}", less, identity, operation);
        }
    }

    /// Time gives nothing to anybody.
    #[test]
    fn what_ends_is_not_allowed_later(
        all in everything(), identity in identities(), action in actions(), repository in repositories(),
        later in 100..300i64,
    ) {
        let (snapshot, operation) = (all.snapshot(), Operation { action, repository });
        let later = k8s_openapi::jiff::Timestamp::from_second(later).unwrap();
        if authorize(&snapshot, &identity, &operation, later) == Decision::Allow {
            prop_assert!(allows(&snapshot, &identity, &operation));
        }
    }

    /// Whoever is in one more group has no less, whoever logs in neither.
    #[test]
    fn to_be_somebody_is_no_less_than_to_be_nobody(
        all in everything(), identity in identities(), action in actions(), repository in repositories(),
    ) {
        let (snapshot, operation) = (all.snapshot(), Operation { action, repository });
        if identity.user().is_some() && allows(&snapshot, &Identity::Anonymous, &operation) {
            prop_assert!(allows(&snapshot, &identity, &operation));
        }
    }
}
