//! Objects of registered clusters, as verified tokens and our own records name them.
//!
//! A name can be used again by another object; a uid cannot. Whatever decides compares both.

use std::{fmt, str::FromStr};

use crate::Name;

/// A name as most objects of Kubernetes have it: DNS labels, joined by dots, at most 253 characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// The text is no name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a name of an object has 1 to 253 of a-z, 0-9, '-' and '.', and each part between dots begins and ends with a letter or digit"
)]
pub struct InvalidObjectName;

impl ObjectName {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectName {
    type Err = InvalidObjectName;

    fn from_str(text: &str) -> Result<Self, InvalidObjectName> {
        if is_subdomain(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidObjectName)
        }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DNS subdomain (RFC 1123).
pub(crate) fn is_subdomain(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(alphanumeric)
            && bytes.last().is_some_and(alphanumeric)
            && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// What an API server made to tell one object, or one token, from every other. Compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(String);

/// The text is nothing that an API server makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a uid has 1 to 64 letters, digits and '-'")]
pub struct InvalidUid;

impl Uid {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Uid {
    type Err = InvalidUid;

    fn from_str(text: &str) -> Result<Self, InvalidUid> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(known) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUid)
        }
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One object: whoever makes it anew under the same name makes another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its name in its namespace, or in the cluster.
    pub name: ObjectName,
    /// Its uid.
    pub uid: Uid,
}

/// The form in records: `NAME#UID`.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.name, self.uid)
    }
}

/// One namespace of one registered cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant {
    /// The name under which the configuration registers the cluster; never what a token says of itself.
    pub cluster: Name,
    /// The namespace.
    pub namespace: Name,
}

/// The form in records: `CLUSTER/NAMESPACE`.
impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.namespace)
    }
}

/// A service account. Two are the same when cluster, namespace, name and uid are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceAccount {
    /// Where it is.
    pub tenant: Tenant,
    /// Which.
    pub id: ObjectId,
}

/// The form in records: `CLUSTER/NAMESPACE/NAME#UID`.
impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.id)
    }
}

/// Whom a token that is bound to a pod stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PodIdentity {
    /// The account that the pod runs as, and the pod's namespace.
    pub account: ServiceAccount,
    /// The pod.
    pub pod: ObjectId,
    /// The node that it runs on.
    pub node: ObjectId,
    /// The token's own id (`jti`).
    pub token: Uid,
}

/// The form in records: `CLUSTER/NAMESPACE/POD#UID,account=NAME#UID,node=NAME#UID,token=ID`.
impl fmt::Display for PodIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            account,
            pod,
            node,
            token,
        } = self;
        let ServiceAccount { tenant, id } = account;
        write!(f, "{tenant}/{pod},account={id},node={node},token={token}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_are_subdomains_and_nothing_else() {
        let longest = format!("{}.b", "a".repeat(251));
        for good in ["api", "api-7d4f9.web", "0", &longest] {
            assert_eq!(good.parse(), Ok(ObjectName(good.to_owned())));
        }
        let too_long = format!("{}.bc", "a".repeat(251));
        for bad in [
            "", ".", "a.", ".a", "a..b", "-a", "a-", "A", "a_b", "a/b", "a#b", "a,b", "é", "a\n",
            &too_long,
        ] {
            let parsed = bad.parse::<ObjectName>();
            assert_eq!(parsed, Err(InvalidObjectName), "{bad:?}");
        }
    }

    #[test]
    fn uids_are_short_and_plain() {
        let longest = "f".repeat(64);
        for good in ["2f1c8a6e-0000-4c2b-9d55-000000000001", "A0", &longest] {
            assert_eq!(good.parse(), Ok(Uid(good.to_owned())));
        }
        let too_long = "f".repeat(65);
        for bad in ["", "a b", "a/b", "a#b", "a,b", "é", "a\n", "a\"", &too_long] {
            assert_eq!(bad.parse::<Uid>(), Err(InvalidUid), "{bad:?}");
        }
    }
}
