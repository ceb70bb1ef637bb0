//! Two operators, and a Lease that lies: every effect happens once.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use strongroom_e2e::{
    operated::{LIMIT, Operated, SYSTEM},
    world::wait,
};

const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}";
const SECRET: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {name: db, namespace: payments}, \
     spec: {source: {generate: {fields: [{name: password}]}}}}";

fn rotation(name: &str) -> String {
    format!(
        "{{apiVersion: strongroom.dev/v1alpha1, kind: SecretRotation, metadata: {{name: {name}, namespace: payments}}, \
         spec: {{secretRef: {{name: db}}}}}}"
    )
}

fn epoch(story: &Operated, pod: &str) -> Result<f64> {
    story.metric(pod, "strongroom_operator_control_epoch", "")
}

fn is_leader(story: &Operated, pod: &str) -> Result<bool> {
    Ok(story.metric(pod, "strongroom_operator_leader", "")? > 0.5)
}

fn version(story: &Operated) -> Result<String> {
    let secret = story.object("managedsecret", "db")?;
    Ok(secret["status"]["version"]
        .as_str()
        .unwrap_or("-")
        .to_owned())
}

fn lease(story: &Operated, words: &[&str]) -> Result<String> {
    let lease = ["lease", "strongroom-operator", "-n", SYSTEM];
    story
        .cluster
        .kubectl(&[&words[..1], &lease, &words[1..]].concat())
}

#[test]
fn stopped_leader_that_goes_on_changes_nothing() -> Result<()> {
    let mut story = Operated::begin("operator-fence", 29460, 0)?;
    story.start("operator-a")?;
    story.apply(RING)?;
    story.apply(SECRET)?;
    story.wait_ready("managedsecret", "db")?;
    story.start("operator-b")?;
    ensure!(is_leader(&story, "operator-a")? && !is_leader(&story, "operator-b")?);

    // The wish comes while the leader stands still, in the middle of whatever it did.
    story.signal("operator-a", Signal::STOP)?;
    story.apply(&rotation("one"))?;
    story.wait_condition("secretrotation", "one", "Ready", "True Rotated")?;
    assert_eq!(version(&story)?, "1.2");
    ensure!(is_leader(&story, "operator-b")?);
    thread::sleep(Duration::from_secs(40));
    story.signal("operator-a", Signal::CONT)?;
    wait(LIMIT, "the former leader notices", || {
        Ok(!is_leader(&story, "operator-a")?)
    })?;
    story.apply(&rotation("two"))?;
    story.wait_condition("secretrotation", "two", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.3")
    })?;
    ensure!(epoch(&story, "operator-b")? > epoch(&story, "operator-a")?);

    // Whoever deletes the Lease, or writes nonsense into it, wins nothing.
    lease(&story, &["delete"])?;
    story.apply(&rotation("three"))?;
    story.wait_condition("secretrotation", "three", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.4")
    })?;
    wait(LIMIT, "the Lease is there again", || {
        Ok(lease(&story, &["get"]).is_ok())
    })?;
    let nonsense = r#"{"spec":{"leaseTransitions":2147483647,"leaseDurationSeconds":2147483647}}"#;
    lease(&story, &["patch", "--type=merge", "-p", nonsense])?;
    let holder = lease(&story, &["get", "-o", "jsonpath={.spec.holderIdentity}"])?;
    let (leader, other) = if holder.starts_with("operator-a") {
        ("operator-a", "operator-b")
    } else {
        ("operator-b", "operator-a")
    };
    story.stop(leader)?;
    wait(LIMIT, "the other works", || is_leader(&story, other))?;
    story.apply(&rotation("four"))?;
    story.wait_condition("secretrotation", "four", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.5")
    })?;
    story.end()
}
