//! Secrets on their way into pods: published first and again, many at once, rotated; and what the driver takes for it.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use strongroom_e2e::{
    delivery::Delivery,
    published::{Driver, Volume},
    tenant::{self, READER, UID},
};
use strongroom_hack::programs::Build;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::figures::Figure;

/// As many pods as kubelet takes by default.
const VOLUMES: usize = 110;
const AGAIN: usize = 1000;
const ROTATIONS: usize = 100;
/// Pods that start at once, and how many secrets each has.
const CROWD: usize = 40;
const SECRETS: [&str; 5] = ["db", "s1", "s2", "s3", "s4"];
/// Nothing is asked or rotated for so long before memory is looked at.
const QUIET: Duration = Duration::from_secs(10);

/// Measures everything.
pub(crate) fn measure() -> Result<Vec<Figure>> {
    let bench = Bench::start()?;
    let mut figures = vec![Figure::one(
        "driver's resident memory, one volume",
        "MiB",
        bench.memory()?,
    )];
    let volumes = bench.volumes("alone", VOLUMES)?;
    let first = bench
        .runtime
        .block_on(bench.one_after_the_other(&volumes))?;
    figures.push(Figure::times("first publish, one secret", &first));
    figures.push(Figure::one(
        "driver's resident memory, 111 volumes",
        "MiB",
        bench.memory()?,
    ));
    let again = bench.runtime.block_on(bench.again(&volumes[0]))?;
    figures.push(Figure::times("publish again", &again));
    bench.runtime.block_on(bench.take_away(&volumes))?;

    let crowd = bench.volumes("crowd", CROWD)?;
    let began = Instant::now();
    let each = bench.runtime.block_on(bench.at_once(&crowd))?;
    let all = began.elapsed();
    figures.push(Figure::times(
        "first publish, 5 secrets, 40 volumes at once, each",
        &each,
    ));
    figures.push(Figure::times(
        "first publish, 5 secrets, 40 volumes at once, all",
        &[all],
    ));
    bench.runtime.block_on(bench.take_away(&crowd))?;
    figures.push(Figure::times(
        "rotation until a reader in the container has it",
        &bench.rotations()?,
    ));
    figures.push(Figure::times(
        "40 pods with 5 secrets each, from apply to Ready",
        &[bench.pods()?],
    ));
    bench.story.end()?;
    Ok(figures)
}

struct Bench {
    story: Delivery,
    runtime: Runtime,
    driver: Driver,
    uid: String,
    token: String,
}

impl Bench {
    /// A pod that reads a secret; its token reads for all volumes that are measured.
    fn start() -> Result<Self> {
        let story = Delivery::begin_with("bench-delivery", 30300, Build::Release)?;
        let cluster = &story.cluster;
        tenant::create_pod(cluster, "api")?;
        for secret in SECRETS {
            if secret != "db" {
                story.tenant.create_secret(secret)?;
            }
            story.tenant.grant_on(cluster, secret, "api")?;
        }
        tenant::wait_until_runs(cluster, "api")?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let driver = runtime.block_on(Driver::connect(&story.node()?))?;
        Ok(Self {
            uid: tenant::kubectl(cluster, &["get", "pod", "api", "-o", UID])?,
            token: tenant::pod_token(cluster, "api")?,
            story,
            runtime,
            driver,
        })
    }

    fn memory(&self) -> Result<f64> {
        thread::sleep(QUIET);
        Ok(self.story.usage()?.kib as f64 / 1024.0)
    }

    fn volumes(&self, name: &str, count: usize) -> Result<Vec<Volume>> {
        let node = self.story.node()?;
        let names = (0..count).map(|number| format!("{name}-{number}"));
        names
            .map(|name| Volume::further(&node, &self.uid, &name))
            .collect()
    }

    async fn one_after_the_other(&self, volumes: &[Volume]) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for volume in volumes {
            let began = Instant::now();
            self.driver.publish(volume, "db", &self.token).await?;
            times.push(began.elapsed());
        }
        Ok(times)
    }

    async fn again(&self, volume: &Volume) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for _ in 0..AGAIN {
            let began = Instant::now();
            self.driver.publish(volume, "db", &self.token).await?;
            times.push(began.elapsed());
        }
        Ok(times)
    }

    async fn at_once(&self, volumes: &[Volume]) -> Result<Vec<Duration>> {
        let mut running = JoinSet::new();
        for volume in volumes {
            let (driver, token) = (self.driver.clone(), self.token.clone());
            let volume = volume.clone();
            running.spawn(async move {
                let began = Instant::now();
                driver.publish(&volume, &SECRETS.join(","), &token).await?;
                anyhow::Ok(began.elapsed())
            });
        }
        running.join_all().await.into_iter().collect()
    }

    /// Volumes of which kubelet does not know are the benchmark's to remove, folder and all.
    async fn take_away(&self, volumes: &[Volume]) -> Result<()> {
        for volume in volumes {
            self.driver.unpublish(volume).await?;
            fs::remove_dir_all(volume.folder_on(&self.story.node()?))?;
        }
        Ok(())
    }

    fn rotations(&self) -> Result<Vec<Duration>> {
        let volume = self.story.volume_of_container("db/password")?;
        let file = volume.join("db/password");
        let mut times = Vec::new();
        for _ in 0..ROTATIONS {
            let before = fs::read(&file)?;
            let began = Instant::now();
            self.story.tenant.rotate()?;
            while fs::read(&file).is_ok_and(|now| now == before) {
                ensure!(began.elapsed() < QUIET, "a rotation is not seen");
                thread::sleep(Duration::from_micros(500));
            }
            times.push(began.elapsed());
        }
        Ok(times)
    }

    fn pods(&self) -> Result<Duration> {
        let cluster = &self.story.cluster;
        let volume = format!("{{secrets: {:?}}}", SECRETS.join(","));
        let reader = READER.replace("{secrets: \"db\"}", &volume);
        ensure!(reader != READER, "the pod asks for other secrets");
        let pods = (0..CROWD).map(|number| {
            let name = format!("crowd-{number}");
            let pod = reader.replace("ACCOUNT", "api").replace("NAME", &name);
            pod.replace("name: crowd", "labels: {crowd: it}, name: crowd")
        });
        let pods: Vec<String> = pods.collect();
        let manifest = pods.join("---\n");
        let began = Instant::now();
        tenant::apply_pod(cluster, &manifest, "", "")?;
        let ready = ["wait", "--for=condition=Ready", "pod", "-l", "crowd=it"];
        tenant::kubectl(cluster, &[&ready[..], &["--timeout=600s"]].concat())?;
        let took = began.elapsed();
        ensure!(
            self.story.mounts()? == CROWD + 1,
            "{} mounts",
            self.story.mounts()?
        );
        Ok(took)
    }
}
