//! The program is killed at each of its fault points, and goes on afterwards without a hand.

use std::os::unix::process::ExitStatusExt;

use crate::support::{Client, Rig, program::Program};

const SIGKILL: Option<i32> = Some(9);

/// What the state on disk says of the activation; none before the first contact.
fn activation(rig: &Rig) -> Option<u64> {
    let text = std::fs::read(&rig.config.state).ok()?;
    let state: serde_json::Value = serde_json::from_slice(&text).expect("the state is whole");
    state["activation"].as_u64()
}

async fn check_recovers(rig: &Rig, key_id: &str) -> (Program, Client) {
    let program = rig.spawn("");
    let client = Client::new(&rig.config.listen.path);
    assert_eq!(client.until_ok().await, key_id);
    (program, client)
}

async fn check_killed_while_recording(point: &str, recorded: u64) {
    let rig = Rig::new();
    let _service = rig.serve();
    // The first contact is recorded, the rotation is not finished.
    let mut program = rig.spawn(&format!("{point}=1*off->kill"));
    let client = Client::new(&rig.config.listen.path);
    client.until_key_id("key-1").await;
    client.until_ok().await;
    assert_eq!(activation(&rig), Some(1));
    let sealed = client.encrypt(&[7; 32]).await.unwrap();

    rig.fake.rotate();
    assert_eq!(program.end().await.signal(), SIGKILL, "{}", program.log);
    assert_eq!(activation(&rig), Some(recorded));
    let (_program, client) = check_recovers(&rig, "key-2").await;
    assert_eq!(activation(&rig), Some(2));
    assert_eq!(client.decrypt(&sealed).await.unwrap(), [7; 32]);
}

#[tokio::test]
async fn killed_before_the_new_state_has_its_name() {
    check_killed_while_recording("plugin.state.before-rename", 1).await;
}

#[tokio::test]
async fn killed_after_the_new_state_has_its_name() {
    check_killed_while_recording("plugin.state.after-rename", 2).await;
}

#[tokio::test]
async fn killed_between_record_and_publication() {
    let rig = Rig::new();
    let _service = rig.serve();
    let mut program = rig.spawn("plugin.probe.before-publish=kill");
    assert_eq!(program.end().await.signal(), SIGKILL, "{}", program.log);
    assert_eq!(activation(&rig), Some(1));
    check_recovers(&rig, "key-1").await;
}

#[tokio::test]
async fn killed_before_an_answer() {
    for point in ["plugin.encrypt.before-reply", "plugin.decrypt.before-reply"] {
        let rig = Rig::new();
        let _service = rig.serve();
        let (mut program, client) = check_recovers(&rig, "key-1").await;
        let sealed = client.encrypt(&[7; 32]).await.unwrap();
        // One that still dies would be a live listener for the next, which never takes a socket from such a one.
        program.signal(rustix::process::Signal::KILL);
        program.end().await;

        let mut program = rig.spawn(&format!("{point}=kill"));
        client.until_ok().await;
        if point.contains("encrypt") {
            assert!(client.encrypt(&[8; 32]).await.is_err());
        } else {
            assert!(client.decrypt(&sealed).await.is_err());
        }
        assert_eq!(program.end().await.signal(), SIGKILL, "{}", program.log);
        let (_program, client) = check_recovers(&rig, "key-1").await;
        assert_eq!(client.decrypt(&sealed).await.unwrap(), [7; 32]);
    }
}

#[tokio::test]
async fn killed_twenty_times_during_rotations_without_going_back() {
    let rig = Rig::new();
    let _service = rig.serve();
    let client = Client::new(&rig.config.listen.path);
    let mut highest = 0;
    for round in 0..20 {
        let mut program = rig.spawn("");
        client.until_ok().await;
        rig.fake.rotate();
        // A different moment in each round, somewhere around the next probe.
        tokio::time::sleep(std::time::Duration::from_millis(5 * round)).await;
        program.signal(rustix::process::Signal::KILL);
        program.end().await;
        let recorded = activation(&rig).unwrap();
        assert!(recorded >= highest, "{recorded} after {highest}");
        highest = recorded;
    }
    let _program = check_recovers(&rig, "key-21").await;
    assert_eq!(activation(&rig), Some(21));
}
