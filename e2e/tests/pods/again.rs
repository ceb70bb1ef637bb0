//! kubelet publishes every volume again, each minute and after each of its restarts: that must cost next to nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    delivery::Delivery,
    published::{Driver, Volume},
    tenant,
};
use strongroom_hack::installation::Program;

const PUBLISHES: usize = 1000;
const REFRESHES: &str = "strongroom_csi_driver_refreshes_total";

/// What a file is and when it last changed, and how.
type Stamp = (u64, i64, i64, i64, u32);

#[test]
fn thousand_publishes_are_one_mount_and_touch_no_file() -> Result<()> {
    let story = Delivery::begin("pods-again", 30200)?;
    let cluster = &story.cluster;
    tenant::create_pod(cluster, "api")?;
    story.tenant.grant(cluster, "api")?;
    tenant::wait_until_runs(cluster, "api")?;
    let volume = story.volume("api")?;
    let token = tenant::pod_token(cluster, "api")?;
    let files = story.volume_of_container("db/password")?;
    let before = stamps(&files)?;
    let refreshes = story.counted(REFRESHES, r#"outcome="same""#)?;
    let reads = reads(&story)?;
    let audited = fs::read(story.node()?.audit_log())?.len();

    let mut delays = publish_again(&story, &volume, &token)?;

    ensure!(story.mounts()? == 1, "{} mounts", story.mounts()?);
    ensure!(
        layers(&story, &volume)? == 1,
        "mounts lie above one another"
    );
    let after = stamps(&files)?;
    ensure!(after == before, "files changed: {before:?}, {after:?}");
    ensure!(before.len() >= 5, "only {before:?} were looked at");
    // kubelet itself may have asked once or twice in between.
    let same = story.counted(REFRESHES, r#"outcome="same""#)? - refreshes;
    ensure!(
        (1000.0..1010.0).contains(&same),
        "{same} reads found nothing new"
    );
    for outcome in ["swapped", "failed"] {
        let count = story.counted(REFRESHES, &format!("outcome={outcome:?}"))?;
        ensure!(count == 0.0, "{count} reads {outcome}");
    }
    let asked = self::reads(&story)? - reads;
    ensure!(
        asked >= same && asked <= same + 10.0,
        "{asked} reads for {same} publishes"
    );
    let writes = writes(&story.node()?.audit_log(), audited)?;
    ensure!(writes.is_empty(), "written to the API server: {writes:?}");

    delays.sort_unstable();
    let at = |percent: usize| delays[(PUBLISHES * percent).div_ceil(100) - 1];
    println!(
        "report: {PUBLISHES} publishes of one volume: one mount, {asked} conditional reads, no write to the API server; P50 \
         {:?}, P99 {:?}",
        at(50),
        at(99)
    );
    story.end()
}

fn publish_again(story: &Delivery, volume: &Volume, token: &str) -> Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let driver = Driver::connect(&story.node()?).await?;
        let mut delays = Vec::with_capacity(PUBLISHES);
        for _ in 0..PUBLISHES {
            let began = Instant::now();
            driver.publish(volume, "db", token).await?;
            delays.push(began.elapsed());
        }
        Ok(delays)
    })
}

/// All that is below a folder, links not followed.
fn stamps(folder: &Path) -> Result<BTreeMap<String, Stamp>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let data = entry.path().symlink_metadata()?;
        let stamp = (
            data.ino(),
            data.mtime_nsec(),
            data.ctime(),
            data.ctime_nsec(),
            data.mode(),
        );
        found.insert(entry.path().display().to_string(), stamp);
        if data.is_dir() {
            found.extend(stamps(&entry.path())?);
        }
    }
    Ok(found)
}

/// How many mounts lie at the volume's place.
fn layers(story: &Delivery, volume: &Volume) -> Result<usize> {
    let table = story.node()?.output("cat", &["/proc/self/mountinfo"])?;
    let target = format!(" {} ", volume.target());
    Ok(table.lines().filter(|line| line.contains(&target)).count())
}

/// What drivers have read of the key service.
fn reads(story: &Delivery) -> Result<f64> {
    let metrics = story
        .installation
        .probe(Program::KeyService, "/metrics")?
        .body;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("strongroom_workloads_requests_total"));
    let counts = lines
        .filter(|line| line.contains("ReadForPod"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum())
}

/// The writes about the pod's namespace, and everything that the driver's account asked for, from a place in the log on.
fn writes(log: &Path, from: usize) -> Result<Vec<String>> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text[from..]);
    let mut found = Vec::new();
    // The last line may not be whole yet.
    let lines = text.lines().filter(|line| line.ends_with('}'));
    let mut seen = 0;
    for line in lines {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        seen += 1;
        let verb = event["verb"].as_str().unwrap_or_default();
        let user = event["user"]["username"].as_str().unwrap_or_default();
        let is_write = !["get", "list", "watch"].contains(&verb);
        if is_write && event["objectRef"]["namespace"] == "payments"
            || user == "system:serviceaccount:strongroom-csi:csi-driver"
        {
            found.push(format!("{verb} {} by {user}", event["requestURI"]));
        }
    }
    ensure!(
        seen > 0,
        "the API server logged nothing, not even kubelet's leases"
    );
    Ok(found)
}
