//! Who may use something: roles of service accounts of the object's own namespace.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A role and those who have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule<R> {
    /// What the subjects may do.
    pub role: R,
    /// Who may do it.
    #[schemars(length(min = 1, max = 64))]
    pub subjects: Vec<Subject>,
}

/// Who has a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// What kind of subject it is.
    pub kind: SubjectKind,
    /// Its name, in the namespace of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// Kinds of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// A service account.
    ServiceAccount,
}

/// Roles on all that is in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RingRole {
    /// Encrypts with the ring's keys.
    KeyEncrypter,
    /// Decrypts with the ring's keys.
    KeyDecrypter,
    /// Reads the ring's secrets, in its pods' volumes.
    SecretReader,
}

/// Roles on a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyRole {
    /// Encrypts with the key.
    KeyEncrypter,
    /// Decrypts with the key.
    KeyDecrypter,
}

/// Roles on a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretRole {
    /// Reads the secret, in its pods' volumes.
    SecretReader,
}

/// Every role.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum Role {
    /// Encrypts.
    KeyEncrypter,
    /// Decrypts.
    KeyDecrypter,
    /// Reads.
    SecretReader,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyEncrypter => "KeyEncrypter",
            Self::KeyDecrypter => "KeyDecrypter",
            Self::SecretReader => "SecretReader",
        })
    }
}

impl From<RingRole> for Role {
    fn from(role: RingRole) -> Self {
        match role {
            RingRole::KeyEncrypter => Self::KeyEncrypter,
            RingRole::KeyDecrypter => Self::KeyDecrypter,
            RingRole::SecretReader => Self::SecretReader,
        }
    }
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::KeyEncrypter => Self::KeyEncrypter,
            KeyRole::KeyDecrypter => Self::KeyDecrypter,
        }
    }
}

impl From<SecretRole> for Role {
    fn from(role: SecretRole) -> Self {
        match role {
            SecretRole::SecretReader => Self::SecretReader,
        }
    }
}

/// A role that the key service has on record for an account, as it was when it was bound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bound {
    /// What it may do.
    pub role: Role,
    /// The name of the service account.
    #[schemars(length(max = 253))]
    pub service_account: String,
    /// The uid of the service account; one that was made anew is another one.
    #[schemars(length(max = 128))]
    pub uid: String,
}

/// As many as the key service keeps for one object.
pub(super) const BINDINGS_MAX: u64 = 64;
