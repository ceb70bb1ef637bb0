//! KEKs go in and come out; whatever was changed on the way is refused by name.

use strongroom_core::{Generation, InstanceId, RingId, SecretBytes};
use strongroom_hsm::{
    AgentClient, Hsm, HsmError, KekPlace, KekRecord, Reason, RootEnvelope, RootId, SignedKekRecord,
    TokenSignature, TokenState,
};

use crate::place::{Agent, Place, ask};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

fn at(ring: u8) -> KekPlace {
    KekPlace {
        instance: INSTANCE,
        ring: RingId::from_bytes([ring; 16]),
        generation: Generation::FIRST,
    }
}

/// The check value, from the crate that the key service computes it with.
fn check_value(place: KekPlace, kek: [u8; 32]) -> [u8; 16] {
    use strongroom_crypto::{Kek, LockedMemory, LockedMemorySize};
    let size = LockedMemorySize {
        wanted: 64 * 1024,
        least: 4096,
    };
    let memory = LockedMemory::reserve(size).unwrap();
    *Kek::new(place, memory.copy(&kek).unwrap())
        .check_value()
        .as_bytes()
}

async fn wrapped(agent: &AgentClient, place: KekPlace, kek: [u8; 32]) -> RootEnvelope {
    agent
        .wrap_kek(place, &SecretBytes::copy_from(&kek))
        .await
        .unwrap()
}

async fn signed(agent: &AgentClient, place: KekPlace, kek: [u8; 32]) -> SignedKekRecord {
    let envelope = wrapped(agent, place, kek).await;
    let record = KekRecord::new(place, vec![envelope], check_value(place, kek)).unwrap();
    agent.sign_kek_record(record).await.unwrap()
}

fn initialized(place: &Place) -> Agent<'_> {
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    ask(place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    })
    .unwrap();
    agent
}

fn reason<T>(outcome: Result<T, HsmError>) -> Reason {
    outcome.map(drop).unwrap_err().reason()
}

fn with_record(
    signed: &SignedKekRecord,
    place: KekPlace,
    envelopes: Vec<RootEnvelope>,
) -> SignedKekRecord {
    let record = KekRecord::new(place, envelopes, *signed.record.check_value()).unwrap();
    SignedKekRecord {
        record,
        signature: signed.signature,
    }
}

#[test]
fn a_kek_comes_back_as_it_went_in() {
    let place = Place::with_token();
    let _agent = initialized(&place);
    ask(&place, async |agent: AgentClient| {
        let record = signed(&agent, at(2), [7; 32]).await;
        let kek = agent.unwrap_kek(&record).await.unwrap();
        assert_eq!(kek.expose(), [7; 32]);
        let stored = SignedKekRecord::from_bytes(&record.to_bytes()).unwrap();
        assert_eq!(agent.unwrap_kek(&stored).await.unwrap().expose(), [7; 32]);
    });
}

#[test]
fn a_record_that_was_changed_is_refused_by_name() {
    let place = Place::with_token();
    let _agent = initialized(&place);
    ask(&place, async |agent: AgentClient| {
        let record = signed(&agent, at(2), [7; 32]).await;
        let envelope = record.record.envelopes()[0].clone();
        let refused = async |record: SignedKekRecord| reason(agent.unwrap_kek(&record).await);

        let attackers = wrapped(&agent, at(2), [9; 32]).await;
        let replaced = with_record(&record, at(2), vec![attackers.clone()]);
        assert_eq!(refused(replaced).await, Reason::RecordSignatureInvalid);

        let RootEnvelope::AesGcmHostIv { iv, sealed, .. } = attackers;
        let foreign = RootEnvelope::AesGcmHostIv {
            root: RootId::from_bytes([8; 16]),
            iv,
            sealed,
        };
        let added = with_record(&record, at(2), vec![envelope.clone(), foreign]);
        assert_eq!(refused(added).await, Reason::RecordSignatureInvalid);

        let elsewhere = with_record(&record, at(3), vec![envelope.clone()]);
        assert_eq!(refused(elsewhere).await, Reason::RecordSignatureInvalid);

        let other = signed(&agent, at(3), [5; 32]).await;
        let swapped = with_record(&record, at(2), other.record.envelopes().to_vec());
        assert_eq!(refused(swapped).await, Reason::RecordSignatureInvalid);

        let instance = InstanceId::from_bytes([6; 16]);
        let foreign = with_record(&record, KekPlace { instance, ..at(2) }, vec![envelope]);
        assert_eq!(refused(foreign).await, Reason::ForeignInstance);

        let mut signature = *record.signature.as_bytes();
        signature[0] ^= 1;
        let signature = TokenSignature::from_bytes(signature);
        let forged = SignedKekRecord {
            signature,
            ..record
        };
        assert_eq!(refused(forged).await, Reason::RecordSignatureInvalid);
    });
}

#[test]
fn only_a_true_record_is_signed() {
    let place = Place::with_token();
    let _agent = initialized(&place);
    ask(&place, async |agent: AgentClient| {
        let envelope = wrapped(&agent, at(2), [7; 32]).await;
        let refused = async |place, envelope: &RootEnvelope, check| {
            let record = KekRecord::new(place, vec![envelope.clone()], check).unwrap();
            reason(agent.sign_kek_record(record).await)
        };
        let right = check_value(at(2), [7; 32]);
        assert_eq!(
            refused(at(2), &envelope, [0; 16]).await,
            Reason::CheckValueMismatch
        );
        assert_eq!(
            refused(at(3), &envelope, right).await,
            Reason::EnvelopeInvalid
        );

        let RootEnvelope::AesGcmHostIv {
            root,
            iv,
            mut sealed,
        } = envelope;
        let foreign = RootEnvelope::AesGcmHostIv {
            root: RootId::from_bytes([8; 16]),
            iv,
            sealed,
        };
        assert_eq!(refused(at(2), &foreign, right).await, Reason::ForeignRoot);
        sealed[47] ^= 1;
        let changed = RootEnvelope::AesGcmHostIv { root, iv, sealed };
        assert_eq!(
            refused(at(2), &changed, right).await,
            Reason::EnvelopeInvalid
        );
    });
}

#[test]
fn a_kek_of_another_instance_is_not_wrapped() {
    let place = Place::with_token();
    let _agent = initialized(&place);
    ask(&place, async |agent: AgentClient| {
        let foreign = KekPlace {
            instance: InstanceId::from_bytes([6; 16]),
            ..at(2)
        };
        let kek = SecretBytes::copy_from(&[7; 32]);
        assert_eq!(
            reason(agent.wrap_kek(foreign, &kek).await),
            Reason::ForeignInstance
        );
        let short = SecretBytes::copy_from(&[7; 16]);
        assert_eq!(
            reason(agent.wrap_kek(at(2), &short).await),
            Reason::InvalidRequest
        );
    });
}

#[test]
fn random_bytes_have_the_length_that_was_asked_for() {
    let place = Place::with_token();
    let _agent = initialized(&place);
    ask(&place, async |agent: AgentClient| {
        let draw = async |len| {
            agent
                .random(len)
                .await
                .map(|random| random.expose().to_vec())
        };
        assert_eq!(draw(1024).await.unwrap().len(), 1024);
        assert_ne!(draw(32).await.unwrap(), draw(32).await.unwrap());
        assert_eq!(reason(draw(0).await), Reason::InvalidRequest);
        assert_eq!(reason(draw(1025).await), Reason::InvalidRequest);
    });
}

#[test]
fn no_log_or_metric_holds_a_key_or_the_pin() {
    let place = Place::with_token();
    let agent = initialized(&place);
    let kek: [u8; 32] = strongroom_crypto::random::public_bytes();
    ask(&place, async |agent: AgentClient| {
        let record = signed(&agent, at(2), kek).await;
        agent.unwrap_kek(&record).await.unwrap();
        agent.sign_kek_record(record.record).await.unwrap();
    });
    let pin = std::fs::read_to_string(place.data("pin")).unwrap();
    let shown = format!("{}{}", place.log(), agent.probe("/metrics"));
    assert!(shown.contains("token initialised"));
    for secret in [pin, hex::encode(kek), format!("{kek:?}")] {
        assert!(!shown.contains(&secret));
    }
}
