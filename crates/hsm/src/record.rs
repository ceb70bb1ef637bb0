//! KEK records: which envelopes hold the KEK of which ring, signed in the token.
//!
//! The signed bytes are an encoding of our own, since protobuf has more than one spelling of a message.

use std::collections::BTreeSet;

use strongroom_core::KekPlace;

use crate::{RootEnvelope, RootId, TokenSignature, canonical::Canonical};

/// Gives the associated data of the envelope of one place under one root. An envelope opens at its own place only.
pub fn envelope_context(place: KekPlace, root: RootId) -> Vec<u8> {
    let KekPlace {
        instance,
        ring,
        generation,
    } = place;
    Canonical::new("strongroom/root-envelope/v1")
        .field(instance.as_bytes())
        .field(ring.as_bytes())
        .field(&generation.get().to_be_bytes())
        .field(root.as_bytes())
        .finish()
}

/// Why envelopes do not make a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KekRecordError {
    /// Nothing could be opened.
    #[error("a KEK record has no envelope")]
    NoEnvelope,
    /// One root, two envelopes: which one counts would be a guess.
    #[error("a KEK record has two envelopes of root {0}")]
    RootTwice(RootId),
    /// More roots than an installation has.
    #[error("a KEK record has more than {} envelopes", KekRecord::MAX_ENVELOPES)]
    TooMany,
}

/// A KEK in its envelopes, not signed yet. One envelope for each root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekRecord {
    place: KekPlace,
    envelopes: Vec<RootEnvelope>,
    check_value: [u8; 16],
}

impl KekRecord {
    /// The most envelopes of one KEK.
    pub const MAX_ENVELOPES: usize = 8;

    /// Joins envelopes of the same KEK with its check value.
    pub fn new(
        place: KekPlace,
        envelopes: Vec<RootEnvelope>,
        check_value: [u8; 16],
    ) -> Result<Self, KekRecordError> {
        if envelopes.is_empty() {
            return Err(KekRecordError::NoEnvelope);
        }
        if envelopes.len() > Self::MAX_ENVELOPES {
            return Err(KekRecordError::TooMany);
        }
        let mut roots = BTreeSet::new();
        match envelopes
            .iter()
            .map(RootEnvelope::root)
            .find(|root| !roots.insert(*root))
        {
            Some(root) => Err(KekRecordError::RootTwice(root)),
            None => Ok(Self {
                place,
                envelopes,
                check_value,
            }),
        }
    }

    /// Where the KEK belongs.
    pub const fn place(&self) -> KekPlace {
        self.place
    }

    /// The envelopes, one for each root.
    pub fn envelopes(&self) -> &[RootEnvelope] {
        &self.envelopes
    }

    /// HMAC over place and material under a key derived from the KEK.
    pub const fn check_value(&self) -> &[u8; 16] {
        &self.check_value
    }

    /// Gives the bytes that the token signs with ECDSA P-256 and SHA-256. Each field comes after its length (u32, big
    /// endian): domain, instance, ring, generation (u32), number of roots (u32), each root id, number of envelopes
    /// (u32), each envelope as form (one byte), root id, IV and sealed bytes, and last the check value.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let Self {
            place:
                KekPlace {
                    instance,
                    ring,
                    generation,
                },
            envelopes,
            check_value,
        } = self;
        let statement = Canonical::new("strongroom/kek-record/v1")
            .field(instance.as_bytes())
            .field(ring.as_bytes())
            .field(&generation.get().to_be_bytes())
            .count(envelopes.len());
        let statement = envelopes
            .iter()
            .fold(statement, |statement, envelope| {
                statement.field(envelope.root().as_bytes())
            })
            .count(envelopes.len());
        envelopes
            .iter()
            .fold(statement, push_envelope)
            .field(check_value)
            .finish()
    }
}

fn push_envelope(statement: Canonical, envelope: &RootEnvelope) -> Canonical {
    let statement = statement.field(&[envelope.form()]);
    match envelope {
        RootEnvelope::AesGcmHostIv { root, iv, sealed } => {
            statement.field(root.as_bytes()).field(iv).field(sealed)
        }
    }
}

/// A record with the token's signature, as the store keeps it. Only the agent checks the signature, before it opens an
/// envelope: the store's content proves nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedKekRecord {
    /// What is signed.
    pub record: KekRecord,
    /// By the record-signing key, over [`KekRecord::signed_bytes`].
    pub signature: TokenSignature,
}

#[cfg(test)]
mod tests {
    use strongroom_core::{Generation, InstanceId, RingId};

    use super::*;

    fn place() -> KekPlace {
        KekPlace {
            instance: InstanceId::from_bytes([0xa1; 16]),
            ring: RingId::from_bytes([0xb2; 16]),
            generation: Generation::new(3).unwrap(),
        }
    }

    fn envelope(root: u8) -> RootEnvelope {
        RootEnvelope::AesGcmHostIv {
            root: RootId::from_bytes([root; 16]),
            iv: [0xd4; 12],
            sealed: [0xe5; 48],
        }
    }

    #[test]
    fn signed_bytes_are_frozen() {
        let record = KekRecord::new(place(), vec![envelope(0xc3)], [0xf6; 16]).unwrap();
        let expected = [
            "00000018",
            &hex::encode("strongroom/kek-record/v1"),
            "00000010a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "00000010b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "0000000400000003",
            "0000000400000001",
            "00000010c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3",
            "0000000400000001",
            "0000000101",
            "00000010c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3",
            "0000000cd4d4d4d4d4d4d4d4d4d4d4d4",
            "00000030",
            &"e5".repeat(48),
            "00000010f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6",
        ];
        assert_eq!(hex::encode(record.signed_bytes()), expected.concat());
    }

    #[test]
    fn the_context_of_an_envelope_is_frozen() {
        let expected = [
            "0000001b",
            &hex::encode("strongroom/root-envelope/v1"),
            "00000010a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "00000010b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2",
            "0000000400000003",
            "00000010c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3c3",
        ];
        let context = envelope_context(place(), RootId::from_bytes([0xc3; 16]));
        assert_eq!(hex::encode(context), expected.concat());
    }

    #[test]
    fn a_root_has_one_envelope() {
        let record = KekRecord::new(
            place(),
            vec![envelope(1), envelope(2), envelope(1)],
            [0; 16],
        );
        assert_eq!(
            record,
            Err(KekRecordError::RootTwice(RootId::from_bytes([1; 16])))
        );
    }

    #[test]
    fn envelopes_are_some_but_not_many() {
        assert_eq!(
            KekRecord::new(place(), vec![], [0; 16]),
            Err(KekRecordError::NoEnvelope)
        );
        let nine = (1..=9).map(envelope).collect();
        assert_eq!(
            KekRecord::new(place(), nine, [0; 16]),
            Err(KekRecordError::TooMany)
        );
    }
}
