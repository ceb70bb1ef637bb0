//! TYPE/NAME, as kubectl writes it: full names, plurals and short names of kinds.

use std::str::FromStr;

use strongroom_core::{InvalidName, Name};

/// The text does not name an object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseTargetError {
    #[error("an object is named as TYPE/NAME, such as {0}")]
    Form(&'static str),
    #[error("{0}")]
    Kind(&'static str),
    #[error("the name in {0} has 1 to 253 of a-z, 0-9, '-' and '.'")]
    Name(String),
    #[error(transparent)]
    Label(#[from] InvalidName),
}

/// What `why` explains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhyTarget {
    Pod(String),
    Secret(String),
    Bundle(String),
}

impl FromStr for WhyTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let (kind, name) = split(text, "pod/api")?;
        match kind {
            "pod" | "pods" | "po" => Ok(Self::Pod(name)),
            "managedsecret" | "managedsecrets" | "msec" => Ok(Self::Secret(name)),
            "secretbundle" | "secretbundles" | "sb" => Ok(Self::Bundle(name)),
            _ => Err(ParseTargetError::Kind(
                "`why` explains pod/NAME, msec/NAME and sb/NAME",
            )),
        }
    }
}

/// What `rotate` rotates, beside the etcd key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RotateTarget {
    Secret(String),
    Key(String),
}

impl FromStr for RotateTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let (kind, name) = split(text, "msec/db, or etcd")?;
        match kind {
            "managedsecret" | "managedsecrets" | "msec" => Ok(Self::Secret(name)),
            "cryptokey" | "cryptokeys" | "ck" => Ok(Self::Key(name)),
            _ => Err(ParseTargetError::Kind(
                "`rotate` rotates msec/NAME, ck/NAME and etcd",
            )),
        }
    }
}

/// A Secret of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportTarget(pub(crate) String);

impl FromStr for ImportTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        match split(text, "secret/db-creds")? {
            ("secret" | "secrets", name) => Ok(Self(name)),
            _ => Err(ParseTargetError::Kind("`secret import` takes secret/NAME")),
        }
    }
}

/// A ring, with or without its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RingTarget(pub(crate) Name);

impl FromStr for RingTarget {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, ParseTargetError> {
        let name = ["kr/", "keyring/", "keyrings/"]
            .iter()
            .find_map(|kind| text.strip_prefix(kind))
            .unwrap_or(text);
        Ok(Self(name.parse()?))
    }
}

/// The kind, and a name that can stand in a path.
fn split<'a>(text: &'a str, example: &'static str) -> Result<(&'a str, String), ParseTargetError> {
    let (kind, name) = text
        .split_once('/')
        .ok_or(ParseTargetError::Form(example))?;
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if (1..=253).contains(&name.len()) && name.bytes().all(fits) {
        Ok((kind, name.to_owned()))
    } else {
        Err(ParseTargetError::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_that_kubectl_knows() {
        for text in ["pod/api.v1", "pods/api.v1", "po/api.v1"] {
            assert_eq!(
                text.parse(),
                Ok(WhyTarget::Pod("api.v1".to_owned())),
                "{text}"
            );
        }
        let db = "db".to_owned();
        assert_eq!("msec/db".parse(), Ok(WhyTarget::Secret(db.clone())));
        assert_eq!("secretbundle/db".parse(), Ok(WhyTarget::Bundle(db.clone())));
        assert_eq!(
            "managedsecret/db".parse(),
            Ok(RotateTarget::Secret(db.clone()))
        );
        assert_eq!("ck/db".parse(), Ok(RotateTarget::Key(db.clone())));
        assert_eq!("secret/db".parse(), Ok(ImportTarget(db)));
    }

    #[test]
    fn what_names_no_object_is_refused() {
        for bad in [
            "api",
            "/api",
            "pod/",
            "pod/a/b",
            "pod/A",
            "deployment/api",
            "secret/db",
        ] {
            assert!(bad.parse::<WhyTarget>().is_err(), "{bad}");
        }
        assert!("pod/api".parse::<RotateTarget>().is_err());
        assert!("msec/db".parse::<ImportTarget>().is_err());
    }

    #[test]
    fn a_ring_is_named_with_and_without_its_kind() {
        for text in ["payments", "kr/payments", "keyring/payments"] {
            let ring: RingTarget = text.parse().unwrap();
            assert_eq!(ring.0.as_str(), "payments", "{text}");
        }
        assert!("ck/payments".parse::<RingTarget>().is_err());
    }
}
