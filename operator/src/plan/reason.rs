//! The closed list of words that conditions and events use.

use strum::IntoStaticStr;

/// Why something is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr)]
pub enum Reason {
    /// The key service has it as it is written.
    Applied,
    /// Nobody has set the secret's value.
    AwaitingValue,
    /// The rotation is done.
    Rotated,
    /// The key service has no instance yet.
    AwaitingInit,
    /// The key service serves.
    Serving,
    /// The key service serves, and something that it needs is not well.
    Degraded,
    /// The key service does not answer.
    KeyServiceUnreachable,
    /// The key service does not let the operator do its work.
    KeyServiceRefuses,
    /// The key service that answers is not the one that this cluster trusts.
    OtherInstance,
    /// The namespace of the object was not seen yet.
    NamespaceUnknown,
    /// The KeyRing that is named is not there.
    RingNotFound,
    /// No KeyRing is named, and there is more than one.
    RingAmbiguous,
    /// The ManagedSecret that is named is not there.
    SecretNotFound,
    /// Secrets that a bundle names are not there.
    SecretsMissing,
    /// What is named is there.
    Resolved,
    /// A namespace of this name that is no more owns it.
    OwnedByFormerNamespace,
    /// What was changed cannot be changed.
    ImmutableField,
    /// The key service does not accept it.
    Invalid,
    /// The secret is set by people, and not rotated.
    NotGenerated,
    /// Every account that is there is bound.
    Bound,
    /// A service account that is named is not there.
    AccountNotFound,
    /// Nobody guards who may change access.
    AccessUnguarded,
    /// The root keys are in hardware.
    Hardware,
    /// They are not.
    SoftwareToken,
}

impl Reason {
    /// The word.
    pub fn word(self) -> &'static str {
        self.into()
    }
}
