//! The name of a request: in its response and in each line of the log that is about it.

use std::fmt;
use std::str::FromStr;

use uuid::{Builder, Uuid};

/// Longest ID that is taken over from a proxy, in bytes.
const MAX: usize = 64;

/// Names one request. A UUID, unless a trusted proxy had named it already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; MAX],
    length: u8,
}

/// The text is no ID of a request: 1 to 64 letters, digits, hyphens, underscores and dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an ID of a request has 1 to 64 letters, digits, hyphens, underscores and dots")]
pub struct RequestIdError;

tokio::task_local! {
    static CURRENT: RequestId;
}

impl RequestId {
    pub fn random() -> Self {
        let uuid = Builder::from_random_bytes(rand::random()).into_uuid();
        let mut buffer = Uuid::encode_buffer();
        let text = uuid.hyphenated().encode_lower(&mut buffer);
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self { bytes, length: text.len() as u8 }
    }

    pub fn as_str(&self) -> &str {
        // Both constructors write ASCII.
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Runs what is done for this request: lines that it logs bear the ID, wherever they come from.
    pub async fn scope<F: Future>(self, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// The request that the current task works for.
    pub(super) fn current() -> Option<Self> {
        CURRENT.try_with(|id| *id).ok()
    }
}

impl FromStr for RequestId {
    type Err = RequestIdError;

    fn from_str(text: &str) -> Result<Self, RequestIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.is_empty() || text.len() > MAX || !text.bytes().all(allowed) {
            return Err(RequestIdError);
        }
        let mut bytes = [0; MAX];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: text.len() as u8 })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_one_is_a_uuid_of_its_own() {
        let (one, other) = (RequestId::random(), RequestId::random());
        assert_ne!(one, other);
        assert_eq!(Uuid::parse_str(one.as_str()).unwrap().get_version_num(), 4);
        assert_eq!(one.as_str().parse(), Ok(one));
    }

    #[test]
    fn only_plain_texts_are_taken_over() {
        let longest = "x".repeat(MAX);
        for good in ["a", "req-1_2.3", &longest] {
            assert_eq!(good.parse::<RequestId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\"", "a\n", "ä", &"x".repeat(MAX + 1)] {
            assert_eq!(bad.parse::<RequestId>(), Err(RequestIdError), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn is_known_while_the_request_is_worked_on() {
        assert_eq!(RequestId::current(), None);
        let id = RequestId::random();
        assert_eq!(id.scope(async { RequestId::current() }).await, Some(id));
        let spawned = async { tokio::spawn(super::super::carried(async { RequestId::current() })).await.unwrap() };
        assert_eq!(id.scope(spawned).await, Some(id));
        assert_eq!(RequestId::current(), None);
    }
}
