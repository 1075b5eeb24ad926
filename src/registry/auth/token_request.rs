//! What a client asks `/token` for, in the query of a GET or in the form of a POST.

use super::token::{CATALOG, EVERY_ACTION};
use crate::oci::RepositoryName;
use crate::policy::Action;

/// Resources that one token may be for. It keeps tokens small enough for a header.
const MAX_SCOPES: usize = 32;

/// Why a request for a token makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRequestError {
    #[error("a scope has the form repository:name:action,action")]
    Scope,
    #[error("a token is for at most {MAX_SCOPES} resources: ask for several tokens")]
    TooManyScopes,
    #[error("grant_type must be password, with username and password, or refresh_token, with refresh_token")]
    Grant,
}

/// A resource that the client wants to do something with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    Repository {
        repository: RepositoryName,
        actions: Vec<Action>,
    },
    /// The list of repositories.
    Catalog,
}

/// What a client wants a token for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenRequest {
    pub scopes: Vec<Scope>,
}

/// A token request with the credentials inside (OAuth 2.0, RFC 6749, sections 4.3 and 6).
#[derive(PartialEq, Eq)]
pub struct TokenForm {
    pub grant: FormGrant,
    /// Whether the client wants a refresh token too.
    pub offline: bool,
    pub request: TokenRequest,
}

/// The credentials in a form. Not `Debug`: they are secret.
#[derive(PartialEq, Eq)]
pub enum FormGrant {
    Password { username: String, password: String },
    RefreshToken(String),
}

impl TokenRequest {
    /// Reads the decoded query. `account` and `client_id` say nothing that the registry doesn't know.
    ///
    /// Nor does `service`: what a client sends is what a challenge told it, that is the host by which it knows the
    /// registry, and there are several. The token is for this registry in any case, so another service gains nothing by it.
    ///
    /// `offline_token` is passed over: what `docker login` gets for it, it stores in place of the password as an
    /// `identitytoken`, and is logged out when that ends. The kubelet, to which such files are given as pull secrets, can't
    /// read it at all. Without it docker stores the password, whose end is the credential's or the user's. podman, skopeo,
    /// containerd and buildkit don't ask for it. A client that can do with one asks by a form, with `access_type=offline`.
    pub fn from_query(pairs: &[(String, String)]) -> Result<Self, TokenRequestError> {
        let mut scopes: Vec<Scope> = Vec::new();
        let texts = pairs.iter().filter(|(name, _)| name == "scope").flat_map(|(_, value)| value.split(' '));
        for (index, text) in texts.filter(|text| !text.is_empty()).enumerate() {
            // Counted before they are merged: reading them is work too.
            if index >= MAX_SCOPES {
                return Err(TokenRequestError::TooManyScopes);
            }
            let Some(scope) = parse_scope(text)? else { continue };
            merge(&mut scopes, scope);
        }
        Ok(Self { scopes })
    }
}

/// Each resource once.
fn merge(scopes: &mut Vec<Scope>, scope: Scope) {
    if let Scope::Repository { repository: name, actions: more } = &scope {
        let known = scopes.iter_mut().find_map(|known| match known {
            Scope::Repository { repository, actions } if repository == name => Some(actions),
            _ => None,
        });
        if let Some(actions) = known {
            return add_new(actions, more);
        }
    } else if scopes.contains(&scope) {
        return;
    }
    scopes.push(scope);
}

impl TokenForm {
    /// Reads the decoded form.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, TokenRequestError> {
        let value = |name: &str| pairs.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.clone());
        let grant = match value("grant_type").as_deref() {
            Some("password") => value("username")
                .zip(value("password"))
                .map(|(username, password)| FormGrant::Password { username, password }),
            Some("refresh_token") => value("refresh_token").map(FormGrant::RefreshToken),
            _ => None,
        };
        Ok(Self {
            grant: grant.ok_or(TokenRequestError::Grant)?,
            offline: value("access_type").as_deref() == Some("offline"),
            request: TokenRequest::from_query(pairs)?,
        })
    }
}

/// `type:name:actions`. Other types than repositories, and other names of the type `registry` than its catalogue, are none
/// of ours: nothing is granted for them.
fn parse_scope(text: &str) -> Result<Option<Scope>, TokenRequestError> {
    let (kind, rest) = text.split_once(':').ok_or(TokenRequestError::Scope)?;
    let (name, actions) = rest.rsplit_once(':').ok_or(TokenRequestError::Scope)?;
    if kind.is_empty() || name.is_empty() {
        return Err(TokenRequestError::Scope);
    }
    if (kind, name) == ("registry", CATALOG) {
        return Ok(actions.split(',').any(|action| action == EVERY_ACTION).then_some(Scope::Catalog));
    }
    if kind != "repository" {
        return Ok(None);
    }
    let repository = name.parse().map_err(|_| TokenRequestError::Scope)?;
    let mut wanted = Vec::new();
    for action in actions.split(',') {
        match action {
            "*" => add_new(&mut wanted, &[Action::Pull, Action::Push, Action::Delete]),
            // An action that the registry doesn't know can't be granted; the others can.
            other => add_new(&mut wanted, Action::from_scope_name(other).as_slice()),
        }
    }
    Ok(Some(Scope::Repository { repository, actions: wanted }))
}

/// Each action once: every one costs a decision, and a place in the token, and a scope may repeat it thousands of times.
fn add_new(actions: &mut Vec<Action>, more: &[Action]) {
    for action in more {
        if !actions.contains(action) {
            actions.push(*action);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn request(scopes: &[&str]) -> Result<TokenRequest, TokenRequestError> {
        let pairs: Vec<_> = scopes.iter().map(|scope| ("scope".to_owned(), (*scope).to_owned())).collect();
        TokenRequest::from_query(&pairs)
    }

    fn scope(repository: &str, actions: &[Action]) -> Scope {
        Scope::Repository { repository: repository.parse().unwrap(), actions: actions.to_vec() }
    }

    #[test]
    fn scopes_may_repeat_and_share_a_parameter() {
        let parsed =
            request(&["repository:a:pull,push repository:b/c:*", "repository:d:fly", "registry:catalog:*", ""]);
        let all = [Action::Pull, Action::Push, Action::Delete];
        let scopes = vec![scope("a", &all[..2]), scope("b/c", &all), scope("d", &[]), Scope::Catalog];
        assert_eq!(parsed, Ok(TokenRequest { scopes }));
    }

    #[test]
    fn the_catalogue_is_asked_for_once_and_only_whole() {
        let catalogue = Ok(TokenRequest { scopes: vec![Scope::Catalog] });
        assert_eq!(request(&["registry:catalog:*", "registry:catalog:pull,*"]), catalogue);
        let none = Ok(TokenRequest::default());
        assert_eq!(request(&["registry:catalog:pull", "registry:other:*", "repository(plugin):a:pull"]), none);
    }

    #[rstest]
    #[case::one_part("repository")]
    #[case::two_parts("repository:a")]
    #[case::no_type(":a:pull")]
    #[case::no_name("repository::pull")]
    #[case::bad_name("repository:A:pull")]
    #[case::host_in_name("repository:host:5000/a:pull")]
    fn rejects(#[case] scope: &str) {
        assert_eq!(request(&[scope]), Err(TokenRequestError::Scope));
    }

    #[test]
    fn repeated_actions_and_repositories_count_once() {
        let bomb = format!("repository:a:{}", ["*"; 1000].join(","));
        let all = [Action::Pull, Action::Push, Action::Delete];
        let expected = TokenRequest { scopes: vec![scope("a", &all)] };
        assert_eq!(request(&["repository:a:pull", &bomb, "repository:a:push,push"]), Ok(expected));
    }

    #[test]
    fn bounds_the_number_of_scopes() {
        assert_eq!(request(&["repository:a:pull"; MAX_SCOPES + 1]), Err(TokenRequestError::TooManyScopes));
    }

    #[test]
    fn a_form_needs_what_its_grant_is_made_of() {
        let form = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            TokenForm::from_pairs(&pairs)
        };
        let password = form(&[("grant_type", "password"), ("username", "u"), ("password", "p")]).ok().unwrap();
        assert!(password.grant == FormGrant::Password { username: "u".to_owned(), password: "p".to_owned() });
        assert!(!password.offline);
        assert!(form(&[("grant_type", "password"), ("username", "u")]).is_err());
        assert!(form(&[("grant_type", "refresh_token")]).is_err());
        assert!(form(&[]).is_err());
    }
}
