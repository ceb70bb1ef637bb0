//! SIGKILL at each named point: what was begun is finished by asking again, and no hand is needed.

use strongroom_core::InstanceId;
use strongroom_hsm::{AgentClient, Hsm, HsmError, TokenState};

use crate::place::{Place, ask};

const INSTANCE: InstanceId = InstanceId::from_bytes([1; 16]);

#[test]
fn init_that_was_killed_is_finished_by_the_next() {
    for point in [
        "hsm.make-token.pins-written",
        "hsm.make-token.token-made",
        "hsm.make-token.user-pin-set",
    ] {
        let place = Place::default();
        let killed = place
            .command("init")
            .env("FAILPOINTS", format!("{point}=kill"))
            .output();
        assert!(!killed.unwrap().status.success(), "{point}");
        let output = place.init();
        assert!(
            output.status.success(),
            "{point}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        place.start().wait_for(TokenState::Uninitialized);
        assert!(!place.data("init-pending").exists());
    }
}

#[test]
fn initialising_that_was_killed_is_finished_by_asking_again() {
    for fault in [
        "hsm.init.before-intent=kill",
        "hsm.init.intent-written=kill",
        "hsm.init.key-made=kill",
        "hsm.init.key-made=1*off->kill",
        "hsm.init.key-made=2*off->kill",
        "hsm.init.key-made=3*off->kill",
        "hsm.init.before-seal=kill",
        "hsm.init.before-reply=kill",
        "hsm.worker.before-answer=1*off->kill",
    ] {
        let place = Place::with_token();
        let agent = place.start_with_faults(fault);
        agent.wait_for(TokenState::Uninitialized);
        let killed = ask(&place, async |agent: AgentClient| {
            agent.initialize(INSTANCE).await
        });
        assert!(
            matches!(killed, Err(HsmError::Unavailable { .. })),
            "{fault}: {killed:?}"
        );
        drop(agent);

        let agent = place.start();
        let planned = agent.ask_until_available(async |agent: AgentClient| {
            let token = agent.describe().await?;
            match token.state {
                TokenState::Starting => {
                    Err(HsmError::new(strongroom_hsm::Reason::WorkerRestarting, ""))
                }
                _ => Ok(token.keys),
            }
        });
        let token = ask(&place, async |agent: AgentClient| {
            agent.initialize(INSTANCE).await
        });
        let token = token.unwrap_or_else(|error| panic!("{fault}: {error}"));
        assert_eq!(token.state, TokenState::Ready, "{fault}");
        if let Some(planned) = planned.unwrap() {
            assert_eq!(planned.root, token.keys.unwrap().root, "{fault}");
        }
    }
}

#[test]
fn another_instance_does_not_finish_what_one_began() {
    let place = Place::with_token();
    let agent = place.start_with_faults("hsm.init.intent-written=kill");
    agent.wait_for(TokenState::Uninitialized);
    let _ = ask(&place, async |agent: AgentClient| {
        agent.initialize(INSTANCE).await
    });
    drop(agent);
    let agent = place.start();
    let token = agent.wait_for(TokenState::Incomplete);
    assert_eq!(token.keys.unwrap().instance, INSTANCE);
    let other = InstanceId::from_bytes([2; 16]);
    let refusal = ask(&place, async |agent: AgentClient| {
        agent.initialize(other).await
    });
    assert_eq!(
        refusal.unwrap_err().reason(),
        strongroom_hsm::Reason::ForeignInstance
    );
}

#[test]
fn a_worker_that_dies_at_every_call_does_not_take_the_agent_along() {
    let place = Place::with_token();
    let agent = place.start_with_faults("hsm.worker.call=kill");
    agent.wait_for(TokenState::Starting);
    let refusal = ask(&place, async |agent: AgentClient| agent.random(16).await).unwrap_err();
    assert!(matches!(refusal, HsmError::Unavailable { .. }), "{refusal}");
    assert!(agent.probe("/healthz").starts_with("HTTP/1.1 200"));
    assert!(agent.probe("/readyz").starts_with("HTTP/1.1 503"));
    assert!(agent.stop().success());
}
