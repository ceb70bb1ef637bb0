//! `kms-plugin wait` as an init container runs it, and what its user may ask beside that.

use std::process::Stdio;

use rustix::process::Signal;
use strongroom_runtime::socket::{self, Peers, SocketOptions};
use tokio::process::Command;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::{
    Rig, SEED,
    program::{Program, command},
    us,
};

/// Waits for the plugin of a rig.
fn waiting(rig: &Rig, more: &[&str]) -> Command {
    let mut command = command();
    command
        .args(["wait", "--socket"])
        .arg(&rig.config.listen.path)
        .args(more)
        .stderr(Stdio::piped());
    command
}

/// How waiting ends, and what it says.
async fn check(rig: &Rig, more: &[&str], code: i32, sentence: &str) {
    let output = waiting(rig, more).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(sentence), "{said}");
}

#[tokio::test]
async fn what_is_missing_is_named_until_the_plugin_can_be_used() {
    let rig = Rig::new();
    let mut waiting = Program::start(&mut waiting(&rig, &[]));
    waiting.line("nobody answers on").await;
    let plugin = rig.start();
    waiting.line("the key service was not reached yet").await;
    let service = rig.serve();
    waiting.line("the plugin can be used").await;
    assert!(waiting.end().await.success(), "{}", waiting.log);
    drop((plugin, service));
}

#[tokio::test]
async fn patience_ends_and_then_it_is_said_whether_to_start() {
    let rig = Rig::new();
    let _plugin = rig.start();
    let missing = "the key service was not reached yet";
    check(&rig, &["--timeout=1s"], 3, missing).await;
    let anyway = ["--timeout=1s", "--start-anyway"];
    check(&rig, &anyway, 0, "what waits starts without it").await;
    check(&rig, &["--timeout=soon"], 2, "not a duration").await;
}

#[tokio::test]
async fn somebody_else_who_listens_is_not_asked() {
    let rig = Rig::new();
    let (_service, _plugin, _client) = rig.ready().await;
    let another = format!("--uid={}", us() + 1);
    check(&rig, &[&another, "--timeout=1s"], 3, "belongs to").await;
}

#[tokio::test]
async fn one_who_may_not_ask_is_told_who_may() {
    let rig = Rig::new();
    let others = SocketOptions::new(Peers::for_api_server([us() + 1]).unwrap());
    let mut incoming = socket::bind(&rig.config.listen.path, others).unwrap();
    let sentence = "is neither its own nor in listen.peers";
    tokio::select! {
        () = check(&rig, &["--timeout=1s"], 3, sentence) => {}
        _ = incoming.next() => panic!("its peer was admitted"),
    }
}

#[tokio::test]
async fn it_ends_when_asked() {
    let rig = Rig::new();
    let mut waiting = Program::start(&mut waiting(&rig, &[]));
    waiting.line("nobody answers on").await;
    waiting.signal(Signal::TERM);
    assert_eq!(waiting.end().await.code(), Some(1), "{}", waiting.log);
}

#[tokio::test]
async fn own_user_hears_the_status_and_has_no_seed_opened() {
    let mut rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    let sealed = client.encrypt(SEED).await.unwrap();

    rig.config.listen.path = rig.folder.path().join("other.sock");
    rig.config.listen.peers = vec![us() + 1];
    rig.config.state = rig.folder.path().join("other.json");
    let plugin = rig.start();
    let client = plugin.client();
    client.until_ok().await;
    check(&rig, &[], 0, "the plugin can be used").await;
    for refused in [
        client.encrypt(SEED).await.err(),
        client.decrypt(&sealed).await.err(),
    ] {
        assert_eq!(refused.unwrap().code(), Code::PermissionDenied);
    }
    for method in ["Encrypt", "Decrypt"] {
        let name = format!(
            r#"strongroom_kms_plugin_requests_total{{method="{method}",outcome="PERMISSION_DENIED"}}"#
        );
        assert_eq!(plugin.metric(&name).as_deref(), Some("1"));
    }
}
