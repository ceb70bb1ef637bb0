//! Who calls. Authentication makes these from verified evidence; nothing else does.

use std::{fmt, sync::Arc};

use crate::{NodeIdentity, NodeRole, PodIdentity};

/// A verified identity. Anonymous callers have none: they are refused before there is a `Caller`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The holder of a client certificate under our `client` intermediate.
    Certificate(CertificateIdentity),
    /// The process at the other end of the plugin's socket.
    KmsSocket {
        /// Its user id, as the kernel says it.
        uid: u32,
    },
    /// The plugin of a node, with a certificate of that node.
    KmsPlugin(NodeCredential),
    /// The holder of a secret with which a node is enrolled; it can be used for that once.
    Enrolment(NodeIdentity),
    /// A process with the service's own user id at the local socket through which administrators get certificates.
    AdminSocket {
        /// Its user id, as the kernel says it.
        uid: u32,
    },
    /// A pod, by a token of its service account that is bound to it.
    Pod(Arc<PodIdentity>),
    /// The CSI driver on its node: a pod whose account the configuration names as the driver's.
    CsiDriver(Arc<PodIdentity>),
    /// The operator of a cluster: a pod whose account the configuration names as the operator's.
    Operator(Arc<PodIdentity>),
    /// One of our own jobs.
    System(Job),
}

/// The subject of a client certificate. Each call of a connection has one, so that a clone shares its texts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertificateIdentity {
    /// The common name, 1 to 64 printable ASCII characters.
    pub name: Arc<str>,
    /// Serial number, lower-case hexadecimal.
    pub serial: Arc<str>,
}

/// The subject of a node's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeCredential {
    /// Whose it is.
    pub identity: NodeIdentity,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
}

/// Our own jobs that change state without a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Makes the instance.
    Initialize,
    /// Anchors audit checkpoints in the store.
    Anchor,
    /// Ends identities of which there is a copy.
    Revoke,
    /// Writes down what time it is.
    Time,
    /// Makes the versions that schedules ask for.
    Rotate,
}

impl Job {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Initialize,
        Self::Anchor,
        Self::Revoke,
        Self::Time,
        Self::Rotate,
    ];

    /// Its name in policies and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Anchor => "anchor",
            Self::Revoke => "revoke",
            Self::Time => "time",
            Self::Rotate => "rotate",
        }
    }
}

/// The form in audit records: `certificate:NAME#SERIAL`, `kms-socket:UID`, `kms-plugin:NODE#SERIAL`,
/// `enrolment:ROLE/NODE`, `admin-socket:UID`, `pod:IDENTITY`, `csi-driver:IDENTITY`, `operator:IDENTITY`,
/// `system:JOB`.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate(identity) => {
                write!(f, "certificate:{}#{}", identity.name, identity.serial)
            }
            Self::KmsSocket { uid } => write!(f, "kms-socket:{uid}"),
            Self::KmsPlugin(NodeCredential { identity, serial }) => {
                let NodeIdentity { role, node } = identity;
                match role {
                    NodeRole::KmsPlugin => write!(f, "kms-plugin:{node}#{serial}"),
                }
            }
            Self::Enrolment(identity) => write!(f, "enrolment:{identity}"),
            Self::AdminSocket { uid } => write!(f, "admin-socket:{uid}"),
            Self::Pod(identity) => write!(f, "pod:{identity}"),
            Self::CsiDriver(identity) => write!(f, "csi-driver:{identity}"),
            Self::Operator(identity) => write!(f, "operator:{identity}"),
            Self::System(job) => write!(f, "system:{}", job.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ObjectId, ServiceAccount, Tenant};

    #[test]
    fn a_pod_is_recorded_with_every_uid() {
        let object = |name: &str, uid: &str| ObjectId {
            name: name.parse().unwrap(),
            uid: uid.parse().unwrap(),
        };
        let identity = Arc::new(PodIdentity {
            account: ServiceAccount {
                tenant: Tenant {
                    cluster: "east".parse().unwrap(),
                    namespace: "payments".parse().unwrap(),
                },
                id: object("api", "a-1"),
            },
            pod: object("api-7d4f9", "p-2"),
            node: object("worker-1.example", "n-3"),
            token: "t-4".parse().unwrap(),
        });
        let rest =
            "east/payments/api-7d4f9#p-2,account=api#a-1,node=worker-1.example#n-3,token=t-4";
        assert_eq!(
            Caller::Pod(identity.clone()).to_string(),
            format!("pod:{rest}")
        );
        assert_eq!(
            Caller::CsiDriver(identity.clone()).to_string(),
            format!("csi-driver:{rest}")
        );
        assert_eq!(
            Caller::Operator(identity).to_string(),
            format!("operator:{rest}")
        );
    }
}
