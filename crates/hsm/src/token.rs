//! What a token is and holds, as the agent saw it last.

use strongroom_core::InstanceId;

use crate::RootId;

/// How a token is. Only `Ready` serves; each other state says what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumIter, strum::IntoStaticStr)]
pub enum TokenState {
    /// Every call works.
    Ready,
    /// The token has none of our objects.
    Uninitialized,
    /// Initialising was begun for an instance and must be asked for again.
    Incomplete,
    /// No token has the configured label.
    TokenMissing,
    /// The token refused the PIN.
    WrongPin,
    /// The PIN file cannot be read.
    PinMissing,
    /// The module cannot be loaded or initialised.
    ModuleFailed,
    /// No wrap profile passed its self-test.
    NoWrapProfile,
    /// Our objects are not as they were made.
    Damaged,
    /// The agent has not looked yet, or its worker is being restarted.
    Starting,
    /// Nothing of a token is there, and the agent makes one when it is asked to.
    NotMade,
}

impl TokenState {
    /// Gives the word that metrics and conditions show.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What initialising made. Public keys are SubjectPublicKeyInfo in DER, and empty until all keys are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenKeys {
    /// The installation that the token belongs to.
    pub instance: InstanceId,
    /// The root that wraps new KEKs.
    pub root: RootId,
    /// Signs KEK records.
    pub record_signing_key: Vec<u8>,
    /// The key of the root certificate.
    pub certificate_authority_key: Vec<u8>,
    /// Certifies checkpoint keys of the audit log.
    pub checkpoint_certifying_key: Vec<u8>,
}

/// A token as the agent saw it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenDescription {
    /// Whether it serves.
    pub state: TokenState,
    /// One sentence when it does not.
    pub message: String,
    /// The token's label.
    pub label: String,
    /// The token's serial number.
    pub serial: String,
    /// Who made it.
    pub manufacturer: String,
    /// Its model.
    pub model: String,
    /// False for SoftHSM and its like.
    pub hardware: bool,
    /// The wrap profile that passed the self-test, or empty.
    pub wrap_profile: String,
    /// Our keys; `None` before initialising was begun.
    pub keys: Option<TokenKeys>,
}
