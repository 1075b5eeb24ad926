//! What an ID token says (OpenID Connect Core 1.0, section 2), held against what the Registry wants of its issuer. Pure:
//! whether the token is signed is asked elsewhere.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};

use super::ExternalTokenError as Error;
use super::jwt::Jwt;
use crate::policy::{ClaimCondition, Group, OidcIssuer, Provider, User};

/// Seconds by which the clocks of the issuer and of the registry may differ.
const LEEWAY: i64 = 60;
/// Kinds of tokens that may be ID tokens, by `typ`, where they name any. Those of others, such as logout tokens, are signed
/// by the same keys for the same audience.
const TYPES: [&str; 2] = ["JWT", "JOSE"];

/// Refuses what nobody could let in, and gives the token's end, in seconds since the epoch.
pub fn check(jwt: &Jwt<'_>, audiences: &[String], now: Timestamp) -> Result<i64, Error> {
    let kind = jwt.header.typ.as_deref();
    if let Some(other) = kind.filter(|kind| !TYPES.iter().any(|known| known.eq_ignore_ascii_case(kind))) {
        return Err(Error::Type(other.chars().take(64).collect()));
    }
    let expiry = check_times(&jwt.claims, now)?;
    let ours = |text: &str| audiences.iter().any(|audience| audience == text);
    let meant = texts(jwt.claims.get("aud"));
    if !meant.iter().any(|audience| ours(audience)) {
        return Err(Error::Audience(audiences.to_vec()));
    }
    // Section 3.1.3.7, rules 4 and 5: of several audiences one is the party that the token was given to.
    if meant.len() > 1 && !jwt.text_claim("azp").is_some_and(ours) {
        return Err(Error::AuthorizedParty);
    }
    if jwt.text_claim("sub").is_none_or(str::is_empty) {
        return Err(Error::Subject);
    }
    Ok(expiry)
}

/// The token's end, if it is in the time in which it is valid.
pub fn check_times(claims: &Map<String, Value>, now: Timestamp) -> Result<i64, Error> {
    let (now, time) = (now.as_second(), |name: &str| claims.get(name).map(seconds));
    let expiry = time("exp").flatten().ok_or(Error::NoExpiry)?;
    if expiry <= now {
        return Err(Error::Expired);
    }
    // A time that can't be read is none that has come.
    let has_come = |time: Option<Option<i64>>| time.is_none_or(|time| time.is_some_and(|time| time <= now + LEEWAY));
    if !has_come(time("nbf")) || !has_come(time("iat")) {
        return Err(Error::NotYet);
    }
    Ok(expiry)
}

/// Whom the token stands for, with the groups that `knows` says are of any use.
pub fn identify(
    issuer: &OidcIssuer,
    claims: &Map<String, Value>,
    knows: impl Fn(&Group) -> bool,
) -> Result<(User, Vec<Group>), Error> {
    for condition in &issuer.conditions {
        if !holds(condition, claims) {
            return Err(Error::Condition(condition.claim.clone()));
        }
    }
    let name = claims.get(&issuer.username_claim).and_then(Value::as_str);
    let name = name.ok_or_else(|| Error::Username(issuer.username_claim.clone()))?;
    if issuer.username_claim == "email" && claims.get("email_verified").is_some_and(|verified| !is_true(verified)) {
        return Err(Error::Email);
    }
    let provider = Provider::Oidc(issuer.name.clone());
    let user = User::of(provider.clone(), name)?;
    let told = issuer.groups_claim.as_ref().map(|claim| texts(claims.get(claim))).unwrap_or_default();
    Ok((user, useful(&provider, told, knows)))
}

/// Groups that a token may carry, in number and in bytes that they take in it: it has to fit into a header.
const MAX_GROUPS: usize = 100;
const MAX_GROUP_BYTES: usize = 6 * 1024;
/// What the claims hold of a group besides its name and its provider's.
const FRAME: usize = r#"{"provider":{"":""},"name":""},"#.len();

/// Those of the groups that are of any use, each once.
pub fn useful<'a>(
    provider: &Provider,
    told: impl IntoIterator<Item = &'a str>,
    knows: impl Fn(&Group) -> bool,
) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut bytes = 0;
    // What can't be a group's name is nobody's group, and keeps nobody out.
    for group in told.into_iter().filter_map(|name| Group::of(provider.clone(), name).ok()) {
        if groups.len() == MAX_GROUPS || groups.contains(&group) || !knows(&group) {
            continue;
        }
        let taken = group.to_string().len() + FRAME;
        if bytes + taken <= MAX_GROUP_BYTES {
            bytes += taken;
            groups.push(group);
        }
    }
    groups
}

/// A text, or the texts of a list.
pub fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn holds(condition: &ClaimCondition, claims: &Map<String, Value>) -> bool {
    let matches = |text: &str| condition.values.iter().any(|value| value.matches(text));
    let fits = |value: &Value| match value {
        Value::String(text) => matches(text),
        Value::Bool(_) | Value::Number(_) => matches(&value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    match claims.get(&condition.claim) {
        Some(Value::Array(items)) => items.iter().any(fits),
        Some(value) => fits(value),
        None => false,
    }
}

/// Some issuers write truth values as texts.
fn is_true(value: &Value) -> bool {
    *value == Value::Bool(true) || value == "true"
}

/// A NumericDate (RFC 7519, section 2), which may have a fraction.
fn seconds(value: &Value) -> Option<i64> {
    let fraction = || value.as_f64().filter(|seconds| seconds.abs() < 1e15).map(|seconds| seconds as i64);
    value.as_i64().or_else(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Glob;
    use rstest::rstest;
    use serde_json::json;

    const NOW: i64 = 1_800_000_000;

    fn issuer() -> OidcIssuer {
        OidcIssuer {
            name: "corp".to_owned(),
            url: "https://issuer.example".to_owned(),
            discovery_url: None,
            certificate_authority: None,
            audiences: vec!["registry".to_owned()],
            username_claim: "sub".to_owned(),
            groups_claim: Some("groups".to_owned()),
            conditions: vec![],
        }
    }

    fn map(value: Value) -> Map<String, Value> {
        serde_json::from_value(value).unwrap()
    }

    fn checked(claims: Value) -> Result<i64, Error> {
        let header = super::super::jwt::Header { alg: "RS256".to_owned(), kid: None, typ: None, crit: None };
        let jwt = Jwt { text: "", header, claims: map(claims), message: "", signature: "" };
        check(&jwt, &["registry".to_owned(), "other".to_owned()], Timestamp::from_second(NOW).unwrap())
    }

    #[rstest]
    #[case::text(json!("registry"))]
    #[case::list(json!(["registry"]))]
    fn an_audience_is_a_text_or_a_list(#[case] audience: Value) {
        assert_eq!(checked(json!({"aud": audience, "exp": NOW + 1, "sub": "a"})), Ok(NOW + 1));
    }

    #[rstest]
    #[case::none(json!({"exp": NOW + 1, "sub": "a"}))]
    #[case::other(json!({"aud": "api", "exp": NOW + 1, "sub": "a"}))]
    #[case::part(json!({"aud": "registry.example", "exp": NOW + 1, "sub": "a"}))]
    #[case::number(json!({"aud": 5, "exp": NOW + 1, "sub": "a"}))]
    fn a_token_for_others_is_refused(#[case] claims: Value) {
        assert!(matches!(checked(claims), Err(Error::Audience(_))));
    }

    #[test]
    fn of_several_audiences_one_is_the_party_that_it_was_given_to() {
        let with =
            |azp: Value| checked(json!({"aud": ["registry", "api"], "azp": azp, "exp": NOW + 1, "sub": "a"})).map(drop);
        assert_eq!(with(json!("registry")), Ok(()));
        assert_eq!(with(json!("api")), Err(Error::AuthorizedParty));
        assert_eq!(with(Value::Null), Err(Error::AuthorizedParty));
    }

    #[rstest]
    #[case::no_end(json!({}), Error::NoExpiry)]
    #[case::end_is_a_text(json!({"exp": "1900000000"}), Error::NoExpiry)]
    #[case::just_ended(json!({"exp": NOW}), Error::Expired)]
    #[case::not_before(json!({"exp": NOW + 900, "nbf": NOW + 61}), Error::NotYet)]
    #[case::from_the_future(json!({"exp": NOW + 900, "iat": NOW + 61}), Error::NotYet)]
    #[case::unreadable_beginning(json!({"exp": NOW + 900, "nbf": "soon"}), Error::NotYet)]
    fn a_token_has_its_time(#[case] claims: Value, #[case] expected: Error) {
        assert_eq!(check_times(&map(claims), Timestamp::from_second(NOW).unwrap()), Err(expected));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let claims = json!({"exp": NOW as f64 + 1.5, "nbf": NOW + 60, "iat": NOW + 60});
        assert_eq!(check_times(&map(claims), Timestamp::from_second(NOW).unwrap()), Ok(NOW + 1));
    }

    #[test]
    fn a_token_without_a_subject_names_nobody() {
        for subject in [json!(""), json!(7), Value::Null] {
            let claims = json!({"aud": "registry", "exp": NOW + 1, "sub": subject});
            assert_eq!(checked(claims), Err(Error::Subject));
        }
    }

    /// Whatever the issuer says, its names stay its own.
    #[test]
    fn names_of_other_providers_are_just_names() {
        let claims = json!({
            "sub": "htpasswd:alice",
            "groups": ["kubernetes:system:masters", "certificate:admins", "oidc:other:admins", "system:masters"],
        });
        let (user, groups) = identify(&issuer(), &map(claims), |_| true).unwrap();
        assert_eq!(user.to_string(), "oidc:corp:htpasswd:alice");
        let groups: Vec<_> = groups.iter().map(ToString::to_string).collect();
        assert_eq!(
            groups,
            [
                "oidc:corp:kubernetes:system:masters",
                "oidc:corp:certificate:admins",
                "oidc:corp:oidc:other:admins",
                "oidc:corp:system:masters"
            ]
        );
    }

    #[test]
    fn groups_are_those_that_are_known_each_once_and_not_too_many() {
        let mut claims = map(json!({"sub": "a", "groups": "one"}));
        let names = |claims: &Map<String, Value>, knows: fn(&Group) -> bool| {
            let (_, groups) = identify(&issuer(), claims, knows).unwrap();
            groups.into_iter().map(|group| group.name).collect::<Vec<_>>()
        };
        assert_eq!(names(&claims, |_| true), ["one"]);
        claims.insert("groups".to_owned(), json!(["one", "two", "one", 5, " bad", "three"]));
        assert_eq!(names(&claims, |group| group.name != "two"), ["one", "three"]);
        let many: Vec<_> = (0..1000).map(|number| format!("g{number}")).collect();
        claims.insert("groups".to_owned(), json!(many));
        assert_eq!(names(&claims, |_| true).len(), MAX_GROUPS);
        let long: Vec<_> = (0..100).map(|number| format!("{number:0>200}")).collect();
        claims.insert("groups".to_owned(), json!(long));
        assert_eq!(names(&claims, |_| true).len(), MAX_GROUP_BYTES / (200 + "oidc:corp:".len() + FRAME));
    }

    #[rstest]
    #[case::said(json!(true), Ok(()))]
    #[case::denied(json!(false), Err(Error::Email))]
    #[case::said_by_a_text(json!("true"), Ok(()))]
    #[case::denied_by_a_text(json!("False"), Err(Error::Email))]
    #[case::number(json!(0), Err(Error::Email))]
    #[case::nothing(Value::Null, Err(Error::Email))]
    #[case::other_text(json!("no"), Err(Error::Email))]
    #[case::list(json!([true]), Err(Error::Email))]
    fn an_address_has_to_be_verified(#[case] verified: Value, #[case] expected: Result<(), Error>) {
        let issuer = OidcIssuer { username_claim: "email".to_owned(), ..issuer() };
        let claims = map(json!({"sub": "1", "email": "a@example.com", "email_verified": verified}));
        assert_eq!(identify(&issuer, &claims, |_| true).map(drop), expected);
        let silent = map(json!({"sub": "1", "email": "a@example.com"}));
        assert_eq!(identify(&issuer, &silent, |_| true).unwrap().0.name, "a@example.com");
    }

    #[rstest]
    #[case::missing(json!({}), Error::Username("sub".to_owned()))]
    #[case::number(json!({"sub": 5}), Error::Username("sub".to_owned()))]
    #[case::invisible(json!({"sub": "al\u{200b}ice"}), Error::Name(User::of(Provider::Certificate, "al\u{200b}ice").unwrap_err()))]
    fn a_user_needs_a_name(#[case] claims: Value, #[case] expected: Error) {
        assert_eq!(identify(&issuer(), &map(claims), |_| true), Err(expected));
    }

    #[rstest]
    #[case::text(json!("acme/app"), true)]
    #[case::other(json!("evil/app"), false)]
    #[case::deeper(json!("acme/app/x"), false)]
    #[case::item_of_a_list(json!(["x", "acme/tool"]), true)]
    #[case::no_item(json!(["x"]), false)]
    #[case::missing(Value::Null, false)]
    #[case::truth(json!(true), true)]
    #[case::object(json!({"acme/app": "acme/app"}), false)]
    fn conditions_hold_or_not(#[case] value: Value, #[case] expected: bool) {
        let values = ["acme/*", "true"].map(Glob::new).to_vec();
        let mut issuer = issuer();
        issuer.conditions = vec![ClaimCondition { claim: "repository".to_owned(), values }];
        let claims = map(json!({"sub": "a", "repository": value}));
        assert_eq!(identify(&issuer, &claims, |_| true).is_ok(), expected);
        // All of them have to hold.
        issuer.conditions.push(ClaimCondition { claim: "ref".to_owned(), values: vec![Glob::new("**")] });
        assert_eq!(
            identify(&issuer, &claims, |_| true).err(),
            Some(Error::Condition(if expected { "ref" } else { "repository" }.to_owned()))
        );
    }
}
