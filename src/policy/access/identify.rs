//! Naming an identity on a command line.

use crate::policy::{CredentialSubject, Group, Identity, ObjectKey, Snapshot, User, UserError};

/// Why a text names no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "{0:?} names nobody: use anonymous, htpasswd:<name>, oidc:<issuer>:<name>, certificate:<name>, kubernetes:<name>, serviceaccount:<namespace>/<name>, robot:<namespace>/<member>/<robot> or pull-secret:<namespace>/<project>"
    )]
    Form(String),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("groups go with somebody whom a provider knows, not with {0:?}")]
    Groups(String),
    #[error("group {group} is of another provider than {user}: nobody has groups of two")]
    OtherProvider { group: Group, user: User },
}

/// The identity that a text names, in these groups: `anonymous`, a user as a Member names him, `serviceaccount:ns/name`
/// (in the groups that the API server tells of each), `robot:ns/member/robot`, or `pull-secret:ns/project`, with
/// `@namespace` for the one of another namespace.
///
/// Credentials are named by the objects in the snapshot. One whose object isn't there is made up, and valid nowhere.
pub fn identify(snapshot: &Snapshot, text: &str, groups: &[Group]) -> Result<Identity, IdentityError> {
    let form = || IdentityError::Form(text.to_owned());
    let credential = match text.split_once(':') {
        _ if text == "anonymous" => Some(Identity::Anonymous),
        Some(("robot", rest)) => Some(Identity::Credential(robot(snapshot, rest).ok_or_else(form)?)),
        Some(("pull-secret", rest)) => Some(Identity::Credential(pull_secret(snapshot, rest).ok_or_else(form)?)),
        _ => None,
    };
    if let Some(identity) = credential {
        return if groups.is_empty() { Ok(identity) } else { Err(IdentityError::Groups(text.to_owned())) };
    }
    let user = match text.strip_prefix("serviceaccount:").map(|rest| rest.split_once('/')) {
        Some(Some((namespace, name))) if is_name(namespace) && is_name(name) => User::service_account(namespace, name),
        Some(_) => return Err(form()),
        None => text.parse().map_err(|error| match error {
            UserError::Provider(_) => form(),
            error => IdentityError::User(error),
        })?,
    };
    let mut groups = groups.to_vec();
    if let Some((namespace, _)) = user.as_service_account() {
        groups.extend(Group::all_of_service_account(namespace));
    }
    if let Some(group) = groups.iter().find(|group| group.provider != user.provider) {
        return Err(IdentityError::OtherProvider { group: group.clone(), user });
    }
    groups.sort();
    groups.dedup();
    Ok(Identity::of(user, groups))
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte))
}

fn is_object(key: &ObjectKey, namespace: &str, name: &str) -> bool {
    key.namespace == namespace && key.name == name
}

fn robot(snapshot: &Snapshot, text: &str) -> Option<CredentialSubject> {
    let [namespace, member, robot] = text.split('/').collect::<Vec<_>>().try_into().ok()?;
    if [namespace, member, robot].iter().any(|part| !is_name(part)) {
        return None;
    }
    let found = snapshot.robots.iter().find(|(_, grant)| is_object(&grant.grant.source, namespace, member));
    let (member, generation) = found.map(|(uid, grant)| (uid.clone(), grant.generation)).unwrap_or_default();
    Some(CredentialSubject::Robot { member, namespace: namespace.to_owned(), name: robot.to_owned(), generation })
}

fn pull_secret(snapshot: &Snapshot, text: &str) -> Option<CredentialSubject> {
    let (object, target) = text.split_once('@').map_or((text, None), |(object, target)| (object, Some(target)));
    let (namespace, name) = object.split_once('/')?;
    let target = target.unwrap_or(namespace);
    if [namespace, name, target].iter().any(|part| !is_name(part)) {
        return None;
    }
    let found = snapshot.pull_secrets.iter().find(|(_, grant)| is_object(&grant.grant.source, namespace, name));
    let (project, generation) = found.map(|(uid, grant)| (uid.clone(), grant.generation)).unwrap_or_default();
    let (namespace, name) = (target.to_owned(), name.to_owned());
    Some(CredentialSubject::PullSecret { project, namespace, name, generation })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::RegistryFacts;
    use rstest::rstest;

    fn named(text: &str, groups: &[&str]) -> Result<Identity, IdentityError> {
        let groups: Vec<Group> = groups.iter().map(|group| group.parse().unwrap()).collect();
        identify(&Snapshot::new(RegistryFacts::new("r", "ns/main")), text, &groups)
    }

    #[test]
    fn everybody_has_a_name() {
        assert_eq!(named("anonymous", &[]), Ok(Identity::Anonymous));
        assert_eq!(named("htpasswd:alice", &[]).unwrap().to_string(), "htpasswd:alice");
        assert_eq!(named("robot:team/ci/builder", &[]).unwrap().to_string(), "robot/team/builder");
        assert_eq!(named("pull-secret:team/app@prod", &[]).unwrap().to_string(), "pull/prod/app");
        let account = named("serviceaccount:team/ci", &[]).unwrap();
        assert_eq!(account.user().unwrap().as_service_account(), Some(("team", "ci")));
        assert_eq!(account, named("kubernetes:system:serviceaccount:team:ci", &[]).unwrap());
        let groups: Vec<_> = account.groups().iter().map(ToString::to_string).collect();
        assert_eq!(
            groups,
            ["system:authenticated", "system:serviceaccounts", "system:serviceaccounts:team"]
                .map(|name| format!("kubernetes:{name}"))
        );
    }

    #[rstest]
    #[case::nobody("alice", &[])]
    #[case::other_provider("ldap:alice", &[])]
    #[case::robot_without_member("robot:team/builder", &[])]
    #[case::robot_with_more("robot:team/ci/builder/x", &[])]
    #[case::empty_part("robot:team//builder", &[])]
    #[case::pull_secret("pull-secret:team", &[])]
    #[case::account("serviceaccount:ci", &[])]
    #[case::account_with_a_colon("serviceaccount:team/a:b", &[])]
    #[case::anonymous_in_a_group("anonymous", &["oidc:corp:devs"])]
    #[case::group_of_another_provider("oidc:corp:alice", &["oidc:other:devs"])]
    #[case::groups_of_a_password_file("htpasswd:alice", &["oidc:corp:devs"])]
    fn names_nobody(#[case] text: &str, #[case] groups: &[&str]) {
        assert!(named(text, groups).is_err());
    }
}
