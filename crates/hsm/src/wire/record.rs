//! Envelopes and KEK records.

use prost::Message;
use strongroom_api::strongroom::hsm::v1::{self as pb, root_envelope::Form};

use super::{MalformedField, array, generation, instance, present, ring};
use crate::{KekPlace, KekRecord, RootEnvelope, RootId, SignedKekRecord, TokenSignature};

impl From<&RootEnvelope> for pb::RootEnvelope {
    fn from(envelope: &RootEnvelope) -> Self {
        let form = match envelope {
            RootEnvelope::AesGcmHostIv {
                root: _,
                iv,
                sealed,
            } => Form::AesGcmHostIv(pb::AesGcmHostIv {
                iv: iv.to_vec(),
                sealed: sealed.to_vec(),
            }),
        };
        Self {
            root_id: envelope.root().as_bytes().to_vec(),
            form: Some(form),
        }
    }
}

impl TryFrom<pb::RootEnvelope> for RootEnvelope {
    type Error = MalformedField;

    fn try_from(message: pb::RootEnvelope) -> Result<Self, MalformedField> {
        let pb::RootEnvelope { root_id, form } = message;
        let root = RootId::from_bytes(array("root_id", &root_id)?);
        match present("form", form)? {
            Form::AesGcmHostIv(pb::AesGcmHostIv { iv, sealed }) => Ok(Self::AesGcmHostIv {
                root,
                iv: array("iv", &iv)?,
                sealed: array("sealed", &sealed)?,
            }),
        }
    }
}

impl From<&KekRecord> for pb::KekRecord {
    fn from(record: &KekRecord) -> Self {
        let KekPlace {
            instance,
            ring,
            generation,
        } = record.place();
        Self {
            instance_id: instance.as_bytes().to_vec(),
            ring_id: ring.as_bytes().to_vec(),
            generation: generation.get(),
            envelopes: record.envelopes().iter().map(Into::into).collect(),
            check_value: record.check_value().to_vec(),
        }
    }
}

impl TryFrom<pb::KekRecord> for KekRecord {
    type Error = MalformedField;

    fn try_from(message: pb::KekRecord) -> Result<Self, MalformedField> {
        let pb::KekRecord {
            instance_id,
            ring_id,
            generation: number,
            envelopes,
            check_value,
        } = message;
        let place = KekPlace {
            instance: instance(&instance_id)?,
            ring: ring(&ring_id)?,
            generation: generation(number)?,
        };
        let envelopes = envelopes
            .into_iter()
            .map(TryInto::try_into)
            .collect::<Result<_, _>>()?;
        Self::new(place, envelopes, array("check_value", &check_value)?)
            .map_err(|error| MalformedField::new("envelopes", error))
    }
}

impl From<&SignedKekRecord> for pb::SignedKekRecord {
    fn from(signed: &SignedKekRecord) -> Self {
        let SignedKekRecord { record, signature } = signed;
        Self {
            record: Some(record.into()),
            signature: signature.as_bytes().to_vec(),
        }
    }
}

impl TryFrom<pb::SignedKekRecord> for SignedKekRecord {
    type Error = MalformedField;

    fn try_from(message: pb::SignedKekRecord) -> Result<Self, MalformedField> {
        let pb::SignedKekRecord { record, signature } = message;
        Ok(Self {
            record: present("record", record)?.try_into()?,
            signature: TokenSignature::from_bytes(array("signature", &signature)?),
        })
    }
}

impl SignedKekRecord {
    /// Encodes the record as the store keeps it.
    pub fn to_bytes(&self) -> Vec<u8> {
        pb::SignedKekRecord::from(self).encode_to_vec()
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MalformedField> {
        pb::SignedKekRecord::decode(bytes)
            .map_err(|error| MalformedField::new("kek record", error))?
            .try_into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use strongroom_core::{Generation, InstanceId, RingId};

    use super::*;

    fn signed(ring: [u8; 16], generation: u32, roots: &[u8], sealed: [u8; 32]) -> SignedKekRecord {
        let envelopes = roots
            .iter()
            .enumerate()
            .map(|(index, byte)| RootEnvelope::AesGcmHostIv {
                root: RootId::from_bytes([index as u8; 16]),
                iv: [*byte; 12],
                sealed: std::array::from_fn(|place| sealed[place % 32]),
            });
        let place = KekPlace {
            instance: InstanceId::from_bytes([7; 16]),
            ring: RingId::from_bytes(ring),
            generation: Generation::new(generation).unwrap(),
        };
        SignedKekRecord {
            record: KekRecord::new(place, envelopes.collect(), [9; 16]).unwrap(),
            signature: TokenSignature::from_bytes([3; 64]),
        }
    }

    proptest! {
        #[test]
        fn a_record_reads_back_what_it_wrote(
            ring: [u8; 16],
            generation in 1..=u32::MAX,
            roots in vec(any::<u8>(), 1..=8),
            sealed: [u8; 32],
        ) {
            let record = signed(ring, generation, &roots, sealed);
            prop_assert_eq!(SignedKekRecord::from_bytes(&record.to_bytes()), Ok(record));
        }
    }

    fn check(change: impl FnOnce(&mut pb::SignedKekRecord), sentence: &str) {
        let mut message = pb::SignedKekRecord::from(&signed([1; 16], 1, &[5], [6; 32]));
        change(&mut message);
        let error = SignedKekRecord::try_from(message).unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }

    #[test]
    fn what_does_not_parse_is_named() {
        check(|signed| signed.record = None, "record: it is missing");
        check(
            |signed| signed.signature.truncate(63),
            "signature: 63 bytes instead of 64",
        );
        check(
            |signed| signed.record.as_mut().unwrap().generation = 0,
            "generation: KEK generations start at 1",
        );
        check(
            |signed| signed.record.as_mut().unwrap().envelopes.clear(),
            "envelopes: a KEK record has no envelope",
        );
        check(
            |signed| signed.record.as_mut().unwrap().envelopes[0].form = None,
            "form: it is missing",
        );
    }
}
