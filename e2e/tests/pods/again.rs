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
    world::wait,
};
use strongroom_hack::installation::Program;

const PUBLISHES: usize = 1000;
/// Asked for after everything else, so that the log holds all of it once it holds this.
const LAST: &str = "kube-public";
const LOGGED: Duration = Duration::from_secs(30);
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
    let log = story.node()?.audit_log();
    cluster.kubectl(&["get", "namespace", LAST])?;
    wait(LOGGED, "the API server has logged all of it", || {
        Ok(!requests(&log, audited, |event| event["objectRef"]["name"] == LAST)?.is_empty())
    })?;
    let writes = requests(&log, audited, is_ours)?;
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

/// Writes about the pod's namespace, and everything that the driver's account asks for.
fn is_ours(event: &Value) -> bool {
    let verb = event["verb"].as_str().unwrap_or_default();
    let is_write = !["get", "list", "watch"].contains(&verb);
    is_write && event["objectRef"]["namespace"] == "payments"
        || event["user"]["username"] == "system:serviceaccount:strongroom-csi:csi-driver"
}

/// What the API server was asked for, from a place in its log on.
fn requests(log: &Path, from: usize, are: impl Fn(&Value) -> bool) -> Result<Vec<String>> {
    let text = fs::read(log)?;
    let text = String::from_utf8_lossy(&text[from..]);
    let mut found = Vec::new();
    // The last line may not be whole yet.
    for line in text.lines().filter(|line| line.ends_with('}')) {
        let event: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        if are(&event) {
            let (verb, user) = (&event["verb"], &event["user"]["username"]);
            found.push(format!("{verb} {} by {user}", event["requestURI"]));
        }
    }
    Ok(found)
}
