//! Where the API server has each kind that a command reads.

use std::fmt::Write;

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Pod,
    Event,
    Namespace,
    ServiceAccount,
    Secret,
    ConfigMap,
    CsiDriver,
    CsiNode,
    StatefulSet,
    Deployment,
    DaemonSet,
    KeyService,
    KeyRing,
    CryptoKey,
    ManagedSecret,
    SecretRotation,
    SecretBundle,
}

/// Among which objects of a kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scope<'a> {
    /// Of one namespace.
    Namespace(&'a str),
    /// Of all of them, or of a kind that has none.
    Cluster,
}

const CORE: &str = "api/v1";
const APPS: &str = "apis/apps/v1";
const STORAGE: &str = "apis/storage.k8s.io/v1";
const OURS: &str = "apis/strongroom.dev/v1alpha1";

impl Kind {
    /// Group with version, resource, kind.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Pod => (CORE, "pods", "Pod"),
            Self::Event => (CORE, "events", "Event"),
            Self::Namespace => (CORE, "namespaces", "Namespace"),
            Self::ServiceAccount => (CORE, "serviceaccounts", "ServiceAccount"),
            Self::Secret => (CORE, "secrets", "Secret"),
            Self::ConfigMap => (CORE, "configmaps", "ConfigMap"),
            Self::CsiDriver => (STORAGE, "csidrivers", "CSIDriver"),
            Self::CsiNode => (STORAGE, "csinodes", "CSINode"),
            Self::StatefulSet => (APPS, "statefulsets", "StatefulSet"),
            Self::Deployment => (APPS, "deployments", "Deployment"),
            Self::DaemonSet => (APPS, "daemonsets", "DaemonSet"),
            Self::KeyService => (OURS, "keyservices", "KeyService"),
            Self::KeyRing => (OURS, "keyrings", "KeyRing"),
            Self::CryptoKey => (OURS, "cryptokeys", "CryptoKey"),
            Self::ManagedSecret => (OURS, "managedsecrets", "ManagedSecret"),
            Self::SecretRotation => (OURS, "secretrotations", "SecretRotation"),
            Self::SecretBundle => (OURS, "secretbundles", "SecretBundle"),
        }
    }

    /// As sentences name it.
    pub(crate) const fn kind(self) -> &'static str {
        self.names().2
    }

    pub(super) const fn plural(self) -> &'static str {
        self.names().1
    }

    pub(super) fn one(self, name: &str) -> String {
        format!("{} {name}", self.kind())
    }

    pub(super) fn path(self, scope: Scope<'_>, name: Option<&str>, query: &str) -> String {
        let (group, resource, _) = self.names();
        let mut path = format!("/{group}");
        if let Scope::Namespace(namespace) = scope {
            path.push_str("/namespaces/");
            path.push_str(&escape(namespace));
        }
        path.push('/');
        path.push_str(resource);
        if let Some(name) = name {
            path.push('/');
            path.push_str(&escape(name));
        }
        if !query.is_empty() {
            path.push('?');
            path.push_str(query);
        }
        path
    }
}

/// What came from outside as one part of a path or query.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a String takes everything");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_lead_to_another_object() {
        let scope = Scope::Namespace("payments");
        let path = Kind::KeyRing.path(scope, Some("../secrets?x"), "");
        let expected =
            "/apis/strongroom.dev/v1alpha1/namespaces/payments/keyrings/..%2Fsecrets%3Fx";
        assert_eq!(path, expected);
        assert_eq!(
            Kind::CsiDriver.path(Scope::Cluster, None, "limit=1"),
            "/apis/storage.k8s.io/v1/csidrivers?limit=1"
        );
    }
}
