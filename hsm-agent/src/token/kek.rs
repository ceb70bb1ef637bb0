//! KEKs: wrapped under the root, opened again, recorded under a signature.
#![forbid(unsafe_code)]

use strongroom_crypto::{CheckValue, Kek, LockedKey, LockedMemory, random};
use strongroom_hsm::{
    HsmError, KekPlace, KekRecord, Reason, RootEnvelope, SignedKekRecord, TokenSignature,
    envelope_context,
};

use super::{Keys, OperationError, sign};
use crate::pkcs11::{CallError, GcmInput, Session};

/// Wraps a KEK under the root, and opens the envelope once to prove it.
pub(super) fn wrap(
    session: &Session,
    keys: &Keys,
    memory: &LockedMemory,
    place: KekPlace,
    kek: &LockedKey,
) -> Result<RootEnvelope, OperationError> {
    keys.check_instance(place.instance)?;
    let root = keys.plan.root_id();
    let context = envelope_context(place, root);
    let iv = random::public_bytes();
    let input = GcmInput {
        iv: &iv,
        context: &context,
    };
    let sealed = kek.expose(|kek| session.seal_gcm(keys.root, input, kek))?;
    let sealed = sealed
        .try_into()
        .map_err(|_| faulty("the token sealed a KEK to another length"))?;
    let envelope = RootEnvelope::AesGcmHostIv { root, iv, sealed };
    let opened = Kek::new(place, open(session, keys, memory, place, &envelope)?);
    let given = Kek::new(place, kek.expose(|kek| memory.copy(kek))?);
    if opened.check_value().matches(&given.check_value()) {
        Ok(envelope)
    } else {
        Err(faulty("the token opened another KEK than it sealed").into())
    }
}

/// Signs a record whose envelopes hold the KEK that the check value tells.
pub(super) fn sign_record(
    session: &Session,
    keys: &Keys,
    memory: &LockedMemory,
    record: &KekRecord,
) -> Result<TokenSignature, OperationError> {
    keys.check_instance(record.place().instance)?;
    for envelope in record.envelopes() {
        // One root alone is in this token: nobody else vouches for the other envelopes.
        if envelope.root() != keys.plan.root_id() {
            return Err(foreign_root(envelope));
        }
        open_checked(session, keys, memory, record, envelope)?;
    }
    Ok(sign::sign(
        session,
        &keys.record_signing,
        &record.signed_bytes(),
    )?)
}

/// Opens the KEK of a record after checking instance, signature and root.
pub(super) fn unwrap(
    session: &Session,
    keys: &Keys,
    memory: &LockedMemory,
    signed: &SignedKekRecord,
) -> Result<Kek, OperationError> {
    let SignedKekRecord { record, signature } = signed;
    keys.check_instance(record.place().instance)?;
    keys.record_signing
        .public
        .verify_fixed(&record.signed_bytes(), signature.as_bytes())
        .map_err(|_| {
            let sentence = format!(
                "the KEK record of ring {}, generation {}, is not the one that the token signed",
                record.place().ring,
                record.place().generation
            );
            HsmError::new(Reason::RecordSignatureInvalid, sentence)
        })?;
    let ours = |envelope: &&RootEnvelope| envelope.root() == keys.plan.root_id();
    match record.envelopes().iter().find(ours) {
        Some(envelope) => open_checked(session, keys, memory, record, envelope),
        None => Err(foreign_root(&record.envelopes()[0])),
    }
}

fn open_checked(
    session: &Session,
    keys: &Keys,
    memory: &LockedMemory,
    record: &KekRecord,
    envelope: &RootEnvelope,
) -> Result<Kek, OperationError> {
    let place = record.place();
    let kek = Kek::new(place, open(session, keys, memory, place, envelope)?);
    if kek
        .check_value()
        .matches(&CheckValue::from_bytes(*record.check_value()))
    {
        return Ok(kek);
    }
    let sentence = format!(
        "the envelope of ring {}, generation {}, holds another KEK than the check value says",
        place.ring, place.generation
    );
    Err(HsmError::new(Reason::CheckValueMismatch, sentence).into())
}

fn open(
    session: &Session,
    keys: &Keys,
    memory: &LockedMemory,
    place: KekPlace,
    envelope: &RootEnvelope,
) -> Result<LockedKey, OperationError> {
    let context = envelope_context(place, envelope.root());
    let RootEnvelope::AesGcmHostIv {
        root: _,
        iv,
        sealed,
    } = envelope;
    let input = GcmInput {
        iv,
        context: &context,
    };
    memory.try_key(|slot| {
        let opened = session.open_gcm(keys.root, input, sealed, slot);
        opened.map_err(|error| refusal_or_fault(session, keys, place, error))
    })
}

/// A token has one answer for a changed envelope and for a failure of its own; a round trip tells them apart.
fn refusal_or_fault(
    session: &Session,
    keys: &Keys,
    place: KekPlace,
    error: CallError,
) -> OperationError {
    if error.class() != crate::pkcs11::FaultClass::Operation {
        return error.into();
    }
    match super::profile::round_trip(session, keys.root) {
        Ok(None) => {
            let sentence = format!(
                "the envelope does not open at ring {}, generation {}: it was changed or belongs elsewhere",
                place.ring, place.generation
            );
            HsmError::new(Reason::EnvelopeInvalid, sentence).into()
        }
        Ok(Some(wrong)) => faulty(wrong).into(),
        Err(error) => error.into(),
    }
}

fn foreign_root(envelope: &RootEnvelope) -> OperationError {
    let sentence = format!(
        "the KEK is wrapped under root {}, which is not in the token",
        envelope.root()
    );
    HsmError::new(Reason::ForeignRoot, sentence).into()
}

fn faulty(sentence: &str) -> HsmError {
    HsmError::new(Reason::TokenFailed, sentence)
}
