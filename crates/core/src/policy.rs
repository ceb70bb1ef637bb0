//! Permission as a value that one must hold.
//!
//! A `Permit` comes only from `authorize`, which asks a `Decide`. The registry takes permits, so that a forgotten check
//! does not compile.

use std::{fmt, marker::PhantomData, sync::Arc};

use crate::{Access, Caller, KeyId, RingId, SecretId, id::write_hex};

/// Declares the closed list of actions: the enum, one marker type for each, and their names.
macro_rules! actions {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        /// Everything that can be asked of the key service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ActionKind {
            $($(#[doc = $doc])* $name,)*
        }

        impl ActionKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in policies and audit records.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }

        /// One type for each action, so that a permit for one is not a permit for another.
        pub mod action {
            use super::{Action, ActionKind};
            $(
                $(#[doc = $doc])*
                #[derive(Debug)]
                pub enum $name {}
                impl Action for $name { const KIND: ActionKind = ActionKind::$name; }
            )*
        }
    };
}

actions! {
    /// Says how the installation is.
    DescribeInstance,
    /// Makes a ring with a new KEK.
    CreateKeyRing,
    /// Lists rings.
    ListKeyRings,
    /// Makes a key in a ring.
    CreateKey,
    /// Lists the keys of a ring.
    ListKeys,
    /// Reads the head of a key.
    DescribeKey,
    /// Makes a new primary version.
    RotateKey,
    /// Makes an existing version primary.
    SetPrimaryVersion,
    /// Lets a disabled version be used again.
    EnableVersion,
    /// Stops the use of a version.
    DisableVersion,
    /// Starts the waiting window of a destruction.
    ScheduleVersionDestruction,
    /// Ends the waiting window without destruction.
    CancelVersionDestruction,
    /// Seals application data.
    Encrypt,
    /// Opens application data.
    Decrypt,
    /// Proves that the etcd key can be used.
    ProbeEtcdKey,
    /// Seals a seed of the API server.
    EncryptSeed,
    /// Opens a seed of the API server.
    DecryptSeed,
    /// Signs the certificate of an administrator.
    IssueCertificate,
    /// Writes a checkpoint of the audit log into the store.
    AnchorCheckpoint,
    /// Makes a secret with which a node can be enrolled once.
    InviteNode,
    /// Uses that secret up for the first certificate.
    EnrolNode,
    /// Gets the next certificate of one's own identity.
    RenewNodeCertificate,
    /// Makes the next certificate the newest by its first use.
    ConfirmNodeCertificate,
    /// Ends an identity of which there is a copy.
    RevokeNode,
    /// Makes a secret in a ring.
    CreateSecret,
    /// Lists the secrets of a ring, without values.
    ListSecrets,
    /// Reads the head of a secret, without values.
    DescribeSecret,
    /// Makes the next version of a secret from values that were given.
    SetSecretValue,
    /// Makes the next version of a secret from values that the key service makes.
    RotateSecret,
    /// Replaces who may read a secret.
    SetSecretAccess,
    /// Gives values of a secret to a person.
    RevealSecret,
    /// Gives values of a secret to a pod's volume, or says that they changed.
    ReadSecret,
    /// Brings requests for the pods of one's own node. It opens nothing: each secret is asked for as the pod.
    ServePods,
    /// Becomes the one process that may change what the custom resources of its cluster ask for.
    AcquireControlEpoch,
    /// Hears which objects of its cluster changed.
    WatchObjects,
    /// Brings a ring to what its custom resource says.
    ApplyKeyRing,
    /// Brings a key to what its custom resource says.
    ApplyKey,
    /// Brings a secret to what its custom resource says.
    ApplySecret,
    /// Brings a bundle of a ring to what its custom resource says.
    ApplyBundle,
    /// Lets go of what a custom resource held. It is kept.
    ReleaseObject,
    /// Gives a ring with everything in it to a namespace that was made again.
    AdoptKeyRing,
    /// Writes down what time it is, so that a restart goes on from it.
    RecordTime,
    /// Writes down that the machine's clock jumped.
    RecordClockJump,
    /// Believes the machine's clock after it jumped.
    ConfirmClock,
}

impl fmt::Display for ActionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A marker type of `action`.
pub trait Action {
    /// Which one it is.
    const KIND: ActionKind;
}

/// What is acted on, with what policies may look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    /// The installation.
    Instance,
    /// One ring.
    Ring(RingRef),
    /// One key.
    Key {
        /// Its ring.
        ring: RingRef,
        /// Its id.
        key: KeyId,
        /// Who may use it by its own record, as the record is now.
        access: Arc<Access>,
    },
    /// One secret.
    Secret {
        /// Its ring.
        ring: RingRef,
        /// Its id.
        secret: SecretId,
        /// Who may read it by its own record, as the record is now.
        access: Arc<Access>,
    },
}

/// A ring as policies see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RingRef {
    /// Its id.
    pub id: RingId,
    /// Whether it is the system's or somebody's.
    pub kind: RingKind,
    /// The tenant that owns it, and who has a role on everything in it by its own record, as the record is now.
    pub access: Arc<Access>,
}

/// Whose ring it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RingKind {
    /// Holds the keys of the installation, such as the one of etcd. Made by `init`.
    System,
    /// Holds keys of applications.
    Application,
}

impl Resource {
    /// The ring it is or lies in.
    #[must_use]
    pub const fn ring(&self) -> Option<RingId> {
        match self {
            Self::Instance => None,
            Self::Ring(ring) | Self::Key { ring, .. } | Self::Secret { ring, .. } => Some(ring.id),
        }
    }
}

/// The form in audit records: `instance`, `ring/RING`, `key/RING/KEY`, `secret/RING/SECRET`.
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.write_str("instance"),
            Self::Ring(ring) => write!(f, "ring/{}", ring.id),
            Self::Key { ring, key, .. } => write!(f, "key/{}/{key}", ring.id),
            Self::Secret { ring, secret, .. } => write!(f, "secret/{}/{secret}", ring.id),
        }
    }
}

/// A keyed digest of the canonical encryption context, or zeros where a call has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextDigest(pub [u8; 32]);

/// 64 lower-case hexadecimal digits.
impl fmt::Display for ContextDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (halves, []) = self.0.as_chunks::<16>() else {
            return Err(fmt::Error);
        };
        halves.iter().try_for_each(|half| write_hex(half, f))
    }
}

/// What a policy is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// Does what.
    pub action: ActionKind,
    /// To what.
    pub resource: &'a Resource,
}

/// What it answers. An error in evaluation is a `Deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// At least one permit, no forbid, no error.
    Allow,
    /// Everything else.
    Deny,
}

/// The port to whatever holds the policies.
///
/// # Guarantees
/// An implementation denies what no policy permits, and denies when any policy cannot be evaluated.
pub trait Decide: Send + Sync {
    /// Answers for one tuple under the current policies.
    fn decide(&self, question: Question<'_>) -> Decision;

    /// Names the set of policies that `decide` uses; changes whenever they do.
    fn revision(&self) -> u64;
}

/// The caller may not do this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{caller} may not {action} on {resource}")]
pub struct Denied {
    /// Who asked.
    pub caller: Caller,
    /// For what.
    pub action: ActionKind,
    /// On what.
    pub resource: Resource,
}

/// Proof that the policy allowed `A` once, to one caller, on one resource, with one context.
///
/// It cannot be copied, and only `authorize` makes it:
///
/// ```compile_fail
/// # use strongroom_core::{Permit, action};
/// fn decrypt(_permit: &Permit<action::Decrypt>) {}
/// fn handler(permit: &Permit<action::Encrypt>) {
///     decrypt(permit);
/// }
/// ```
#[derive(Debug)]
pub struct Permit<A> {
    caller: Caller,
    resource: Resource,
    context: ContextDigest,
    policy_revision: u64,
    action: PhantomData<fn() -> A>,
}

impl<A: Action> Permit<A> {
    /// Who holds it.
    #[must_use]
    pub const fn caller(&self) -> &Caller {
        &self.caller
    }

    /// What it is for.
    #[must_use]
    pub const fn resource(&self) -> &Resource {
        &self.resource
    }

    /// The context that was asked for.
    #[must_use]
    pub const fn context(&self) -> ContextDigest {
        self.context
    }

    /// The policies that allowed it.
    #[must_use]
    pub const fn policy_revision(&self) -> u64 {
        self.policy_revision
    }

    /// The key that it is for, when it is for a key.
    #[must_use]
    pub fn key(&self) -> Option<(RingId, KeyId)> {
        match &self.resource {
            Resource::Key { ring, key, .. } => Some((ring.id, *key)),
            Resource::Instance | Resource::Ring(_) | Resource::Secret { .. } => None,
        }
    }

    /// The secret that it is for, when it is for a secret.
    #[must_use]
    pub fn secret(&self) -> Option<(RingId, SecretId)> {
        match &self.resource {
            Resource::Secret { ring, secret, .. } => Some((ring.id, *secret)),
            Resource::Instance | Resource::Ring(_) | Resource::Key { .. } => None,
        }
    }
}

/// Asks the policy and returns the proof, or who was denied what.
///
/// # Errors
/// `Denied` whenever the answer is not a clear yes.
pub fn authorize<A: Action>(
    policy: &dyn Decide,
    caller: &Caller,
    resource: Resource,
    context: ContextDigest,
) -> Result<Permit<A>, Denied> {
    // The revision is read first: a change in between can only make the permit look older than it is.
    let policy_revision = policy.revision();
    match policy.decide(Question {
        caller,
        action: A::KIND,
        resource: &resource,
    }) {
        Decision::Allow => Ok(Permit {
            caller: caller.clone(),
            resource,
            context,
            policy_revision,
            action: PhantomData,
        }),
        Decision::Deny => Err(Denied {
            caller: caller.clone(),
            action: A::KIND,
            resource,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_digest_is_written_as_64_lower_case_digits() {
        let digest = ContextDigest(std::array::from_fn(|place| {
            [0x0a, 0xf0, 0, 0x7b][place % 4]
        }));
        assert_eq!(digest.to_string(), "0af0007b".repeat(8));
        assert_eq!(ContextDigest::default().to_string(), "0".repeat(64));
    }
}
