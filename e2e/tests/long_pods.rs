//! What happens to the volumes of running pods when everything around them dies: kubelet, the driver at each of its steps,
//! the key service for ten minutes, the whole node.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    delivery::{Delivery, LIMIT},
    tenant::{self, READER, UID},
    world::wait,
};
use strongroom_hack::{installation::Program, programs::Build};

const PODS: usize = 20;
/// Between the driver's first step of a write and its last.
const STEPS: [&str; 6] = [
    "csi.writer.folder",
    "csi.writer.file",
    "csi.writer.prepared",
    "csi.writer.shown",
    "csi.writer.linked",
    "csi.writer.done",
];
/// How late a rotation may be seen after a restart of the driver: kubelet publishes each volume again within 90 s.
const AFTER_RESTART: Duration = Duration::from_secs(150);
const OUTAGE: Duration = Duration::from_secs(600);

fn name(number: usize) -> String {
    format!("api-{number}")
}

/// Pods of one service account that read one secret.
fn start_pods(story: &Delivery, count: usize) -> Result<()> {
    let cluster = &story.cluster;
    tenant::kubectl(cluster, &["create", "serviceaccount", "api"])?;
    story.tenant.grant(cluster, "api")?;
    for number in 0..count {
        tenant::apply_pod(cluster, READER, &name(number), "api")?;
    }
    (0..count).try_for_each(|number| tenant::wait_until_runs(cluster, &name(number)))
}

/// What each mounted volume holds, by the pod's uid, as its containers see it.
fn passwords(story: &Delivery) -> Result<BTreeMap<String, String>> {
    let script = "for volume in /var/lib/kubelet/pods/*/volumes/kubernetes.io~csi/secrets/mount; do \
                  echo \"$(echo $volume | cut -d/ -f6) $(cat $volume/db/password)\"; done";
    let said = story.node()?.output("sh", &["-c", script])?;
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
    };
    Ok(said.lines().filter_map(pair).collect())
}

/// All volumes hold one password, which is not `before`.
fn all_rotated(story: &Delivery, before: &str) -> Result<bool> {
    let now = passwords(story)?;
    let first = now.values().next().context("no volume")?;
    Ok(first != before && first.len() == 32 && now.values().all(|it| it == first))
}

fn one(story: &Delivery) -> Result<String> {
    let now = passwords(story)?;
    now.into_values().next().context("no volume")
}

#[test]
fn twenty_pods_keep_their_files_while_kubelet_and_driver_die() -> Result<()> {
    let mut story = Delivery::begin("pods-die", 29180)?;
    story.program(Build::FaultPoints)?;
    start_pods(&story, PODS)?;
    let before = passwords(&story)?;
    ensure!(
        before.len() == PODS && story.mounts()? == PODS,
        "{before:?}"
    );

    for round in 1..=5 {
        story.node()?.restart_kubelet()?;
        story.node()?.wait_until_ready()?;
        // It publishes each volume again.
        thread::sleep(Duration::from_secs(5));
        ensure!(story.mounts()? == PODS, "after {round} restarts of kubelet");
        ensure!(
            passwords(&story)? == before,
            "after {round} restarts of kubelet"
        );
    }

    for step in STEPS {
        driver_dies_at(&mut story, step)?;
    }
    after_a_restart_the_stream_is_followed_again(&mut story)?;
    ensure!(story.mounts()? == PODS);

    for number in 0..PODS {
        let pod = name(number);
        tenant::kubectl(&story.cluster, &["delete", "pod", &pod, "--wait=false"])?;
    }
    wait(LIMIT, "every volume is gone", || Ok(story.mounts()? == 0))?;
    story.end()
}

/// Kills the driver in the middle of the first of twenty writes; whoever reads has one version or the other, and the next
/// driver brings the new one to all.
fn driver_dies_at(story: &mut Delivery, step: &str) -> Result<()> {
    story.kill_driver()?;
    story.start_driver(Build::FaultPoints, &format!("{step}=kill"))?;
    let before = one(story)?;
    story.tenant.rotate()?;
    // A kubelet that starts publishes everything, so nobody waits a minute for the driver to have tokens.
    story.node()?.restart_kubelet()?;
    let began = Instant::now();
    while !story.driver_is_dead()? {
        ensure!(
            began.elapsed() < LIMIT,
            "the driver does not come to {step}"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let torn = passwords(story)?;
    ensure!(torn.len() == PODS, "{step}: {} volumes", torn.len());
    ensure!(torn.values().all(|it| it.len() == 32), "{step}: {torn:?}");
    ensure!(story.mounts()? == PODS, "{step}");
    story.kill_driver()?;
    story.start_driver(Build::Plain, "")?;
    story.node()?.restart_kubelet()?;
    wait(LIMIT, "every pod has the new version", || {
        all_rotated(story, &before)
    })?;
    ensure!(story.mounts()? == PODS, "{step}");
    println!(
        "report: driver killed at {step}: {PODS} volumes whole, all have the new version after it"
    );
    Ok(())
}

/// kubelet is left alone: its own next publish brings the tokens back, and with them the stream.
fn after_a_restart_the_stream_is_followed_again(story: &mut Delivery) -> Result<()> {
    story.kill_driver()?;
    story.start_driver(Build::Plain, "")?;
    let before = one(story)?;
    let began = Instant::now();
    story.tenant.rotate()?;
    wait(
        AFTER_RESTART,
        "every pod has what was rotated during the restart",
        || all_rotated(story, &before),
    )?;
    println!(
        "report: a rotation was seen by {PODS} pods {:?} after a restart of the driver",
        began.elapsed()
    );
    let before = one(story)?;
    let began = Instant::now();
    story.tenant.rotate()?;
    // By the stream: kubelet's next publish is a minute away for most of them.
    wait(
        Duration::from_secs(30),
        "every pod has the next version",
        || all_rotated(story, &before),
    )?;
    println!(
        "report: the next one was seen by {PODS} pods by the stream after {:?}",
        began.elapsed()
    );
    Ok(())
}

#[test]
fn ten_minutes_without_the_key_service_are_seen_and_survived() -> Result<()> {
    let mut story = Delivery::begin("pods-outage", 29200)?;
    start_pods(&story, 3)?;
    let before = passwords(&story)?;
    let began = Instant::now();
    story.installation.stop(Program::KeyService)?;
    tenant::apply_pod(&story.cluster, READER, "late", "api")?;
    wait(LIMIT, "the pod's author is told", || {
        let events = tenant::kubectl(
            &story.cluster,
            &["get", "events", "-o", "jsonpath={.items[*].message}"],
        )?;
        Ok(events.contains("the key service does not answer"))
    })?;
    // Everything that kubelet publishes again in the meantime fails; nothing of it may reach the pods.
    while began.elapsed() < OUTAGE {
        thread::sleep(Duration::from_secs(20));
        let now = passwords(&story)?;
        let kept = before
            .iter()
            .all(|(pod, value)| now.get(pod) == Some(value));
        ensure!(kept, "files changed after {:?}", began.elapsed());
    }
    let condition = story.condition(&name(0))?;
    println!(
        "report: condition after {:?} without the key service: {}",
        began.elapsed(),
        condition.message
    );
    ensure!(condition.abnormal, "{}", condition.message);
    ensure!(
        condition
            .message
            .contains("the key service does not answer")
            && condition.message.contains("last confirmed"),
        "{}",
        condition.message
    );
    ensure!(story.metric("strongroom_csi_driver_volumes_abnormal")? == 3.0);
    let age = story.metric("strongroom_csi_driver_oldest_confirmation_seconds")?;
    ensure!(
        age > OUTAGE.as_secs_f64() - 100.0,
        "the metric says {age} s"
    );
    let phase = ["get", "pod", "late", "-o", "jsonpath={.status.phase}"];
    ensure!(tenant::kubectl(&story.cluster, &phase)? == "Pending");

    story.installation.start(Program::KeyService, &[])?;
    story.installation.wait_ready(Program::KeyService)?;
    tenant::wait_until_runs(&story.cluster, "late")?;
    story.tenant.rotate()?;
    let former = before.values().next().context("no volume")?;
    wait(LIMIT, "every pod has the new version", || {
        all_rotated(&story, former)
    })?;
    wait(LIMIT, "nothing is abnormal", || {
        Ok(story.metric("strongroom_csi_driver_volumes_abnormal")? == 0.0)
    })?;
    story.end()
}

/// kubelet's folder of a pod, on the node's disk.
fn folder(story: &Delivery, pod: &str) -> Result<PathBuf> {
    let uid = tenant::kubectl(&story.cluster, &["get", "pod", pod, "-o", UID])?;
    Ok(story
        .node()?
        .on_disk(&format!("/var/lib/kubelet/pods/{uid}")))
}

#[test]
fn node_that_lost_its_power_leaves_neither_orphans_nor_pods_that_do_not_end() -> Result<()> {
    let mut story = Delivery::begin("pods-power", 29220)?;
    start_pods(&story, 6)?;

    // A pod that is forgotten while kubelet is away: it cleans up by what is on its disk.
    let forgotten = folder(&story, &name(5))?;
    story.node()?.stop_member("kubelet")?;
    let force = ["delete", "pod", "api-5", "--force", "--grace-period=0"];
    tenant::kubectl(&story.cluster, &force)?;
    story.node()?.restart_kubelet()?;
    wait(LIMIT, "the forgotten pod's volume is gone", || {
        Ok(story.mounts()? == 5 && !forgotten.exists())
    })?;

    // Three pods end just when the power fails.
    let folders: Vec<PathBuf> = (0..3)
        .map(|number| folder(&story, &name(number)))
        .collect::<Result<_>>()?;
    let names: Vec<String> = (0..3).map(name).collect();
    let mut delete = vec!["delete", "pod", "--wait=false"];
    delete.extend(names.iter().map(String::as_str));
    tenant::kubectl(&story.cluster, &delete)?;
    story.node()?.power_off()?;
    story.kill_driver()?;
    story.node()?.power_on()?;
    story.node()?.wait_until_ready()?;
    story.start_driver(Build::Plain, "")?;
    let began = Instant::now();
    let left = [
        "get",
        "pods",
        "--no-headers",
        "-o",
        "custom-columns=:metadata.name",
    ];
    wait(Duration::from_secs(60), "the three pods are gone", || {
        let pods = tenant::kubectl(&story.cluster, &left)?;
        Ok(names
            .iter()
            .all(|name| !pods.lines().any(|line| line == name)))
    })?;
    println!(
        "report: pods that were Terminating in a power cut were gone {:?} after the driver was back",
        began.elapsed()
    );
    for number in 3..5 {
        tenant::wait_until_runs(&story.cluster, &name(number))?;
        ensure!(
            story
                .exec(&name(number), "cat /run/secrets/app/db/password")?
                .len()
                == 32
        );
    }
    wait(LIMIT, "their folders are gone", || {
        Ok(folders.iter().all(|folder| !folder.exists()))
    })?;
    ensure!(story.mounts()? == 2, "{} mounts", story.mounts()?);
    a_mount_that_kubelet_forgot_goes_with_the_next_driver(&mut story)?;
    story.end()
}

/// As kubelets before the patch releases of 2026 left it: the pod's data is removed, the mount is not.
fn a_mount_that_kubelet_forgot_goes_with_the_next_driver(story: &mut Delivery) -> Result<()> {
    let folder = folder(story, &name(3))?.join("volumes/kubernetes.io~csi/secrets");
    story.node()?.stop_member("kubelet")?;
    story.kill_driver()?;
    fs::remove_file(folder.join("vol_data.json"))?;
    story.node()?.restart_kubelet()?;
    story.start_driver(Build::Plain, "")?;
    let log = fs::read_to_string(story.driver_log())?;
    ensure!(
        log.contains("removed a volume that kubelet does not know of"),
        "{log}"
    );
    // The pod is still wanted, so that kubelet asks for its volume anew.
    let mount: &Path = &folder.join("mount");
    wait(LIMIT, "the volume is published anew", || {
        Ok(story.mounts()? == 2 && mount.exists())
    })?;
    Ok(())
}
