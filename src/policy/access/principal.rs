//! Who has access, as a policy names them.

use std::fmt;

use crate::policy::{Group, ObjectKey, Provider, User};

/// Somebody, or many at once. In the order in which they are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// Everybody, without a login too.
    Anyone,
    /// Everybody who is not logged in.
    Anonymous,
    /// Everybody who is logged in.
    EveryUser,
    /// Everybody for whom this provider vouches.
    UsersOf(Provider),
    /// The ServiceAccounts of a namespace.
    ServiceAccountsOf(String),
    User(User),
    Group(Group),
    /// A robot of the Member with this namespace and name.
    Robot {
        namespace: String,
        member: String,
        robot: String,
    },
    /// The pull secrets of the Project with this namespace and name.
    PullSecrets {
        namespace: String,
        project: String,
    },
}

impl Principal {
    pub(super) fn robot(member: &ObjectKey, robot: &str) -> Self {
        let (namespace, member) = (member.namespace.clone(), member.name.clone());
        Principal::Robot { namespace, member, robot: robot.to_owned() }
    }

    pub(super) fn pull_secrets(project: &ObjectKey) -> Self {
        Principal::PullSecrets { namespace: project.namespace.clone(), project: project.name.clone() }
    }

    /// What kind it is, in one word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Principal::Anyone => "Anyone",
            Principal::Anonymous => "Anonymous",
            Principal::EveryUser => "EveryUser",
            Principal::UsersOf(_) => "Provider",
            Principal::ServiceAccountsOf(_) => "ServiceAccounts",
            Principal::User(_) => "User",
            Principal::Group(_) => "Group",
            Principal::Robot { .. } => "Robot",
            Principal::PullSecrets { .. } => "PullSecrets",
        }
    }

    /// Whether a sentence about it says "lose" rather than "loses".
    pub(super) const fn is_plural(&self) -> bool {
        matches!(
            self,
            Principal::Anonymous
                | Principal::UsersOf(_)
                | Principal::ServiceAccountsOf(_)
                | Principal::PullSecrets { .. }
        )
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Anyone => f.write_str("anyone"),
            Principal::Anonymous => f.write_str("clients without a login"),
            Principal::EveryUser => f.write_str("every user"),
            Principal::UsersOf(provider) => write!(f, "users of {provider}"),
            Principal::ServiceAccountsOf(namespace) => write!(f, "ServiceAccounts of {namespace}"),
            Principal::User(user) => match user.as_service_account() {
                Some((namespace, name)) => write!(f, "ServiceAccount {namespace}/{name}"),
                None => user.fmt(f),
            },
            Principal::Group(group) => write!(f, "group {group}"),
            Principal::Robot { namespace, member, robot } => write!(f, "robot {namespace}/{member}/{robot}"),
            Principal::PullSecrets { namespace, project } => write!(f, "pull secrets of {namespace}/{project}"),
        }
    }
}
