//! Initialising a token, and tokens that are not as they should be.

use std::{fs, path::PathBuf};

use strongroom_core::InstanceId;
use strongroom_hsm::{AgentClient, Hsm, HsmError, Reason, TokenState};

use crate::place::{Place, ask};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

#[test]
fn initialising_twice_changes_nothing() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    let (first, second, described) = ask(&place, async |agent: AgentClient| {
        let first = agent.initialize(INSTANCE).await.unwrap();
        let second = agent.initialize(INSTANCE).await.unwrap();
        (first, second, agent.describe().await.unwrap())
    });
    assert_eq!(first.state, TokenState::Ready);
    assert_eq!(first, second);
    assert_eq!(first, described);
    assert_eq!(first.wrap_profile, "aes-gcm-host-iv");
    assert!(!first.hardware);
    drop(agent);
    let again = place.start().wait_for(TokenState::Ready);
    assert_eq!(first, again);
}

#[test]
fn a_token_belongs_to_one_instance() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    let refusal = ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await.unwrap();
        agent
            .initialize(InstanceId::from_bytes([2; 16]))
            .await
            .unwrap_err()
    });
    let sentence = "the token belongs to instance 01010101010101010101010101010101, not \
                    02020202020202020202020202020202";
    assert_eq!(refusal, HsmError::new(Reason::ForeignInstance, sentence));
}

#[test]
fn nothing_is_signed_before_the_token_is_initialised() {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    let refusal = ask(&place, async |agent: AgentClient| {
        let kek = strongroom_core::SecretBytes::copy_from(&[7; 32]);
        let at = strongroom_hsm::KekPlace {
            instance: INSTANCE,
            ring: strongroom_core::RingId::from_bytes([2; 16]),
            generation: strongroom_core::Generation::FIRST,
        };
        agent.wrap_kek(at, &kek).await.unwrap_err()
    });
    let sentence = "the token strongroom is not initialised";
    assert_eq!(refusal, HsmError::new(Reason::Uninitialized, sentence));
}

#[test]
fn a_missing_token_is_named_and_found_when_it_comes() {
    let place = Place::default();
    fs::create_dir(place.data("tokens")).unwrap();
    let agent = place.start();
    let token = agent.wait_for(TokenState::TokenMissing);
    assert_eq!(token.message, "no token has the label strongroom");
    assert!(
        agent
            .probe("/readyz")
            .contains("token: no token has the label strongroom")
    );
    assert!(place.init().status.success());
    agent.wait_for(TokenState::Uninitialized);
}

#[test]
fn a_folder_below_a_mount_is_named_and_nothing_is_written_into_it() {
    let place = Place::default();
    let agent = place.start();
    let token = agent.wait_for(TokenState::TokenMissing);
    let sentence = format!(
        "the folder of tokens {} is not there: mount its volume",
        place.data("tokens").display()
    );
    assert!(token.message.starts_with(&sentence), "{}", token.message);
    let said = agent.probe("/readyz");
    assert!(said.contains(&format!("token: {sentence}")), "{said}");
    let error = ask(&place, async |agent: AgentClient| agent.random(8).await);
    assert_eq!(error.unwrap_err().reason(), Reason::TokenMissing);
    assert_eq!(fs::read_dir(place.data("")).unwrap().count(), 0);

    assert!(place.init().status.success());
    agent.wait_for(TokenState::Uninitialized);
}

#[test]
fn a_token_with_another_label_is_not_ours() {
    let place = Place::with_token().label("other");
    let token = place.start().wait_for(TokenState::TokenMissing);
    assert_eq!(token.message, "no token has the label other");
}

#[test]
fn a_lost_pin_is_named() {
    let place = Place::with_token();
    fs::remove_file(place.data("pin")).unwrap();
    let token = place.start().wait_for(TokenState::PinMissing);
    let sentence = format!(
        "the PIN file {} cannot be read: ",
        place.data("pin").display()
    );
    assert!(token.message.starts_with(&sentence), "{}", token.message);
}

/// SoftHSM's files of objects of a class. An attribute is type, kind and value, each a u64 in big endian; the class is
/// attribute 0 of kind 2 and never encrypted.
fn objects_of_class(place: &Place, class: u64) -> Vec<PathBuf> {
    let class = [0u64, 2, class].map(u64::to_be_bytes).concat();
    let token = fs::read_dir(place.data("tokens"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::read_dir(token)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "object")
        })
        .filter(|path| {
            fs::read(path)
                .unwrap()
                .windows(class.len())
                .any(|part| part == class)
        })
        .collect()
}

const DATA: u64 = 0;
const PUBLIC_KEY: u64 = 2;
const PRIVATE_KEY: u64 = 3;
const SECRET_KEY: u64 = 4;

/// Changes an initialised token behind the agent's back and gives what the agent says of it.
fn sentence_after(change: impl FnOnce(&Place)) -> String {
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    })
    .unwrap();
    drop(agent);
    change(&place);
    let agent = place.start();
    let token = agent.wait_for(TokenState::Damaged);
    let refusal = ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    });
    assert_eq!(refusal.unwrap_err().reason(), Reason::TokenDamaged);
    token.message
}

fn lose(class: u64) -> impl FnOnce(&Place) {
    move |place| {
        objects_of_class(place, class)
            .iter()
            .for_each(|path| fs::remove_file(path).unwrap());
    }
}

#[test]
fn a_lost_root_is_named_and_never_made_again() {
    let sentence = sentence_after(lose(SECRET_KEY));
    assert!(sentence.starts_with("the token has 0 objects for the key of strongroom-root, id "));
}

#[test]
fn a_lost_half_is_named() {
    let sentence = sentence_after(lose(PRIVATE_KEY));
    let expected = "the token has 0 objects for the private half of strongroom-record-signing, id ";
    assert!(sentence.starts_with(expected), "{sentence}");
    let sentence = sentence_after(lose(PUBLIC_KEY));
    let expected = "the token has 0 objects for the public half of strongroom-record-signing, id ";
    assert!(sentence.starts_with(expected), "{sentence}");
}

#[test]
fn keys_without_a_record_of_their_instance_are_refused() {
    let sentence = sentence_after(lose(DATA));
    assert_eq!(
        sentence,
        "the token has keys labelled as ours, but no record of an instance"
    );
}

#[test]
fn a_second_object_with_the_id_of_a_key_is_refused() {
    let sentence = sentence_after(|place| {
        let root = objects_of_class(place, SECRET_KEY).remove(0);
        fs::copy(
            &root,
            root.with_file_name("00000000-0000-0000-0000-000000000000.object"),
        )
        .unwrap();
    });
    assert!(sentence.starts_with("the token has 2 objects for the key of strongroom-root, id "));
}
