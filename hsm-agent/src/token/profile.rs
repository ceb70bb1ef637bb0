//! How a root wraps KEKs. What a module lists as supported is not what it does, so a profile counts only after a live test.
#![forbid(unsafe_code)]

use strongroom_crypto::random;
use zeroize::Zeroizing;

use crate::pkcs11::{
    Attribute, AttributeValue, CallError, GcmInput, KeyKind, ObjectClass, ObjectHandle, Session,
};

/// Not the context of any envelope: those begin with the length of their domain.
const CONTEXT: &[u8] = b"strongroom/self-test/v1";

/// A way to wrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WrapProfile {
    /// AES-256-GCM with an IV made by the host.
    AesGcmHostIv,
}

/// Why a profile does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// The token does not do it.
    #[error("the wrap profile {} failed its self-test", profile.name())]
    Call {
        /// The profile.
        profile: WrapProfile,
        /// What failed.
        #[source]
        source: CallError,
    },
    /// The token does it wrongly.
    #[error("the wrap profile {} failed its self-test: {what}", profile.name())]
    Wrong {
        /// The profile.
        profile: WrapProfile,
        /// What went wrong.
        what: &'static str,
    },
}

impl WrapProfile {
    /// Names the profile in descriptions and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::AesGcmHostIv => "aes-gcm-host-iv",
        }
    }

    /// Takes the best profile that works.
    pub(crate) fn choose(session: &Session) -> Result<Self, ProfileError> {
        Self::AesGcmHostIv.test(session)
    }

    /// Makes a key for the session, wraps and opens with it, and destroys it.
    fn test(self, session: &Session) -> Result<Self, ProfileError> {
        let failed = |source| ProfileError::Call {
            profile: self,
            source,
        };
        let key = session.generate_aes(&session_key()).map_err(failed)?;
        let outcome = match round_trip(session, key) {
            Ok(None) => open_what_must_not(session, key),
            wrong => wrong,
        };
        session.destroy(key).map_err(failed)?;
        match outcome.map_err(failed)? {
            None => Ok(self),
            Some(what) => Err(ProfileError::Wrong {
                profile: self,
                what,
            }),
        }
    }
}

/// Seals and opens 32 random bytes under a key; tells what went wrong.
pub(crate) fn round_trip(
    session: &Session,
    key: ObjectHandle,
) -> Result<Option<&'static str>, CallError> {
    let (plaintext, iv) = (random::public_bytes::<32>(), random::public_bytes());
    let input = GcmInput {
        iv: &iv,
        context: CONTEXT,
    };
    let sealed = session.seal_gcm(key, input, &plaintext)?;
    if sealed.len() != plaintext.len() + 16 {
        return Ok(Some(
            "the sealed text is not 16 bytes longer than the plaintext",
        ));
    }
    let mut opened = Zeroizing::new([0; 32]);
    session.open_gcm(key, input, &sealed, &mut opened)?;
    Ok((*opened != plaintext).then_some("what was opened is not what was sealed"))
}

/// Tries what must not open; tells what did.
fn open_what_must_not(
    session: &Session,
    key: ObjectHandle,
) -> Result<Option<&'static str>, CallError> {
    let iv = random::public_bytes();
    let input = GcmInput {
        iv: &iv,
        context: CONTEXT,
    };
    let mut sealed = session.seal_gcm(key, input, &[0; 32])?;
    let mut opened = Zeroizing::new([0; 32]);
    let elsewhere = GcmInput {
        iv: &iv,
        context: b"elsewhere",
    };
    if session
        .open_gcm(key, elsewhere, &sealed, &mut opened)
        .is_ok()
    {
        return Ok(Some("it opened with another context"));
    }
    sealed[0] ^= 1;
    let changed = session.open_gcm(key, input, &sealed, &mut opened);
    Ok(changed
        .is_ok()
        .then_some("it opened after a bit was changed"))
}

fn session_key() -> [AttributeValue; 9] {
    [
        AttributeValue::class(ObjectClass::SecretKey),
        AttributeValue::key_kind(KeyKind::Aes),
        AttributeValue::number(Attribute::ValueLen, 32),
        AttributeValue::flag(Attribute::Token, false),
        AttributeValue::flag(Attribute::Private, true),
        AttributeValue::flag(Attribute::Sensitive, true),
        AttributeValue::flag(Attribute::Extractable, false),
        AttributeValue::flag(Attribute::Encrypt, true),
        AttributeValue::flag(Attribute::Decrypt, true),
    ]
}
