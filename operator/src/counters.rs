//! What operators of operators see. Values of labels are constants that are present from the start.

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts};
use strongroom_runtime::metrics::Metrics;

use crate::object::Kind;

/// How a look at an object ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is nothing more to do for now.
    Ok,
    /// The object changed in the meantime.
    Conflict,
    /// Another operator has taken over.
    Stale,
    /// It has to be done again.
    Failed,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Ok, Self::Conflict, Self::Stale, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Conflict => "conflict",
            Self::Stale => "stale",
            Self::Failed => "failed",
        }
    }
}

/// From a millisecond to half a minute.
const BUCKETS_S: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// What is counted.
#[derive(Clone)]
pub struct Counters {
    reconciles: IntCounterVec,
    seconds: HistogramVec,
    writes: IntCounterVec,
    orphans: IntCounterVec,
    /// 1 in the process that works.
    pub leader: IntGauge,
    /// The control epoch of this process, or of the last time that it had one.
    pub control_epoch: IntGauge,
    /// Streams of changes that were opened.
    pub streams: prometheus::IntCounter,
}

impl Counters {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |name: &str| format!("strongroom_operator_{name}");
        let reconciles = IntCounterVec::new(
            Opts::new(
                name("reconciles_total"),
                "Looks at objects, by kind and outcome.",
            ),
            &["kind", "outcome"],
        )
        .expect(VALID);
        let seconds = HistogramVec::new(
            HistogramOpts::new(name("reconcile_seconds"), "Duration of looks, by kind.")
                .buckets(BUCKETS_S.to_vec()),
            &["kind"],
        )
        .expect(VALID);
        for kind in Kind::ALL {
            seconds.with_label_values(&[kind.name()]);
            for outcome in Outcome::ALL {
                reconciles.with_label_values(&[kind.name(), outcome.name()]);
            }
        }
        metrics.register_collector(reconciles.clone());
        metrics.register_collector(seconds.clone());
        let kinds = Kind::ALL.map(Kind::name);
        Self {
            reconciles,
            seconds,
            writes: metrics.counters(
                "status_writes_total",
                "Statuses that were written, by kind.",
                "kind",
                &kinds,
            ),
            orphans: metrics.counters(
                "orphaned_total",
                "Objects that ended although the key service could not be told, by kind.",
                "kind",
                &kinds,
            ),
            leader: metrics.gauge("leader", "Whether this process holds the Lease."),
            control_epoch: metrics.gauge(
                "control_epoch",
                "The control epoch that the key service issued to this process last.",
            ),
            streams: metrics.counter(
                "change_streams_total",
                "Streams of changes that the key service opened.",
            ),
        }
    }

    /// Begins to observe a look, which ends when the guard is dropped.
    pub fn observe(&self, kind: Kind) -> Observation {
        let seconds = self.seconds.with_label_values(&[kind.name()]);
        Observation {
            reconciles: self.reconciles.clone(),
            kind,
            outcome: Outcome::Failed,
            timer: (seconds, std::time::Instant::now()),
        }
    }

    /// Counts a status.
    pub fn wrote(&self, kind: Kind) {
        self.writes.with_label_values(&[kind.name()]).inc();
    }

    /// Counts an object that ended without a word to the key service.
    pub fn orphaned(&self, kind: Kind) {
        self.orphans.with_label_values(&[kind.name()]).inc();
    }
}

const VALID: &str = "names of metrics are constants that are valid";

/// Observes one look when it is dropped.
pub struct Observation {
    reconciles: IntCounterVec,
    kind: Kind,
    outcome: Outcome,
    timer: (Histogram, std::time::Instant),
}

impl Observation {
    /// Says how it ended; without this it counts as failed.
    pub fn outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let (seconds, began) = &self.timer;
        seconds.observe(began.elapsed().as_secs_f64());
        let labels = [self.kind.name(), self.outcome.name()];
        self.reconciles.with_label_values(&labels).inc();
    }
}
