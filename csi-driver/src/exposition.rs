//! What operators see: counters of what was done, and gauges that are computed from the table when they are read.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use prometheus::{Gauge, Histogram, IntCounterVec, IntGauge, Opts, core::Collector};
use strongroom_runtime::metrics::{Computed, Metrics};

use crate::driver::{Driver, condition};

/// How a volume that was published before was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It holds what it should.
    Same,
    /// Its files were replaced.
    Swapped,
    /// It keeps what it has.
    Failed,
}

impl Refresh {
    const NAMES: [&'static str; 3] = ["same", "swapped", "failed"];

    const fn name(self) -> &'static str {
        match self {
            Self::Same => Self::NAMES[0],
            Self::Swapped => Self::NAMES[1],
            Self::Failed => Self::NAMES[2],
        }
    }
}

/// What is counted.
#[derive(Clone, Debug)]
pub struct Counters {
    refreshes: IntCounterVec,
    event_seconds: Histogram,
    connected: IntGauge,
}

impl Counters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            refreshes: metrics.counters(
                "refreshes_total",
                "Reads for volumes that were published before, by outcome.",
                "outcome",
                &Refresh::NAMES,
            ),
            event_seconds: metrics.seconds(
                "event_seconds",
                "From an event of the key service to the files that it is about.",
            ),
            connected: metrics.gauge(
                "watch_connected",
                "Whether the key service tells of changes as they happen.",
            ),
        }
    }

    /// Counts a read.
    pub fn refreshed(&self, refresh: Refresh) {
        self.refreshes.with_label_values(&[refresh.name()]).inc();
    }

    /// Counts an event that was followed.
    pub fn followed(&self, took: Duration) {
        self.event_seconds.observe(took.as_secs_f64());
    }

    /// Says whether the stream is open until the guard is dropped.
    pub fn connected(&self) -> Connected {
        self.connected.set(1);
        Connected(self.connected.clone())
    }
}

/// An open stream.
#[derive(Debug)]
pub struct Connected(IntGauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// The metrics of the table.
#[derive(Clone)]
pub struct Exposition {
    // The registry lives as long as the process, and must not keep tokens.
    driver: Weak<Driver>,
    volumes: IntGauge,
    abnormal: IntGauge,
    oldest: Gauge,
}

impl Exposition {
    /// Shows what a driver knows.
    pub fn new(driver: &Arc<Driver>) -> Self {
        let name =
            |name: &str, help: &str| Opts::new(format!("strongroom_csi_driver_{name}"), help);
        Self {
            driver: Arc::downgrade(driver),
            volumes: IntGauge::with_opts(name("volumes", "Published volumes.")).expect(VALID),
            abnormal: IntGauge::with_opts(name(
                "volumes_abnormal",
                "Volumes whose condition is abnormal.",
            ))
            .expect(VALID),
            oldest: Gauge::with_opts(name(
                "oldest_confirmation_seconds",
                "Time since the key service last spoke of the volume of which it spoke longest ago.",
            ))
            .expect(VALID),
        }
    }
}

impl Computed for Exposition {
    fn update(&self) {
        let Some(driver) = self.driver.upgrade() else {
            return;
        };
        let now = driver.clock.elapsed();
        let states: Vec<_> = driver.table.volumes().iter().map(|it| it.state()).collect();
        let judge = |state| condition(state, now, driver.stale_after).abnormal;
        let abnormal = states.iter().filter(|state| judge(state)).count();
        let ages = states
            .iter()
            .map(|state| now.saturating_sub(state.confirmed));
        let oldest = ages.max().unwrap_or_default();
        self.volumes.set(count(states.len()));
        self.abnormal.set(count(abnormal));
        self.oldest.set(oldest.as_secs_f64());
    }

    fn collectors(&self) -> Vec<&dyn Collector> {
        vec![&self.volumes, &self.abnormal, &self.oldest]
    }
}

const VALID: &str = "names of metrics are constants that are valid";

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
