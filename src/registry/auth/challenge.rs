//! The `WWW-Authenticate` header of a 401 (Docker's token authentication specification, "Requesting a Token").

use crate::oci::RepositoryName;
use crate::policy::{Action, Operation};

/// `Bearer` challenge for a registry that was asked for as `scheme://host`.
///
/// The realm is built from the request's own address: several clients refuse one with another host or with a weaker
/// scheme.
pub fn bearer(scheme: &str, host: &str, scope: Option<&str>, error: Option<&str>) -> String {
    let mut challenge = format!("Bearer realm=\"{scheme}://{host}/token\",service=\"{host}\"");
    for (name, value) in [("scope", scope), ("error", error)] {
        if let Some(value) = value {
            challenge.push_str(&format!(",{name}=\"{value}\""));
        }
    }
    challenge
}

/// The challenge of `/token` itself, where only a password helps.
pub fn basic(host: &str) -> String {
    format!("Basic realm=\"{host}\"")
}

/// The scope that a token needs for this operation, and for the mount that goes with it.
pub fn scope(operation: &Operation, mount_from: Option<&RepositoryName>) -> String {
    // Whoever pushes or deletes reads before: so the client gets one token for both.
    let actions = match operation.action {
        Action::View | Action::SelectInBuilds | Action::Pull | Action::ViewDockerfile => "pull".to_owned(),
        Action::Push
        | Action::Delete
        | Action::DeleteRepository
        | Action::ChangeVisibility
        | Action::ChangeImageType
        | Action::ChangeDescription => format!("pull,{}", operation.action.scope_name()),
    };
    let mut scope = format!("repository:{}:{actions}", operation.repository);
    if let Some(from) = mount_from {
        scope.push_str(&format!(" repository:{from}:pull"));
    }
    scope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_its_own_address() {
        let operation = Operation { action: Action::Push, repository: "team/app".parse().unwrap() };
        let scope = scope(&operation, Some(&"base".parse().unwrap()));
        assert_eq!(
            bearer("https", "r.example:5000", Some(&scope), Some("invalid_token")),
            "Bearer realm=\"https://r.example:5000/token\",service=\"r.example:5000\",\
             scope=\"repository:team/app:pull,push repository:base:pull\",error=\"invalid_token\""
        );
        assert_eq!(bearer("http", "r", None, None), "Bearer realm=\"http://r/token\",service=\"r\"");
    }
}
