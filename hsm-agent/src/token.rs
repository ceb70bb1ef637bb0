//! One token, as the worker uses it: found by its label, logged in once, with our keys found and proved.
//!
//! One thread uses it. Of its two sessions one only holds the login and is never used, so that losing the other does not
//! log us out.
#![forbid(unsafe_code)]

mod attach;
mod certificate;
mod initialize;
mod kek;
mod keys;
mod marker;
mod profile;
mod sign;

use std::path::PathBuf;

pub(crate) use attach::{AttachError, attach, find_slot};
use keys::SigningKey;
use marker::{Markers, Plan};
use profile::WrapProfile;
use strongroom_core::InstanceId;
use strongroom_crypto::{FullError, Kek, LockedKey, LockedMemory};
use strongroom_hsm::{
    CaCertificateRequest, CheckpointKeyStatement, HsmError, KekPlace, KekRecord, Reason,
    RootEnvelope, SignedKekRecord, TokenKeys, TokenSignature, TokenState,
};
use strongroom_runtime::Chain;

use crate::{
    pin::PinFile,
    pkcs11::{CallError, FaultClass, Module, ObjectHandle, Session, Slot},
};

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// It is refused, or the token is not ready for it.
    #[error(transparent)]
    Answer(#[from] HsmError),
    /// The module failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Our objects in the token are not as they were made.
    #[error(transparent)]
    Attach(#[from] Box<AttachError>),
}

impl From<sign::SignError> for OperationError {
    fn from(error: sign::SignError) -> Self {
        match error {
            sign::SignError::Call(error) => Self::Call(error),
            faulty @ sign::SignError::Faulty => {
                HsmError::new(Reason::TokenFailed, faulty.to_string()).into()
            }
        }
    }
}

impl From<FullError> for OperationError {
    fn from(full: FullError) -> Self {
        HsmError::new(Reason::Overloaded, full.to_string()).into()
    }
}

impl OperationError {
    /// Tells what the failure says about module and token; `None` when it is an answer.
    const fn class(&self) -> Option<FaultClass> {
        match self {
            Self::Call(error) => Some(error.class()),
            Self::Answer(_) | Self::Attach(_) => None,
        }
    }

    /// Tells whether only a new process helps.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Answer(error) => error.reason() == Reason::TokenFailed,
            Self::Call(_) => true,
            Self::Attach(_) => false,
        }
    }

    /// Gives what the caller is told.
    pub(crate) fn into_answer(self) -> HsmError {
        match self {
            Self::Answer(error) => error,
            Self::Call(error) => HsmError::new(Reason::TokenFailed, error.to_string()),
            Self::Attach(error) => error.into_answer(),
        }
    }
}

/// All keys of an instance.
struct Keys {
    plan: Plan,
    root: ObjectHandle,
    record_signing: SigningKey,
    certificate_authority: SigningKey,
    checkpoint_certifying: SigningKey,
}

impl Keys {
    fn check_instance(&self, instance: InstanceId) -> Result<(), HsmError> {
        if instance == self.plan.instance {
            Ok(())
        } else {
            Err(foreign(self.plan, instance))
        }
    }
}

fn foreign(plan: Plan, instance: InstanceId) -> HsmError {
    let sentence = format!(
        "the token belongs to instance {}, not {instance}",
        plan.instance
    );
    HsmError::new(Reason::ForeignInstance, sentence)
}

/// What the token holds of ours.
enum Holdings {
    Nothing,
    Begun(Plan),
    Complete(Box<Keys>),
}

/// A token that is logged in and wraps as it should.
pub(crate) struct Token {
    module: Module,
    slot: Slot,
    label: String,
    pin: PinFile,
    /// Holds the login, and does nothing else.
    _login: Session,
    session: Session,
    profile: WrapProfile,
    holdings: Holdings,
    memory: LockedMemory,
    /// The files of a token that does not sync them itself.
    files: Option<PathBuf>,
}

impl Token {
    /// Tells what the token holds.
    pub(crate) const fn state(&self) -> TokenState {
        match self.holdings {
            Holdings::Nothing => TokenState::Uninitialized,
            Holdings::Begun(_) => TokenState::Incomplete,
            Holdings::Complete(_) => TokenState::Ready,
        }
    }

    /// Says what is missing; empty when nothing is.
    pub(crate) fn message(&self) -> String {
        match &self.holdings {
            Holdings::Nothing => format!("the token {} is not initialised", self.label),
            Holdings::Begun(plan) => format!(
                "initialising the token {} for instance {} was begun and must be asked for again",
                self.label, plan.instance
            ),
            Holdings::Complete(_) => String::new(),
        }
    }

    /// Names the wrap profile.
    pub(crate) const fn profile(&self) -> &'static str {
        self.profile.name()
    }

    /// Gives identities and public keys.
    pub(crate) fn keys(&self) -> Option<TokenKeys> {
        let (plan, keys) = match &self.holdings {
            Holdings::Nothing => return None,
            Holdings::Begun(plan) => (plan, None),
            Holdings::Complete(keys) => (&keys.plan, Some(keys)),
        };
        let public = |key: fn(&Keys) -> &SigningKey| {
            keys.map(|keys| key(keys).public.spki().to_vec())
                .unwrap_or_default()
        };
        Some(TokenKeys {
            instance: plan.instance,
            root: plan.root_id(),
            record_signing_key: public(|keys| &keys.record_signing),
            certificate_authority_key: public(|keys| &keys.certificate_authority),
            checkpoint_certifying_key: public(|keys| &keys.checkpoint_certifying),
        })
    }

    /// Proves that the root wraps and opens.
    pub(crate) fn canary(&mut self) -> Result<(), OperationError> {
        self.retry(|token| match &token.holdings {
            Holdings::Complete(keys) => match profile::round_trip(&token.session, keys.root)? {
                None => Ok(()),
                Some(wrong) => Err(HsmError::new(Reason::TokenFailed, wrong).into()),
            },
            Holdings::Nothing | Holdings::Begun(_) => {
                token.session.random(&mut [0; 16]).map_err(Into::into)
            }
        })
    }

    /// Draws random bytes.
    pub(crate) fn random(&mut self, bytes: &mut [u8]) -> Result<(), OperationError> {
        self.retry(|token| token.session.random(bytes).map_err(Into::into))
    }

    /// Wraps a KEK.
    pub(crate) fn wrap_kek(
        &mut self,
        place: KekPlace,
        kek: &LockedKey,
    ) -> Result<RootEnvelope, OperationError> {
        self.retry(|token| kek::wrap(&token.session, token.complete()?, &token.memory, place, kek))
    }

    /// Signs a KEK record.
    pub(crate) fn sign_kek_record(
        &mut self,
        record: &KekRecord,
    ) -> Result<TokenSignature, OperationError> {
        self.retry(|token| {
            kek::sign_record(&token.session, token.complete()?, &token.memory, record)
        })
    }

    /// Opens the KEK of a record.
    pub(crate) fn unwrap_kek(&mut self, signed: &SignedKekRecord) -> Result<Kek, OperationError> {
        self.retry(|token| kek::unwrap(&token.session, token.complete()?, &token.memory, signed))
    }

    /// Certifies a checkpoint key.
    pub(crate) fn certify_checkpoint_key(
        &mut self,
        statement: &CheckpointKeyStatement,
    ) -> Result<TokenSignature, OperationError> {
        self.retry(|token| {
            let keys = token.complete()?;
            keys.check_instance(statement.instance)?;
            let key = &keys.checkpoint_certifying;
            Ok(sign::sign(&token.session, key, &statement.signed_bytes())?)
        })
    }

    /// Makes a certificate of the certificate authority.
    pub(crate) fn sign_ca_certificate(
        &mut self,
        request: &CaCertificateRequest,
    ) -> Result<Vec<u8>, OperationError> {
        self.retry(|token| certificate::issue(&token.session, token.complete()?, request))
    }

    /// Gives the keys, or says why there are none.
    fn complete(&self) -> Result<&Keys, HsmError> {
        match &self.holdings {
            Holdings::Complete(keys) => Ok(keys),
            Holdings::Nothing => Err(HsmError::new(Reason::Uninitialized, self.message())),
            Holdings::Begun(_) => Err(HsmError::new(Reason::Incomplete, self.message())),
        }
    }

    /// Does something, and once more after repairing a lost session, login or handle.
    fn retry<T>(
        &mut self,
        mut operation: impl FnMut(&Self) -> Result<T, OperationError>,
    ) -> Result<T, OperationError> {
        let error = match operation(self) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match error.class() {
            Some(FaultClass::Session) => self.reopen()?,
            Some(FaultClass::Login) => self.log_in_again()?,
            Some(FaultClass::Object) => self.find_keys()?,
            Some(FaultClass::Operation | FaultClass::Device) | None => return Err(error),
        }
        tracing::warn!(error = %Chain(&error), "token repaired, trying once more");
        operation(self)
    }
}
