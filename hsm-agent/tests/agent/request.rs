//! A token that is made when the key service asks: once, and only where nothing of a token is.

use std::fs;

use strongroom_core::InstanceId;
use strongroom_hsm::{AgentClient, Hsm, HsmError, Reason, TokenState};

use crate::place::{Place, ask};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

async fn make_token(agent: AgentClient) -> Result<(), HsmError> {
    agent.make_token().await
}

#[test]
fn a_token_is_awaited_and_made_once() {
    let place = Place::default().made_by_request();
    let agent = place.start();
    let token = agent.wait_for(TokenState::NotMade);
    assert_eq!(
        token.message,
        "there is no token yet; it is made when the key service is initialised"
    );
    let ready = agent.probe("/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200") && ready.ends_with("awaiting init\n"),
        "{ready}"
    );
    assert_eq!(fs::read_dir(place.data("")).unwrap().count(), 0);

    ask(&place, make_token).unwrap();
    agent.wait_for(TokenState::Uninitialized);
    let pin = fs::read(place.data("pin")).unwrap();
    ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    })
    .unwrap();
    ask(&place, make_token).unwrap();
    assert_eq!(fs::read(place.data("pin")).unwrap(), pin);
    assert!(agent.probe("/readyz").ends_with("\r\n\r\nok\n"));

    // A start after that finds it as any other.
    drop(agent);
    place.start().wait_for(TokenState::Ready);
}

#[test]
fn a_token_that_was_lost_is_not_made_again() {
    let place = Place::with_token().made_by_request();
    fs::remove_dir_all(place.data("tokens")).unwrap();
    let agent = place.start();
    let token = agent.wait_for(TokenState::TokenMissing);
    let refusal = ask(&place, make_token).unwrap_err();
    assert_eq!(refusal, HsmError::new(Reason::TokenMissing, token.message));
    assert!(!place.data("tokens").exists());
}

#[test]
fn an_agent_that_makes_none_by_request_says_so() {
    let place = Place::default();
    let agent = place.start();
    agent.wait_for(TokenState::TokenMissing);
    let refusal = ask(&place, make_token).unwrap_err();
    assert_eq!(refusal.reason(), Reason::TokenMissing);
    assert!(!place.data("tokens").exists());
}

#[test]
fn a_token_that_was_begun_is_finished() {
    let place = Place::default().made_by_request();
    // As a kill leaves it before the token is there.
    fs::create_dir(place.data("tokens")).unwrap();
    fs::write(place.data("init-pending"), "half").unwrap();
    let agent = place.start();
    agent.wait_for(TokenState::NotMade);
    ask(&place, make_token).unwrap();
    agent.wait_for(TokenState::Uninitialized);
    assert!(!place.data("init-pending").exists());
}
