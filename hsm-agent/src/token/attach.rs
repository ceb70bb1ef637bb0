//! From a loaded module to a token that is ready: find it by its label, log in, test the wrap profile, find our keys.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use strongroom_crypto::LockedMemory;
use strongroom_hsm::{HsmError, Reason, TokenState};
use strongroom_runtime::Chain;

use super::{
    Holdings, Keys, Markers, OperationError, Plan, Token, WrapProfile,
    keys::{self, KeyError, Purpose},
    marker::{self, MarkerError},
    profile::ProfileError,
};
use crate::{
    pin::{PinError, PinFile},
    pkcs11::{CallError, Module, Session, Slot, TokenInfo, User},
};

/// Why a token cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttachError {
    /// No token has the label.
    #[error("no token has the label {label}")]
    Missing {
        /// The label.
        label: String,
    },
    /// Two tokens have the label, so which one is meant would be a guess.
    #[error("{count} tokens have the label {label}")]
    Several {
        /// The label.
        label: String,
        /// How many.
        count: usize,
    },
    /// There is no PIN to try.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// The token refused the PIN.
    #[error(
        "the token {label} refused the PIN; it is not tried again until the PIN file is replaced"
    )]
    WrongPin {
        /// The label.
        label: String,
        /// What it said.
        #[source]
        source: CallError,
    },
    /// No wrap profile works.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The markers make no sense.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// A key is not as it was made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// There are keys of ours, and nothing says of which instance.
    #[error("the token has keys labelled as ours, but no record of an instance")]
    Orphans,
    /// The files of the token cannot be synced.
    #[error("the files of the token cannot be synced")]
    Sync(#[source] std::io::Error),
    /// The module failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

impl AttachError {
    /// Tells the failed call behind the error; everything else is about the token's content or the PIN.
    pub(crate) const fn call(&self) -> Option<&CallError> {
        match self {
            Self::Call(error)
            | Self::Marker(MarkerError::Call(error))
            | Self::Key(KeyError::Call(error)) => Some(error),
            _ => None,
        }
    }

    /// Tells how the token is.
    pub(crate) const fn state(&self) -> TokenState {
        match self {
            Self::Missing { .. } => TokenState::TokenMissing,
            Self::Pin(PinError::Refused { .. }) | Self::WrongPin { .. } => TokenState::WrongPin,
            Self::Pin(_) => TokenState::PinMissing,
            Self::Profile(_) => TokenState::NoWrapProfile,
            Self::Several { .. } | Self::Marker(_) | Self::Key(_) | Self::Orphans => {
                TokenState::Damaged
            }
            Self::Sync(_) | Self::Call(_) => TokenState::ModuleFailed,
        }
    }

    const fn reason(&self) -> Reason {
        match self.state() {
            TokenState::TokenMissing => Reason::TokenMissing,
            TokenState::WrongPin => Reason::WrongPin,
            TokenState::PinMissing => Reason::PinMissing,
            TokenState::NoWrapProfile => Reason::NoWrapProfile,
            TokenState::Damaged => Reason::TokenDamaged,
            _ => Reason::ModuleFailed,
        }
    }

    /// Gives what callers are told.
    pub(crate) fn into_answer(self) -> HsmError {
        HsmError::new(self.reason(), Chain(&self).to_string())
    }
}

/// Finds the token with a label.
pub(crate) fn find_slot(module: Module, label: &str) -> Result<(Slot, TokenInfo), AttachError> {
    let mut found = Vec::new();
    for slot in module.slots()? {
        let info = module.token(slot)?;
        if info.initialized && info.label == label {
            found.push((slot, info));
        }
    }
    let label = label.to_owned();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(AttachError::Missing { label }),
        count => Err(AttachError::Several { label, count }),
    }
}

/// Logs in to a token and finds what it holds of ours.
pub(crate) fn attach(
    module: Module,
    (slot, info): (Slot, TokenInfo),
    pin: PinFile,
    memory: LockedMemory,
    files: Option<PathBuf>,
) -> Result<Token, AttachError> {
    let login = module.open_session(slot)?;
    log_in(&login, &info.label, &pin)?;
    let session = module.open_session(slot)?;
    let profile = WrapProfile::choose(&session)?;
    let holdings = find_holdings(&session)?;
    let label = info.label;
    Ok(Token {
        module,
        slot,
        label,
        pin,
        _login: login,
        session,
        profile,
        holdings,
        memory,
        files,
    })
}

/// Logs in with the PIN, once: a PIN that was refused is remembered before anything else happens.
fn log_in(session: &Session, label: &str, pin_file: &PinFile) -> Result<(), AttachError> {
    let pin = pin_file.read()?;
    let refusal = pin_file.prepare(&pin)?;
    match session.login(User::User, &pin.bytes) {
        Err(source) if source.is_pin_refused() => {
            refusal.happened()?;
            Err(AttachError::WrongPin {
                label: label.to_owned(),
                source,
            })
        }
        Err(error) if !error.is_logged_in_already() => {
            refusal.did_not_happen()?;
            Err(error.into())
        }
        Ok(()) | Err(_) => Ok(refusal.did_not_happen()?),
    }
}

pub(super) fn find_holdings(session: &Session) -> Result<Holdings, AttachError> {
    match marker::read(session)? {
        Markers::Sealed(plan) => Ok(Holdings::Complete(Box::new(find_keys(session, plan)?))),
        Markers::Begun(plan) => Ok(Holdings::Begun(plan)),
        Markers::None if keys::any_of_ours(session)? => Err(AttachError::Orphans),
        Markers::None => Ok(Holdings::Nothing),
    }
}

pub(super) fn find_keys(session: &Session, plan: Plan) -> Result<Keys, KeyError> {
    let pair = |purpose| keys::find_pair(session, purpose, plan.signing_key(purpose));
    Ok(Keys {
        plan,
        root: keys::find_root(session, &plan.root)?,
        record_signing: pair(Purpose::RecordSigning)?,
        certificate_authority: pair(Purpose::CertificateAuthority)?,
        checkpoint_certifying: pair(Purpose::CheckpointCertifying)?,
    })
}

impl Token {
    /// Replaces the session that works.
    pub(super) fn reopen(&mut self) -> Result<(), OperationError> {
        self.session = self.module.open_session(self.slot)?;
        Ok(())
    }

    /// Logs in again: a token forgets a login when it is reset.
    pub(super) fn log_in_again(&mut self) -> Result<(), OperationError> {
        log_in(&self.session, &self.label, &self.pin).map_err(boxed)
    }

    /// Finds our keys again: their handles changed.
    pub(super) fn find_keys(&mut self) -> Result<(), OperationError> {
        self.holdings = find_holdings(&self.session).map_err(boxed)?;
        Ok(())
    }
}

pub(super) fn boxed(error: AttachError) -> OperationError {
    match error.call() {
        Some(call) => OperationError::Call(*call),
        None => OperationError::Attach(Box::new(error)),
    }
}
