//! Which objects there are, by kind, namespace and name.

use std::{fmt, ops::Deref, sync::Arc};

/// Kinds of objects that are told to the key service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `KeyRing`.
    KeyRing,
    /// `CryptoKey`.
    CryptoKey,
    /// `ManagedSecret`.
    ManagedSecret,
    /// `SecretBundle`.
    SecretBundle,
    /// `SecretRotation`.
    SecretRotation,
}

impl Kind {
    /// All of them, in the order in which they need each other.
    pub const ALL: [Self; 5] = [
        Self::KeyRing,
        Self::CryptoKey,
        Self::ManagedSecret,
        Self::SecretBundle,
        Self::SecretRotation,
    ];

    /// Its name in manifests, metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeyRing => "KeyRing",
            Self::CryptoKey => "CryptoKey",
            Self::ManagedSecret => "ManagedSecret",
            Self::SecretBundle => "SecretBundle",
            Self::SecretRotation => "SecretRotation",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A namespace and a name in it. A clone is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(Arc<(String, String)>);

impl Place {
    /// Names a place; what is cluster-wide has an empty namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self(Arc::new((namespace.into(), name.into())))
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.0.0
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0.1
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace(), self.name())
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub place: Place,
}

impl Key {
    /// Names an object.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            place: Place::new(namespace, name),
        }
    }
}

impl Deref for Key {
    type Target = Place;

    fn deref(&self) -> &Place {
        &self.place
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.place)
    }
}
