//! Everybody who may, and nobody else.

use proptest::prelude::*;

use super::includes;
use crate::policy::access::who_can;
use crate::policy::tests::{NOW, actions, everything, identities, repositories};
use crate::policy::{Decision, Operation, authorize};

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn lists_whom_a_registry_lets(
        all in everything(), identity in identities(), action in actions(), repository in repositories(),
    ) {
        let snapshot = all.snapshot();
        let holders = who_can(&snapshot, action, &repository, NOW);
        let is_valid = snapshot.grants_of(&identity, NOW).is_some();
        let is_listed = is_valid && holders.iter().any(|holder| includes(&holder.principal, &identity, &snapshot));
        let operation = Operation { action, repository };
        let allowed = authorize(&snapshot, &identity, &operation, NOW) == Decision::Allow;
        prop_assert_eq!(is_listed, allowed, "{} {:?}: {:?}", identity, operation, holders);
        let principals: Vec<_> = holders.iter().map(|holder| &holder.principal).collect();
        prop_assert!(principals.is_sorted());
    }
}
