//! Who is asking.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who is asking, once the credentials have been verified. Serialised into the registry's own tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Identity {
    /// No credentials were given.
    Anonymous,
    /// The holder of a generated credential.
    Credential(CredentialSubject),
}

/// Whom a generated credential stands for. It holds as long as the object that it names is there with this UID and
/// with a generation that is not higher.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CredentialSubject {
    /// A robot of a Member.
    Robot { member: String, namespace: String, name: String, generation: u32 },
    /// The pull secret of a Project in one namespace.
    PullSecret { project: String, namespace: String, name: String, generation: u32 },
}

impl CredentialSubject {
    pub fn generation(&self) -> u32 {
        match self {
            CredentialSubject::Robot { generation, .. } | CredentialSubject::PullSecret { generation, .. } => {
                *generation
            }
        }
    }

    /// The user name that goes with the credential. It tells a person what the credential is; what it may do is in
    /// the password's claims.
    pub fn username(&self) -> String {
        match self {
            CredentialSubject::Robot { namespace, name, .. } => format!("robot/{namespace}/{name}"),
            CredentialSubject::PullSecret { namespace, name, .. } => format!("pull/{namespace}/{name}"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Anonymous => f.write_str("anonymous"),
            Identity::Credential(subject) => f.write_str(&subject.username()),
        }
    }
}
