//! Metrics with the prefix `strongroom_`. Every label value is a constant that is present from the start, so that a
//! rate over a metric never begins with its first failure.

use std::time::{Duration, Instant};

use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, PullingGauge, Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// From a hundred microseconds to ten seconds: a token answers in a few milliseconds, a deadline ends at two seconds.
const LATENCY_BUCKETS_S: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// The metrics of a process. A clone is another handle to the same registry.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    component: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registry: Registry::new(),
            component: "",
        }
    }
}

impl Metrics {
    /// Returns the same registry with a component in the names that follow: `strongroom_<component>_<name>`.
    pub fn component(&self, component: &'static str) -> Self {
        Self {
            registry: self.registry.clone(),
            component,
        }
    }

    /// Registers a counter.
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(self.options(name, help)))
    }

    /// Registers a counter with one label and all values that it can have.
    pub fn counters(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let counters = self.register(IntCounterVec::new(self.options(name, help), &[label]));
        for value in values {
            counters.with_label_values(&[*value]);
        }
        counters
    }

    /// Registers a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(self.options(name, help)))
    }

    /// Registers a gauge that is asked for its value whenever it is read.
    pub fn pulled(&self, name: &str, help: &str, value: impl Fn() -> f64 + Send + Sync + 'static) {
        self.register(PullingGauge::new(self.name(name), help, Box::new(value)));
    }

    /// Registers a gauge with labels.
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(self.options(name, help), labels))
    }

    /// Registers a gauge of fractions, such as seconds, with labels.
    pub fn fractions(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.register(GaugeVec::new(self.options(name, help), labels))
    }

    /// Registers a histogram of seconds; the name ends with `_seconds`.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        self.register(Histogram::with_opts(self.histogram(name, help)))
    }

    /// Registers count, outcome, duration and number in flight of a closed list of methods.
    pub fn requests(&self, methods: &[&'static str], outcomes: &[&'static str]) -> Requests {
        let total = self.options("requests_total", "Requests by method and outcome.");
        let seconds = self.histogram("request_seconds", "Duration of requests by method.");
        let in_flight = self.options("requests_in_flight", "Requests that are being answered.");
        let requests = Requests {
            total: self.register(IntCounterVec::new(total, &["method", "outcome"])),
            seconds: self.register(HistogramVec::new(seconds, &["method"])),
            in_flight: self.register(IntGaugeVec::new(in_flight, &["method"])),
        };
        for method in methods {
            requests.seconds.with_label_values(&[method]);
            requests.in_flight.with_label_values(&[method]);
            for outcome in outcomes.iter().chain(&[ABANDONED]) {
                requests.total.with_label_values(&[method, outcome]);
            }
        }
        requests
    }

    /// Registers a collector of another kind; the caller chose its name.
    pub fn register_collector(&self, collector: impl Collector + Clone + 'static) {
        self.register(Ok(collector));
    }

    /// Registers metrics that are computed when they are read; their owner chose the names.
    pub fn computed(&self, metrics: impl Computed) {
        self.add(Box::new(AtReading(metrics)));
    }

    /// Prints all metrics in Prometheus' text format.
    pub fn encode(&self) -> Vec<u8> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .expect("gathered families are never empty, and a vector takes all writes");
        text
    }

    fn name(&self, name: &str) -> String {
        match self.component {
            "" => format!("strongroom_{name}"),
            component => format!("strongroom_{component}_{name}"),
        }
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(self.name(name), help)
    }

    fn histogram(&self, name: &str, help: &str) -> HistogramOpts {
        HistogramOpts::new(self.name(name), help).buckets(LATENCY_BUCKETS_S.to_vec())
    }

    fn register<C>(&self, collector: prometheus::Result<C>) -> C
    where
        C: Collector + Clone + 'static,
    {
        let collector =
            collector.expect("names and labels of metrics are constants that are valid");
        self.add(Box::new(collector.clone()));
        collector
    }

    fn add(&self, collector: Box<dyn Collector>) {
        self.registry
            .register(collector)
            .expect("each metric is registered once, when its owner is built");
    }
}

/// Metrics that are computed when they are read, so that they never say something else than their owner does.
pub trait Computed: Send + Sync + 'static {
    /// Sets all of them.
    fn update(&self);

    /// All of them; they are registered nowhere else.
    fn collectors(&self) -> Vec<&dyn Collector>;
}

struct AtReading<T>(T);

impl<T: Computed> Collector for AtReading<T> {
    fn desc(&self) -> Vec<&Desc> {
        let collectors = self.0.collectors();
        collectors.into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.update();
        let collectors = self.0.collectors();
        collectors
            .into_iter()
            .flat_map(Collector::collect)
            .collect()
    }
}

/// The outcome of a request whose guard was dropped without one: its caller went away.
pub const ABANDONED: &str = "abandoned";

/// Count, outcome, duration and number in flight of some methods.
#[derive(Clone, Debug)]
pub struct Requests {
    total: IntCounterVec,
    seconds: HistogramVec,
    in_flight: IntGaugeVec,
}

impl Requests {
    /// Begins to observe a request, which ends when the guard is dropped.
    pub fn observe(&self, method: &'static str) -> Observation {
        let in_flight = self.in_flight.with_label_values(&[method]);
        in_flight.inc();
        Observation {
            requests: self.clone(),
            in_flight,
            method,
            outcome: ABANDONED,
            started: Instant::now(),
        }
    }
}

/// Observes one request when it is dropped.
#[derive(Debug)]
pub struct Observation {
    requests: Requests,
    in_flight: IntGauge,
    method: &'static str,
    outcome: &'static str,
    started: Instant,
}

impl Observation {
    /// Says how the request ended; without this it counts as [`ABANDONED`].
    pub fn outcome(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    /// Tells how long the request has taken.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed().as_secs_f64();
        self.requests
            .seconds
            .with_label_values(&[self.method])
            .observe(elapsed);
        self.requests
            .total
            .with_label_values(&[self.method, self.outcome])
            .inc();
        self.in_flight.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(metrics: &Metrics, prefix: &str) -> Vec<String> {
        let text = String::from_utf8(metrics.encode()).unwrap();
        text.lines()
            .filter(|line| line.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn outcomes_are_present_before_the_first_request() {
        let metrics = Metrics::default().component("test");
        metrics.requests(&["Sign"], &["ok"]);
        assert_eq!(
            lines(&metrics, "strongroom_test_requests_total"),
            [
                r#"strongroom_test_requests_total{method="Sign",outcome="abandoned"} 0"#,
                r#"strongroom_test_requests_total{method="Sign",outcome="ok"} 0"#,
            ]
        );
    }

    #[test]
    fn a_dropped_guard_counts_as_abandoned() {
        let metrics = Metrics::default().component("test");
        let requests = metrics.requests(&["Sign"], &["ok"]);
        requests.observe("Sign").outcome("ok");
        drop(requests.observe("Sign"));
        assert_eq!(
            lines(&metrics, "strongroom_test_requests_total"),
            [
                r#"strongroom_test_requests_total{method="Sign",outcome="abandoned"} 1"#,
                r#"strongroom_test_requests_total{method="Sign",outcome="ok"} 1"#,
            ]
        );
        assert_eq!(
            lines(&metrics, "strongroom_test_requests_in_flight"),
            [r#"strongroom_test_requests_in_flight{method="Sign"} 0"#]
        );
    }

    #[test]
    fn values_of_a_label_are_present_from_the_start() {
        let metrics = Metrics::default();
        metrics.counters("refused_total", "Refused peers.", "reason", &["uid"]);
        assert_eq!(
            lines(&metrics, "strongroom_refused_total"),
            [r#"strongroom_refused_total{reason="uid"} 0"#]
        );
    }
}
