//! What operators see: a condition of `/readyz`, and metrics that are computed when they are read, so that they never
//! say something else than `Status` does.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use prometheus::{Gauge, IntGauge, IntGaugeVec, Opts, core::Collector};
use strongroom_runtime::{Condition, metrics::Computed, socket::Refusals};
use tokio::sync::watch;

use crate::{
    probe::{Board, Health, View},
    renewal::Expiry,
    state::Refusal,
    upstream::Paths,
};

/// Tells `/readyz` what `Status` would say now.
pub fn show(board: &Board, condition: &Condition) {
    match board.usable() {
        Ok(_) => condition.met(),
        Err(error) => condition.missing(error.to_string()),
    }
}

/// Returns the hash by which kube-apiserver's metrics name a key id.
pub fn key_id_hash(key_id: &str) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, key_id.as_bytes())))
}

/// The metrics of the probe.
#[derive(Clone, Debug)]
pub struct Exposition {
    board: Arc<Board>,
    refusals: Refusals,
    usable: IntGauge,
    health: IntGaugeVec,
    refused: IntGaugeVec,
    probe_age: Gauge,
    activation: IntGauge,
    known_key_ids: IntGauge,
    key_id_info: IntGaugeVec,
    peers_refused: IntGauge,
    path_up: IntGaugeVec,
    certificate_not_after: Gauge,
    paths: Option<Paths>,
    expiry: Option<watch::Receiver<Expiry>>,
}

impl Exposition {
    /// Shows what a board and a listener know.
    pub fn new(board: Arc<Board>, refusals: Refusals) -> Self {
        Self {
            board,
            refusals,
            usable: gauge("status_ok", "Whether Status answers with a key id."),
            health: gauges("probe_health", "1 for how the last probe ended.", "health"),
            refused: gauges(
                "refused",
                "1 for why the key service is not believed.",
                "reason",
            ),
            probe_age: Gauge::with_opts(options(
                "probe_age_seconds",
                "Time since the last good probe began; -1 before the first.",
            ))
            .expect(VALID),
            activation: gauge("activation", "Number of the activation in force."),
            known_key_ids: gauge("known_key_ids", "Key ids that Decrypt knows."),
            key_id_info: gauges(
                "key_id_info",
                "1 for the key id in force, hashed as in the metrics of kube-apiserver.",
                "key_id_hash",
            ),
            peers_refused: gauge("peers_refused", "Connections refused for their uid."),
            path_up: gauges(
                "path_up",
                "Whether the last call over a way to the key service was answered.",
                "path",
            ),
            certificate_not_after: Gauge::with_opts(options(
                "certificate_not_after_seconds",
                "End of the node's certificate in Unix time; 0 without one.",
            ))
            .expect(VALID),
            paths: None,
            expiry: None,
        }
    }

    /// Shows the ways to the key service, too.
    pub fn paths(&mut self, paths: Paths) {
        self.paths = Some(paths);
    }

    /// Shows the end of the node's certificate, too.
    pub fn certificate(&mut self, expiry: watch::Receiver<Expiry>) {
        self.expiry = Some(expiry);
    }
}

impl Computed for Exposition {
    fn update(&self) {
        let View { health, last_good } = self.board.view();
        self.usable.set(i64::from(self.board.usable().is_ok()));
        for name in Health::NAMES {
            let is = health.name() == *name;
            self.health.with_label_values(&[name]).set(i64::from(is));
        }
        let refusal = match &health {
            Health::Refused(refusal) | Health::Behind(refusal) => Some(refusal.category()),
            _ => None,
        };
        for reason in Refusal::CATEGORIES {
            self.refused
                .with_label_values(&[reason])
                .set(i64::from(refusal == Some(*reason)));
        }
        self.key_id_info.reset();
        match last_good {
            None => self.probe_age.set(-1.0),
            Some((snapshot, began)) => {
                self.probe_age.set(began.elapsed().as_secs_f64());
                self.activation.set(i64::from(snapshot.primary.number));
                self.known_key_ids.set(count(snapshot.known_count() as u64));
                let hash = key_id_hash(&snapshot.primary.key_id);
                self.key_id_info.with_label_values(&[hash]).set(1);
            }
        }
        self.peers_refused.set(count(self.refusals.count()));
        for view in self.paths.iter().flat_map(Paths::views) {
            let up = self.path_up.with_label_values(&[view.name]);
            up.set(i64::from(view.up));
        }
        let expiry = self.expiry.as_ref().map(|expiry| *expiry.borrow());
        if let Some(end) = expiry.and_then(|expiry| expiry.not_after_ms) {
            self.certificate_not_after.set((end / 1000) as f64);
        }
    }

    fn collectors(&self) -> Vec<&dyn Collector> {
        vec![
            &self.usable,
            &self.health,
            &self.refused,
            &self.probe_age,
            &self.activation,
            &self.known_key_ids,
            &self.key_id_info,
            &self.peers_refused,
            &self.path_up,
            &self.certificate_not_after,
        ]
    }
}

const VALID: &str = "names and labels of metrics are constants that are valid";

fn options(name: &str, help: &str) -> Opts {
    Opts::new(format!("strongroom_kms_plugin_{name}"), help)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(options(name, help)).expect(VALID)
}

fn gauges(name: &str, help: &str, label: &str) -> IntGaugeVec {
    IntGaugeVec::new(options(name, help), &[label]).expect(VALID)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_ids_are_hashed_as_kube_apiserver_does() {
        // `printf 1 | sha256sum`, as in kube-apiserver's own tests of its metrics for key id "1".
        assert_eq!(
            key_id_hash("1"),
            "sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
        );
    }
}
