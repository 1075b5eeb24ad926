//! Users and their passwords in the form of Apache's `htpasswd`, bcrypt only.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::User;
use super::identity::MAX_HTPASSWD_NAME;

/// Bytes of a file, and users in it, that are read.
pub const MAX_FILE: usize = 1024 * 1024;
const MAX_USERS: usize = 10_000;
/// Each step doubles the work of a login. A higher one would let few logins take all processors.
const COSTS: std::ops::RangeInclusive<u32> = 4..=14;

/// Why a file can't be used. Lines are counted from 1. Nothing of what stands there is told: it may be something else
/// that is secret, given by mistake.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HtpasswdError {
    #[error("the file is larger than {MAX_FILE} bytes")]
    TooLarge,
    #[error("the file is not text in UTF-8")]
    Encoding,
    #[error("there are more than {MAX_USERS} users")]
    TooMany,
    #[error("line {line} is not of the form USER:HASH; write it with `htpasswd -B`")]
    Form { line: usize },
    #[error(
        "line {line}: the user's name can't be used; it may have {MAX_HTPASSWD_NAME} letters, digits and '.', '_', '@', '+', '-', and begins with a letter, a digit or '_'"
    )]
    Name { line: usize },
    #[error("line {line}: this user is there already; remove one of the lines")]
    Twice { line: usize },
    #[error("line {line}: the password is stored as {form}, and only bcrypt is taken; set it again with `htpasswd -B`")]
    Hash { line: usize, form: &'static str },
    #[error(
        "line {line}: the bcrypt cost is {cost}; set the password again with `htpasswd -B -C 10`, at least 4 and at most 14"
    )]
    Cost { line: usize, cost: u32 },
}

/// The users of a file.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// In the order of the file.
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    hash: String,
    stamp: String,
}

/// How many there are, and nothing of them.
impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("count", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Users {
    /// Reads a file. Empty lines and those that begin with `#` say nothing.
    pub fn parse(content: &[u8]) -> Result<Self, HtpasswdError> {
        if content.len() > MAX_FILE {
            return Err(HtpasswdError::TooLarge);
        }
        let text = std::str::from_utf8(content).map_err(|_| HtpasswdError::Encoding)?;
        let mut users = Self::default();
        for (index, text) in text.lines().enumerate() {
            let text = text.trim();
            if !text.is_empty() && !text.starts_with('#') {
                users.add(index + 1, text)?;
            }
        }
        Ok(users)
    }

    fn add(&mut self, line: usize, text: &str) -> Result<(), HtpasswdError> {
        let (name, hash) = text.split_once(':').ok_or(HtpasswdError::Form { line })?;
        let User { name, .. } = User::htpasswd(name).map_err(|_| HtpasswdError::Name { line })?;
        check_hash(line, hash)?;
        if self.entries.len() >= MAX_USERS {
            return Err(HtpasswdError::TooMany);
        }
        let stamp = stamp(&name, hash);
        if self.by_name.insert(name, self.entries.len()).is_some() {
            return Err(HtpasswdError::Twice { line });
        }
        self.entries.push(Entry { hash: hash.to_owned(), stamp });
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Stands for a user with his present password: it changes with the password's hash and tells nothing of it.
    /// `None`: there is no such user.
    pub fn stamp(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(|&index| self.entries[index].stamp.as_str())
    }

    /// Whether this is the user's password. It takes the milliseconds that the hash's cost stands for.
    ///
    /// A name that is not there takes as long as one that is: some user's hash, chosen by `other`, is computed
    /// in vain. The same name should always come with the same `other`, which nobody outside can foresee.
    pub fn verify(&self, name: &str, password: &str, other: u64) -> bool {
        let known = self.by_name.get(name);
        let count = self.entries.len() as u64;
        let Some(index) = known.copied().or_else(|| Some(other.checked_rem(count)? as usize)) else { return false };
        // What can go wrong is a malformed hash, and none was taken in.
        let matches = bcrypt::verify(password, &self.entries[index].hash).unwrap_or(false);
        matches & known.is_some()
    }
}

/// The hash holds a random salt that no client knows, so nothing can be guessed from this.
fn stamp(name: &str, hash: &str) -> String {
    let digest = Sha256::new_with_prefix(name).chain_update(":").chain_update(hash).finalize();
    hex::encode(&digest[..12])
}

fn check_hash(line: usize, hash: &str) -> Result<(), HtpasswdError> {
    if !["$2y$", "$2b$", "$2a$"].iter().any(|prefix| hash.starts_with(prefix)) {
        return Err(HtpasswdError::Hash { line, form: form_of(hash) });
    }
    let malformed = |_| HtpasswdError::Hash { line, form: "a bcrypt hash that is malformed" };
    let parts: bcrypt::HashParts = hash.parse().map_err(malformed)?;
    match parts.get_cost() {
        cost if COSTS.contains(&cost) => Ok(()),
        cost => Err(HtpasswdError::Cost { line, cost }),
    }
}

/// What `htpasswd` and `mkpasswd` write besides bcrypt.
fn form_of(hash: &str) -> &'static str {
    let forms = [
        ("$apr1$", "Apache's MD5"),
        ("$1$", "MD5"),
        ("$5$", "SHA-256 (crypt)"),
        ("$6$", "SHA-512 (crypt)"),
        ("$y$", "yescrypt"),
        ("$2x$", "an old, faulty form of bcrypt"),
        ("$argon2", "Argon2"),
        ("{SHA}", "SHA-1"),
        ("{SSHA}", "salted SHA-1"),
    ];
    let known = forms.iter().find(|(prefix, _)| hash.starts_with(prefix));
    known.map_or("plain text, or in a form that is not known", |(_, form)| form)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// `alice` has the password `secret`, made by `htpasswd -nbB -C 4`.
    fn line(name: &str, password: &str) -> String {
        format!(
            "{name}:{}",
            bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap().format_for_version(bcrypt::Version::TwoY)
        )
    }

    #[test]
    fn a_user_has_one_password() {
        let text = format!("# people\n\n{}\r\n{}\n", line("alice", "secret"), line("bob@example.com", "pass:word"));
        let users = Users::parse(text.as_bytes()).unwrap();
        assert_eq!(users.len(), 2);
        assert!(users.verify("alice", "secret", 0));
        assert!(users.verify("bob@example.com", "pass:word", 0));
        for (name, password) in [("alice", "Secret"), ("alice", ""), ("alice", "pass:word"), ("Alice", "secret")] {
            // Whichever hash is computed in vain for a name that is not there: it lets nobody in.
            assert!((0..4).all(|other| !users.verify(name, password, other)), "{name} {password}");
        }
        assert!(!Users::default().verify("alice", "secret", 5));
    }

    #[test]
    fn a_stamp_changes_with_the_password() {
        let parse = |text: String| Users::parse(text.as_bytes()).unwrap();
        let (first, second) = (parse(line("alice", "secret")), parse(line("alice", "other")));
        assert_eq!(first.stamp("alice"), parse(line("alice", "secret")).stamp("alice"));
        assert_ne!(first.stamp("alice"), second.stamp("alice"));
        assert_eq!(first.stamp("bob"), None);
    }

    #[rstest]
    #[case::no_colon("# x\nalice", "line 2 is not of the form")]
    #[case::md5("alice:$apr1$abc$def", "line 1: the password is stored as Apache's MD5")]
    #[case::sha1("alice:{SHA}xxx", "SHA-1, and only bcrypt is taken; set it again with `htpasswd -B`")]
    #[case::plain("\nalice:hunter2", "line 2: the password is stored as plain text")]
    #[case::cut("alice:$2y$05$abc", "malformed")]
    #[case::robot("robot/ns/ci:x", "line 1: the user's name can't be used")]
    #[case::dear(&format!("alice:$2y$31${}", ".".repeat(53)), "bcrypt cost is 31")]
    fn says_what_is_wrong_and_where(#[case] text: &str, #[case] expected: &str) {
        let error = Users::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("alice"), "nothing of the line is told: {error}");
    }

    #[test]
    fn a_user_may_be_there_once() {
        let text = format!("{}\n{}", line("alice", "a"), line("alice", "b"));
        assert!(matches!(Users::parse(text.as_bytes()), Err(HtpasswdError::Twice { line: 2 })));
    }

    #[test]
    fn a_file_is_bounded() {
        assert_eq!(Users::parse(&vec![b'#'; MAX_FILE + 1]), Err(HtpasswdError::TooLarge));
    }
}
