//! Who may ask what. A uid off the list gets no byte, a call off its list is refused, and a client trusts nobody who sits
//! on the agent's path.

use std::{
    fs,
    os::unix::{fs::chown, net::UnixListener},
    process::Command,
};

use strongroom_core::InstanceId;
use strongroom_hsm::{AgentClient, Hsm, Reason, TokenState};

use crate::place::{PROGRAM, Place, as_uid, ask, ask_as, is_root, us};

const STRANGER: u32 = 2009;

#[test]
fn a_peer_off_the_list_is_refused() {
    // Another uid than one's own is root's to take.
    if !is_root() {
        return;
    }
    let place = Place::with_token();
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    for stranger in [STRANGER, 0] {
        let refusal = ask_as(stranger, &place, async |agent: AgentClient| {
            agent.describe().await
        });
        // The agent closes the connection; a call that had begun on it is cancelled, which counts as no answer in time.
        let reason = refusal.unwrap_err().reason();
        assert!(
            matches!(reason, Reason::Unreachable | Reason::DeadlineExceeded),
            "uid {stranger}: {reason:?}"
        );
    }
    assert!(place.log().contains("socket peer refused"));
}

#[test]
fn a_call_off_the_list_is_refused_by_name() {
    let place = Place::with_token().allow("[Describe, Random]");
    let agent = place.start();
    agent.wait_for(TokenState::Uninitialized);
    ask(&place, async |agent: AgentClient| {
        agent.random(16).await.unwrap();
        let refusal = agent
            .initialize(InstanceId::from_bytes([1; 16]))
            .await
            .unwrap_err();
        assert_eq!(refusal.reason(), Reason::PeerNotAllowed);
        assert!(
            refusal.to_string().ends_with("may not call Initialize"),
            "{refusal}"
        );
    });
    agent.wait_for(TokenState::Uninitialized);
    let metrics = agent.probe("/metrics");
    let counted =
        r#"strongroom_hsm_requests_total{method="Initialize",outcome="PeerNotAllowed"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_squatted_path_gets_no_byte() {
    if !is_root() {
        return;
    }
    let place = Place::default();
    let run = place.socket().parent().unwrap().to_owned();
    chown(&run, Some(STRANGER), None).unwrap();
    let listener = as_uid(STRANGER, async {
        UnixListener::bind(place.socket()).unwrap()
    });
    chown(&run, Some(us()), None).unwrap();
    fs::set_permissions(
        place.socket(),
        std::os::unix::fs::PermissionsExt::from_mode(0o660),
    )
    .unwrap();
    let refusal = ask(&place, async |agent: AgentClient| agent.describe().await).unwrap_err();
    assert_eq!(refusal.reason(), Reason::SocketUntrusted, "{refusal}");
    assert!(
        refusal.to_string().contains("belongs to uid 2009"),
        "{refusal}"
    );
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the client connected");
}

#[test]
fn an_agent_that_is_not_there_is_worth_another_try() {
    let place = Place::default();
    let refusal = ask(&place, async |agent: AgentClient| agent.describe().await).unwrap_err();
    assert_eq!(refusal.reason(), Reason::Unreachable, "{refusal}");
}

#[test]
fn a_listener_in_a_user_namespace_is_refused_at_start() {
    let place = Place::with_token();
    let serve = place.command("serve");
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", PROGRAM])
        .args(serve.get_args())
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    // Some machines allow no user namespaces at all, which is as good.
    assert!(!output.status.success());
    assert!(
        log.contains("runs in a user namespace") || log.contains("unshare:"),
        "{log}"
    );
}
