//! Tokens that others have signed, as they come: JWTs in the compact form (RFC 7515, section 7.1), of which nothing has been
//! verified yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What all kinds of the registry's own tokens and credentials begin with in `typ`.
const OWN_TYPES: &str = "landfast-";

/// A token in parts.
pub struct Jwt<'a> {
    /// The whole of it. It is secret.
    pub text: &'a str,
    pub header: Header,
    pub claims: Map<String, Value>,
    /// What is signed.
    pub message: &'a str,
    /// In base64url.
    pub signature: &'a str,
}

/// How a token is signed.
#[derive(Deserialize)]
pub struct Header {
    pub alg: String,
    #[serde(default)]
    pub kid: Option<String>,
    #[serde(default)]
    pub typ: Option<String>,
    /// Extensions that have to be understood (RFC 7515, section 4.1.11).
    #[serde(default)]
    pub crit: Option<Value>,
}

impl<'a> Jwt<'a> {
    /// Takes a token apart. `None`: it is no JWT, or one of the registry's own kinds.
    pub fn foreign(text: &'a str) -> Option<Self> {
        let (message, signature) = text.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = decode(header)?;
        if header.typ.as_ref().is_some_and(|kind| kind.starts_with(OWN_TYPES)) {
            return None;
        }
        Some(Self { text, header, claims: decode(claims)?, message, signature })
    }

    /// A claim that is a text.
    pub fn text_claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn is_taken_apart() {
        let text = token(r#"{"alg":"RS256","kid":"a","x":1}"#, r#"{"iss":"https://i","n":1}"#);
        let jwt = Jwt::foreign(&text).unwrap();
        assert_eq!((&*jwt.header.alg, jwt.header.kid.as_deref()), ("RS256", Some("a")));
        assert_eq!((jwt.text_claim("iss"), jwt.text_claim("n"), jwt.signature), (Some("https://i"), None, "c2ln"));
        assert_eq!(format!("{}.{}", jwt.message, jwt.signature), text);
    }

    #[rstest]
    #[case::password("correct horse")]
    #[case::dots("a.b.c")]
    #[case::four_parts(&format!("{}.x", token(r#"{"alg":"RS256"}"#, "{}")))]
    #[case::no_algorithm(&token("{}", "{}"))]
    #[case::algorithm_twice(&token(r#"{"alg":"RS256","alg":"none"}"#, "{}"))]
    #[case::claims_are_a_list(&token(r#"{"alg":"RS256"}"#, "[]"))]
    #[case::access_token(&token(r#"{"alg":"EdDSA","typ":"landfast-access+jwt"}"#, "{}"))]
    #[case::credential(&token(r#"{"alg":"EdDSA","typ":"landfast-credential+jwt"}"#, "{}"))]
    fn is_no_token_of_others(#[case] text: &str) {
        assert!(Jwt::foreign(text).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[A-Za-z0-9_.=-]{0,80}") {
            Jwt::foreign(&text);
        }
    }
}
