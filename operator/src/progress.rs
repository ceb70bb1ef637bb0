//! Whether the operator gets on: every watch, and the Lease, leaves a mark when it does.
//!
//! A watch that stands still is named on `/readyz`. The process counts as dead only when nothing at all gets on, for then a
//! restart may help; it does not bring back rights that were revoked.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use prometheus::{GaugeVec, IntCounterVec};
use strongroom_core::Clock;
use strongroom_runtime::{Chain, Condition, metrics::Metrics};

/// A watch is quiet for three minutes at most.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What gets on.
pub struct Progress {
    clock: Arc<dyn Clock>,
    marks: Mutex<BTreeMap<&'static str, Mark>>,
    seen: GaugeVec,
    errors: IntCounterVec,
}

#[derive(Clone, Debug)]
struct Mark {
    /// When it last got on; its beginning before that.
    at: Duration,
    /// Whether it ever did.
    ever: bool,
    error: Option<String>,
}

impl Progress {
    /// Knows what should get on.
    pub fn new(names: &[&'static str], clock: Arc<dyn Clock>, metrics: &Metrics) -> Self {
        let mark = Mark {
            at: clock.elapsed(),
            ever: false,
            error: None,
        };
        let seen = metrics.fractions(
            "watch_last_progress_timestamp_seconds",
            "When a watch last heard of the API server.",
            &["watch"],
        );
        for name in names {
            seen.with_label_values(&[name]).set(0.0);
        }
        Self {
            marks: Mutex::new(names.iter().map(|name| (*name, mark.clone())).collect()),
            seen,
            errors: metrics.counters(
                "watch_errors_total",
                "Errors after which a watch began again.",
                "watch",
                names,
            ),
            clock,
        }
    }

    /// What one of them marks its progress with.
    pub fn pulse(self: &Arc<Self>, name: &'static str) -> Pulse {
        Pulse {
            name,
            progress: self.clone(),
        }
    }

    /// Says which of them stand still, each with why.
    pub fn standing_still(&self) -> Vec<(&'static str, String)> {
        let now = self.clock.elapsed();
        let late = |mark: &Mark| !mark.ever || now.saturating_sub(mark.at) > LIMIT;
        self.lock()
            .iter()
            .filter(|(_, mark)| late(mark))
            .map(|(name, mark)| {
                let why = mark
                    .error
                    .clone()
                    .unwrap_or_else(|| "nothing yet".to_owned());
                (*name, why)
            })
            .collect()
    }

    /// Whether every one of them has got on at least once.
    pub fn has_begun(&self) -> bool {
        self.lock().values().all(|mark| mark.ever)
    }

    /// Whether nothing at all has got on for too long.
    pub fn is_dead(&self) -> bool {
        let now = self.clock.elapsed();
        self.lock()
            .values()
            .all(|mark| now.saturating_sub(mark.at) > LIMIT)
    }

    /// Says it to kubelet again and again.
    pub async fn report(&self, ready: Condition, alive: Condition) {
        loop {
            let still = self.standing_still();
            if still.is_empty() {
                ready.met();
            } else {
                let words = still.iter().map(|(name, why)| format!("{name} ({why})"));
                ready.missing(words.collect::<Vec<_>>().join("; "));
            }
            if self.is_dead() {
                alive.missing(format!("nothing has got on for {LIMIT:?}"));
            } else {
                alive.met();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    // Each change replaces whole values.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The marks of one of them.
#[derive(Clone)]
pub struct Pulse {
    name: &'static str,
    progress: Arc<Progress>,
}

impl Pulse {
    /// It gets on.
    pub fn beat(&self) {
        let Progress { clock, seen, .. } = &*self.progress;
        let mark = Mark {
            at: clock.elapsed(),
            ever: true,
            error: None,
        };
        self.progress.lock().insert(self.name, mark);
        let seconds = clock.now().as_i64() as f64 / 1000.0;
        seen.with_label_values(&[self.name]).set(seconds);
    }

    /// It has to begin again.
    pub fn failed(&self, error: &(dyn Error + 'static)) {
        let error = Chain(error).to_string();
        tracing::warn!(watch = self.name, error, "a watch begins again");
        let counters = &self.progress.errors;
        counters.with_label_values(&[self.name]).inc();
        if let Some(mark) = self.progress.lock().get_mut(self.name) {
            mark.error = Some(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use strongroom_core::UnixMillis;

    use super::*;

    #[derive(Default)]
    struct Turned(AtomicU64);

    impl Clock for Turned {
        fn now(&self) -> UnixMillis {
            UnixMillis::new(0)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::Relaxed))
        }
    }

    fn two() -> (Arc<Turned>, Arc<Progress>) {
        let clock = Arc::new(Turned::default());
        let metrics = Metrics::default().component("operator");
        let progress = Progress::new(&["a", "b"], clock.clone(), &metrics);
        (clock, Arc::new(progress))
    }

    #[test]
    fn one_that_stands_still_is_named_and_kills_nobody() {
        let (clock, progress) = two();
        progress.pulse("a").beat();
        progress.pulse("b").beat();
        assert!(progress.has_begun() && progress.standing_still().is_empty());
        clock.0.store(LIMIT.as_secs() + 1, Ordering::Relaxed);
        progress.pulse("a").beat();
        progress
            .pulse("b")
            .failed(&std::io::Error::other("forbidden"));
        assert_eq!(progress.standing_still(), [("b", "forbidden".to_owned())]);
        assert!(!progress.is_dead());
    }

    #[test]
    fn process_is_dead_when_nothing_gets_on() {
        let (clock, progress) = two();
        clock.0.store(LIMIT.as_secs(), Ordering::Relaxed);
        assert!(!progress.is_dead());
        clock.0.store(LIMIT.as_secs() + 1, Ordering::Relaxed);
        assert!(progress.is_dead());
        progress.pulse("b").beat();
        assert!(!progress.is_dead());
    }

    #[test]
    fn nothing_has_begun_before_each_has() {
        let (_, progress) = two();
        progress.pulse("a").beat();
        assert!(!progress.has_begun());
    }
}
