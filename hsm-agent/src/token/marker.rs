//! Two data objects that say which instance the token belongs to: the plan, written before any key is made, and the seal,
//! written when all are there. Keys are made between the two and never after.
#![forbid(unsafe_code)]

use strongroom_core::InstanceId;
use strongroom_hsm::RootId;

use super::keys::{ObjectId, Purpose};
use crate::pkcs11::{Attribute, AttributeValue, CallError, ObjectClass, Session};

const APPLICATION: &[u8] = b"strongroom";
const PLAN_LABEL: &str = "strongroom-instance";
const SEAL_LABEL: &str = "strongroom-complete";
const PLAN_FORMAT: u8 = 1;
const PLAN_LEN: usize = 1 + 5 * 16;

/// Why markers make no sense. Somebody changed the token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkerError {
    /// Two of a kind.
    #[error("the token has {count} data objects {label} instead of one")]
    Count {
        /// Which marker.
        label: &'static str,
        /// How many.
        count: usize,
    },
    /// The content is not ours.
    #[error("the data object {label} in the token does not hold what it was made with")]
    Content {
        /// Which marker.
        label: &'static str,
    },
    /// A seal without a plan, or of another instance.
    #[error("the data objects {PLAN_LABEL} and {SEAL_LABEL} in the token do not belong together")]
    Apart,
    /// The token failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// What is to be made for an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) instance: InstanceId,
    pub(crate) root: ObjectId,
    record_signing: ObjectId,
    certificate_authority: ObjectId,
    checkpoint_certifying: ObjectId,
}

/// What the markers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    /// Nothing was begun.
    None,
    /// A plan, and keys that may be there or not.
    Begun(Plan),
    /// All keys of the plan were there.
    Sealed(Plan),
}

impl Plan {
    /// Draws the ids of an instance's keys.
    pub(crate) fn draw(instance: InstanceId) -> Self {
        let id = strongroom_crypto::random::public_bytes::<16>;
        Self {
            instance,
            root: id(),
            record_signing: id(),
            certificate_authority: id(),
            checkpoint_certifying: id(),
        }
    }

    /// Gives the id of a signing key.
    pub(crate) const fn signing_key(&self, purpose: Purpose) -> &ObjectId {
        match purpose {
            Purpose::RecordSigning => &self.record_signing,
            Purpose::CertificateAuthority => &self.certificate_authority,
            Purpose::CheckpointCertifying => &self.checkpoint_certifying,
        }
    }

    /// Gives the root's id as records hold it.
    pub(crate) const fn root_id(&self) -> RootId {
        RootId::from_bytes(self.root)
    }

    fn to_bytes(self) -> Vec<u8> {
        let Self {
            instance,
            root,
            record_signing,
            certificate_authority,
            checkpoint_certifying,
        } = self;
        let ids = [
            root,
            record_signing,
            certificate_authority,
            checkpoint_certifying,
        ];
        [
            &[PLAN_FORMAT],
            instance.as_bytes().as_slice(),
            ids.as_flattened(),
        ]
        .concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (format, ids) = bytes.split_first()?;
        let (ids, rest) = ids.as_chunks::<16>();
        let (PLAN_FORMAT, [instance, root, record, authority, checkpoint], []) =
            (*format, ids, rest)
        else {
            return None;
        };
        Some(Self {
            instance: InstanceId::from_bytes(*instance),
            root: *root,
            record_signing: *record,
            certificate_authority: *authority,
            checkpoint_certifying: *checkpoint,
        })
    }

    /// Writes the plan into the token.
    pub(crate) fn write(&self, session: &Session) -> Result<(), CallError> {
        create(session, PLAN_LABEL, &self.to_bytes())
    }

    /// Writes into the token that all keys of the plan are there.
    pub(crate) fn seal(&self, session: &Session) -> Result<(), CallError> {
        create(session, SEAL_LABEL, self.instance.as_bytes())
    }
}

/// Reads both markers.
pub(crate) fn read(session: &Session) -> Result<Markers, MarkerError> {
    let plan = match find(session, PLAN_LABEL, PLAN_LEN)? {
        None => None,
        Some(bytes) => {
            let content = MarkerError::Content { label: PLAN_LABEL };
            Some(Plan::from_bytes(&bytes).ok_or(content)?)
        }
    };
    match (plan, find(session, SEAL_LABEL, InstanceId::LEN)?) {
        (None, None) => Ok(Markers::None),
        (Some(plan), None) => Ok(Markers::Begun(plan)),
        (Some(plan), Some(seal)) if seal == plan.instance.as_bytes() => Ok(Markers::Sealed(plan)),
        (_, Some(_)) => Err(MarkerError::Apart),
    }
}

fn create(session: &Session, label: &str, value: &[u8]) -> Result<(), CallError> {
    let template = [
        AttributeValue::class(ObjectClass::Data),
        AttributeValue::flag(Attribute::Token, true),
        AttributeValue::flag(Attribute::Private, true),
        AttributeValue::flag(Attribute::Modifiable, false),
        AttributeValue::bytes(Attribute::Application, APPLICATION),
        AttributeValue::bytes(Attribute::Label, label.as_bytes()),
        AttributeValue::bytes(Attribute::Value, value),
    ];
    session.create(&template).map(drop)
}

fn find(
    session: &Session,
    label: &'static str,
    len: usize,
) -> Result<Option<Vec<u8>>, MarkerError> {
    let found = session.find(&[
        AttributeValue::class(ObjectClass::Data),
        AttributeValue::bytes(Attribute::Label, label.as_bytes()),
    ])?;
    match found.as_slice() {
        [] => Ok(None),
        [one] => match session.attribute(*one, Attribute::Value)? {
            Some(value) if value.len() == len => Ok(Some(value)),
            _ => Err(MarkerError::Content { label }),
        },
        several => Err(MarkerError::Count {
            label,
            count: several.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_back_what_it_wrote() {
        let plan = Plan::draw(InstanceId::from_bytes([7; 16]));
        let bytes = plan.to_bytes();
        assert_eq!(bytes.len(), PLAN_LEN);
        assert_eq!(Plan::from_bytes(&bytes), Some(plan));
    }

    #[test]
    fn another_format_or_length_is_no_plan() {
        let bytes = Plan::draw(InstanceId::from_bytes([7; 16])).to_bytes();
        assert_eq!(Plan::from_bytes(&bytes[..PLAN_LEN - 1]), None);
        assert_eq!(Plan::from_bytes(&[&bytes[..], &[0]].concat()), None);
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(Plan::from_bytes(&later), None);
    }
}
