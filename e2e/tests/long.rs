//! Stories that take long. Each prints its figures as lines `report: …`, which go to `docs/reports`.

use std::time::{Duration, Instant};

use anyhow::Result;
use strongroom_hack::cluster::{Name, Options, Process, ScopedCluster};

/// How many clusters are started and ended, one after another.
const CLUSTERS: usize = 20;

#[test]
fn many_clusters_one_after_another_leave_nothing_behind() -> Result<()> {
    let name: Name = "e2e-many".parse()?;
    let (mut starts, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..CLUSTERS {
        let start = Instant::now();
        let cluster = ScopedCluster::up(Options::new(name.clone()))?;
        starts.push(start.elapsed());
        let layout = cluster.layout().clone();
        let processes: Vec<Process> = ["namespace", "etcd", "kube-apiserver"]
            .map(|member| {
                layout
                    .process(member)
                    .map(|process| process.expect("it runs"))
            })
            .into_iter()
            .collect::<Result<_>>()?;
        let end = Instant::now();
        drop(cluster);
        ends.push(end.elapsed());
        assert!(processes.iter().all(|process| !process.is_alive()));
        assert!(!layout.root().exists());
    }
    println!(
        "report: {CLUSTERS} clusters started in {}, ended in {}",
        spread(starts),
        spread(ends)
    );
    Ok(())
}

/// Returns the median and the largest of some durations.
fn spread(mut durations: Vec<Duration>) -> String {
    durations.sort();
    let (median, largest) = (
        durations[durations.len() / 2],
        durations[durations.len() - 1],
    );
    format!(
        "{:.1} s (median), {:.1} s (longest)",
        median.as_secs_f64(),
        largest.as_secs_f64()
    )
}
