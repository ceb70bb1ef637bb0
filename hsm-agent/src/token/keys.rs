//! Our keys in the token: what each is made with, and how it must look ever after.
#![forbid(unsafe_code)]

use strongroom_crypto::P256PublicKey;

use crate::pkcs11::{
    Attribute, AttributeValue, CallError, KeyKind, ObjectClass, ObjectHandle, Session,
};

/// DER of the object identifier of P-256.
const P256_PARAMS: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ROOT_LEN: u32 = 32;

/// A key's `CKA_ID`: random, and recorded before the key is made.
pub(crate) type ObjectId = [u8; 16];

/// What a signing key of ours is for. Each signs one kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// KEK records.
    RecordSigning,
    /// Certificates of the certificate authority.
    CertificateAuthority,
    /// Checkpoint keys of audit logs.
    CheckpointCertifying,
}

impl Purpose {
    /// Names the purpose as the object's label does.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::RecordSigning => "strongroom-record-signing",
            Self::CertificateAuthority => "strongroom-certificate-authority",
            Self::CheckpointCertifying => "strongroom-checkpoint-certifying",
        }
    }
}

/// The root's label.
pub(crate) const ROOT_LABEL: &str = "strongroom-root";

/// The labels of all keys of ours.
pub(crate) const LABELS: [&str; 4] = [
    ROOT_LABEL,
    Purpose::RecordSigning.label(),
    Purpose::CertificateAuthority.label(),
    Purpose::CheckpointCertifying.label(),
];

/// Why a key of ours is not as it was made. Somebody changed the token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// There is not exactly one.
    #[error(
        "the token has {count} objects for the {part} of {label}, id {}, instead of one",
        hex::encode(id)
    )]
    Count {
        /// Which key.
        label: &'static str,
        /// Which half.
        part: &'static str,
        /// Its id.
        id: ObjectId,
        /// How many there are.
        count: usize,
    },
    /// An attribute is not what we set.
    #[error("the {part} of {label} in the token has another {attribute:?} than it was made with")]
    Attribute {
        /// Which key.
        label: &'static str,
        /// Which half.
        part: &'static str,
        /// Which attribute.
        attribute: Attribute,
    },
    /// The public half is no P-256 point.
    #[error("the public half of {label} in the token is no point on P-256")]
    Point {
        /// Which key.
        label: &'static str,
    },
    /// The two halves do not belong together.
    #[error("the private half of {label} in the token does not sign for its public half")]
    Pair {
        /// Which key.
        label: &'static str,
    },
    /// The token failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A signing key, found and proved.
#[derive(Debug, Clone)]
pub(crate) struct SigningKey {
    pub(crate) private: ObjectHandle,
    pub(crate) public: P256PublicKey,
}

/// The half or object of a key that is looked for.
#[derive(Debug, Clone, Copy)]
struct Part {
    label: &'static str,
    part: &'static str,
    class: ObjectClass,
    id: ObjectId,
}

impl Part {
    const fn root(id: ObjectId) -> Self {
        Self {
            label: ROOT_LABEL,
            part: "key",
            class: ObjectClass::SecretKey,
            id,
        }
    }

    const fn private(purpose: Purpose, id: ObjectId) -> Self {
        let class = ObjectClass::PrivateKey;
        Self {
            label: purpose.label(),
            part: "private half",
            class,
            id,
        }
    }

    const fn public(purpose: Purpose, id: ObjectId) -> Self {
        Self {
            label: purpose.label(),
            part: "public half",
            class: ObjectClass::PublicKey,
            id,
        }
    }

    fn find(&self, session: &Session) -> Result<Vec<ObjectHandle>, CallError> {
        session.find(&[
            AttributeValue::class(self.class),
            AttributeValue::flag(Attribute::Token, true),
            AttributeValue::bytes(Attribute::Id, &self.id),
        ])
    }

    fn find_one(&self, session: &Session) -> Result<ObjectHandle, KeyError> {
        let found = self.find(session)?;
        match found.as_slice() {
            [one] => Ok(*one),
            several => {
                let Self {
                    label,
                    part,
                    class: _,
                    id,
                } = *self;
                Err(KeyError::Count {
                    label,
                    part,
                    id,
                    count: several.len(),
                })
            }
        }
    }

    fn check(
        &self,
        session: &Session,
        object: ObjectHandle,
        expected: &[AttributeValue],
    ) -> Result<(), KeyError> {
        for value in expected {
            let attribute = value.attribute();
            if session.attribute(object, attribute)?.as_deref() != Some(value.value()) {
                let Self { label, part, .. } = *self;
                return Err(KeyError::Attribute {
                    label,
                    part,
                    attribute,
                });
            }
        }
        Ok(())
    }
}

/// What the root is made with.
fn root_template(id: &ObjectId) -> Vec<AttributeValue> {
    let mut template = vec![
        AttributeValue::class(ObjectClass::SecretKey),
        AttributeValue::key_kind(KeyKind::Aes),
        AttributeValue::number(Attribute::ValueLen, ROOT_LEN),
        AttributeValue::flag(Attribute::Encrypt, true),
        AttributeValue::flag(Attribute::Decrypt, true),
        AttributeValue::flag(Attribute::Wrap, false),
        AttributeValue::flag(Attribute::Unwrap, false),
        AttributeValue::flag(Attribute::Derive, false),
    ];
    template.extend(secret_attributes(id, ROOT_LABEL));
    template
}

fn private_template(purpose: Purpose, id: &ObjectId) -> Vec<AttributeValue> {
    let mut template = vec![
        AttributeValue::class(ObjectClass::PrivateKey),
        AttributeValue::key_kind(KeyKind::Ec),
        AttributeValue::flag(Attribute::Sign, true),
        AttributeValue::flag(Attribute::Decrypt, false),
        AttributeValue::flag(Attribute::Unwrap, false),
        AttributeValue::flag(Attribute::Derive, false),
    ];
    template.extend(secret_attributes(id, purpose.label()));
    template
}

fn public_template(purpose: Purpose, id: &ObjectId) -> Vec<AttributeValue> {
    vec![
        AttributeValue::class(ObjectClass::PublicKey),
        AttributeValue::key_kind(KeyKind::Ec),
        AttributeValue::bytes(Attribute::EcParams, &P256_PARAMS),
        AttributeValue::flag(Attribute::Token, true),
        AttributeValue::flag(Attribute::Modifiable, false),
        AttributeValue::flag(Attribute::Verify, true),
        AttributeValue::flag(Attribute::Encrypt, false),
        AttributeValue::flag(Attribute::Wrap, false),
        AttributeValue::bytes(Attribute::Id, id),
        AttributeValue::bytes(Attribute::Label, purpose.label().as_bytes()),
    ]
}

/// Stays in the token for ever, and cannot be changed into something that does not.
fn secret_attributes(id: &ObjectId, label: &str) -> [AttributeValue; 7] {
    [
        AttributeValue::flag(Attribute::Token, true),
        AttributeValue::flag(Attribute::Private, true),
        AttributeValue::flag(Attribute::Modifiable, false),
        AttributeValue::flag(Attribute::Sensitive, true),
        AttributeValue::flag(Attribute::Extractable, false),
        AttributeValue::bytes(Attribute::Id, id),
        AttributeValue::bytes(Attribute::Label, label.as_bytes()),
    ]
}

/// What the token itself says about a secret that was made in it as above.
fn history() -> [AttributeValue; 3] {
    [
        AttributeValue::flag(Attribute::AlwaysSensitive, true),
        AttributeValue::flag(Attribute::NeverExtractable, true),
        AttributeValue::flag(Attribute::Local, true),
    ]
}

/// Makes the root unless it is there.
pub(crate) fn ensure_root(session: &Session, id: &ObjectId) -> Result<(), CallError> {
    if Part::root(*id).find(session)?.is_empty() {
        session.generate_aes(&root_template(id))?;
    }
    Ok(())
}

/// Makes a pair unless both halves are there. A half that a crash left alone was never used, and goes.
pub(crate) fn ensure_pair(
    session: &Session,
    purpose: Purpose,
    id: &ObjectId,
) -> Result<(), CallError> {
    let private = Part::private(purpose, *id).find(session)?;
    let public = Part::public(purpose, *id).find(session)?;
    if !private.is_empty() && !public.is_empty() {
        return Ok(());
    }
    for half in private.into_iter().chain(public) {
        session.destroy(half)?;
    }
    session.generate_ec_pair(
        &public_template(purpose, id),
        &private_template(purpose, id),
    )
}

/// Finds the root and checks its attributes.
pub(crate) fn find_root(session: &Session, id: &ObjectId) -> Result<ObjectHandle, KeyError> {
    let part = Part::root(*id);
    let object = part.find_one(session)?;
    part.check(session, object, &root_template(id))?;
    part.check(session, object, &history())?;
    Ok(object)
}

/// Finds a pair, checks the attributes of both halves, and proves with a signature that they belong together.
pub(crate) fn find_pair(
    session: &Session,
    purpose: Purpose,
    id: &ObjectId,
) -> Result<SigningKey, KeyError> {
    let label = purpose.label();
    let (private_part, public_part) = (Part::private(purpose, *id), Part::public(purpose, *id));
    let private = private_part.find_one(session)?;
    private_part.check(session, private, &private_template(purpose, id))?;
    private_part.check(session, private, &history())?;
    let public_object = public_part.find_one(session)?;
    public_part.check(session, public_object, &public_template(purpose, id))?;
    let point = session
        .attribute(public_object, Attribute::EcPoint)?
        .unwrap_or_default();
    let public = public_key(&point).ok_or(KeyError::Point { label })?;
    let key = SigningKey { private, public };
    super::sign::prove(session, &key)?
        .then_some(key)
        .ok_or(KeyError::Pair { label })
}

/// Tells whether the token has any key with a label of ours.
pub(crate) fn any_of_ours(session: &Session) -> Result<bool, CallError> {
    for label in LABELS {
        let label = AttributeValue::bytes(Attribute::Label, label.as_bytes());
        if !session
            .find(&[AttributeValue::flag(Attribute::Token, true), label])?
            .is_empty()
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads a point: an octet string in DER as the standard says, or bare as some modules give it.
fn public_key(point: &[u8]) -> Option<P256PublicKey> {
    let bare = point
        .strip_prefix(&[0x04, 0x41])
        .filter(|rest| rest.len() == 65)
        .unwrap_or(point);
    P256PublicKey::from_point(bare.try_into().ok()?).ok()
}
