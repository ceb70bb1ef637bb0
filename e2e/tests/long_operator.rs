//! Many objects: how long they take, that nothing is written or looked at without a reason, and what foreign Secrets cost.
#![forbid(unsafe_code)]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::json;
use strongroom_e2e::{
    operated::{Operated, load},
    world::wait,
};

const OBJECTS: usize = 1000;
const POD: &str = "operator-a";

fn looks(story: &Operated) -> Result<f64> {
    story.metric(POD, "strongroom_operator_reconciles_total", "")
}

fn versions(story: &Operated) -> Result<String> {
    let versions =
        "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
    story.kubectl(&["get", "msec", "-o", versions])
}

/// Waits until the operator does nothing any more.
fn settle(story: &Operated) -> Result<f64> {
    let mut last = (looks(story)?, Instant::now());
    loop {
        thread::sleep(Duration::from_secs(1));
        let now = looks(story)?;
        if now > last.0 {
            last = (now, Instant::now());
        } else if last.1.elapsed() > Duration::from_secs(8) {
            return Ok(now);
        }
    }
}

#[test]
fn thousand_secrets_become_ready_and_are_left_alone() -> Result<()> {
    let mut story = Operated::begin("operator-load", 29480, 0)?;
    story.start(POD)?;
    story.apply(
        "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}",
    )?;
    story.wait_ready("keyring", "payments")?;
    let empty = story.memory_kib(POD)?;
    let began = Instant::now();
    story
        .cluster
        .kubectl_with_input(&["create", "-f", "-"], &load::secrets(OBJECTS))?;
    println!(
        "report: operator: {OBJECTS} objects made in {:?}",
        began.elapsed()
    );
    wait(Duration::from_secs(300), "all are ready", || {
        Ok(load::seconds_to_ready(&story)?.len() == OBJECTS)
    })?;
    let delays = load::seconds_to_ready(&story)?;
    println!(
        "report: operator: create to Ready: P50 {} s, P99 {} s, last {} s; all after {:?}",
        delays[OBJECTS / 2],
        delays[OBJECTS * 99 / 100],
        delays[OBJECTS - 1],
        began.elapsed()
    );
    let full = story.memory_kib(POD)?;
    println!("report: operator: memory: {empty} KiB without objects, {full} KiB with {OBJECTS}");

    let idle = settle(&story)?;
    let requests = load::requests_in(&story, Duration::from_secs(30))?;
    println!("report: operator: requests to the API server in 30 idle seconds: {requests:?}");
    let writes = requests.keys().find(|request| {
        let others = ["get ", "list ", "watch ", "update leases"];
        !others.iter().any(|other| request.starts_with(other))
    });
    ensure!(
        writes.is_none(),
        "it writes what nobody changed: {writes:?}"
    );
    ensure!(
        (looks(&story)? - idle).abs() < 0.1,
        "it looks at what nobody changed"
    );

    // A restart reads everything and writes nothing.
    let before = versions(&story)?;
    story.stop(POD)?;
    story.start(POD)?;
    wait(Duration::from_secs(120), "all were looked at", || {
        Ok(looks(&story)? >= OBJECTS as f64)
    })?;
    settle(&story)?;
    ensure!(versions(&story)? == before, "a restart has written");
    let writes = story.metric(POD, "strongroom_operator_status_writes_total", "")?;
    ensure!(writes.abs() < 0.1, "{writes} statuses were written");

    foreign_secrets(&story)?;
    story.end()
}

/// 90 Secrets of 1 MiB of somebody else.
fn foreign_secrets(story: &Operated) -> Result<()> {
    story.cluster.kubectl(&["create", "namespace", "foreign"])?;
    let before = story.memory_kib(POD)?;
    let value = "x".repeat(1_000_000);
    for number in 0..90 {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"value": value},
            "metadata": {"name": format!("s-{number}"), "namespace": "foreign"},
        });
        story
            .cluster
            .kubectl_with_input(&["create", "-f", "-"], &secret.to_string())?;
    }
    thread::sleep(Duration::from_secs(5));
    let after = story.memory_kib(POD)?;
    println!(
        "report: operator: memory: {before} KiB before 90 foreign Secrets of 1 MB, {after} KiB after"
    );
    ensure!(after < before + 3 * 1024, "{before} KiB became {after} KiB");
    Ok(())
}
