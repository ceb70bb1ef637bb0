//! Everything that `walk` decides from.

use std::collections::BTreeMap;

use crate::cluster::objects::{
    Bound, CsiNode, Event, KeyRing, KeyService, ManagedSecret, Named, Pod, SecretBundle,
};

/// What a look brought.
#[derive(Debug, Clone)]
pub(super) enum Seen<T> {
    There(T),
    Missing,
    /// It may be there; the sentence says why it is not known.
    Hidden(String),
}

impl<T> Seen<T> {
    pub(super) const fn there(&self) -> Option<&T> {
        match self {
            Self::There(object) => Some(object),
            Self::Missing | Self::Hidden(_) => None,
        }
    }
}

/// What is explained.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    Pod(Box<PodSeen>),
    Secret(String),
    Bundle(String),
}

/// A pod, and what it needs beside its secrets.
#[derive(Debug, Clone)]
pub(super) struct PodSeen {
    pub(super) pod: Pod,
    pub(super) account: Seen<Named>,
    pub(super) driver: Seen<Named>,
    /// Only of a pod that has a node.
    pub(super) node: Option<Seen<CsiNode>>,
    pub(super) events: Vec<Event>,
}

/// What the key service says, asked as an administrator.
#[derive(Debug, Clone, Default)]
pub(super) struct Instance {
    pub(super) conditions: Vec<ServiceCondition>,
    pub(super) secrets: BTreeMap<String, SecretInService>,
}

#[derive(Debug, Clone)]
pub(super) struct ServiceCondition {
    pub(super) r#type: String,
    pub(super) ok: bool,
    pub(super) reason: String,
    pub(super) message: String,
}

/// A secret as the key service has it.
#[derive(Debug, Clone)]
pub(super) enum SecretInService {
    There {
        /// The current version.
        version: Option<String>,
        access: Vec<Bound>,
    },
    Missing,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) namespace: String,
    pub(super) subject: Subject,
    pub(super) bundles: BTreeMap<String, Seen<SecretBundle>>,
    pub(super) secrets: BTreeMap<String, Seen<ManagedSecret>>,
    /// Those of the namespace.
    pub(super) rings: Seen<Vec<KeyRing>>,
    pub(super) service: Seen<KeyService>,
    /// None where there is no certificate to ask with.
    pub(super) instance: Option<Result<Instance, String>>,
}
