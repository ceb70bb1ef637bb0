//! What the agent counts, as `strongroom_hsm_…`.
#![forbid(unsafe_code)]

use prometheus::{IntCounter, IntGauge, IntGaugeVec};
use strongroom_hsm::{Reason, TokenDescription, TokenState};
use strongroom_runtime::metrics::{Metrics, Requests};
use strum::IntoEnumIterator;

use crate::rpc::Rpc;

/// The outcome of a call that worked; every other outcome is the name of a reason.
pub(crate) const OK: &str = "Ok";

/// The agent's metrics.
#[derive(Clone)]
pub(crate) struct AgentMetrics {
    pub(crate) requests: Requests,
    pub(crate) worker_restarts: IntCounter,
    pub(crate) peers_refused: IntGauge,
    token_present: IntGauge,
    logged_in: IntGauge,
    hardware: IntGauge,
    state: IntGaugeVec,
}

impl AgentMetrics {
    /// Registers all of them.
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let metrics = metrics.component("hsm");
        let methods: Vec<&str> = Rpc::all().map(Rpc::name).collect();
        let outcomes: Vec<&str> = [OK]
            .into_iter()
            .chain(Reason::iter().map(Reason::name))
            .collect();
        Self {
            requests: metrics.requests(&methods, &outcomes),
            worker_restarts: metrics.counter(
                "worker_restarts_total",
                "Workers that ended or were killed.",
            ),
            peers_refused: metrics.gauge(
                "peers_refused",
                "Connections refused by uid since the start.",
            ),
            token_present: metrics.gauge("token_present", "1 while the token is there."),
            logged_in: metrics.gauge("logged_in", "1 while the token is there and took the PIN."),
            hardware: metrics.gauge("hardware", "1 while the token is hardware; 0 for SoftHSM."),
            state: metrics.gauges(
                "token_state",
                "1 for the state that the token is in.",
                &["state"],
            ),
        }
    }

    /// Shows a look at the token.
    pub(crate) fn show(&self, token: &TokenDescription) {
        for state in TokenState::iter() {
            self.state
                .with_label_values(&[state.name()])
                .set((state == token.state).into());
        }
        self.token_present.set((!token.serial.is_empty()).into());
        self.logged_in.set(is_logged_in(token.state).into());
        self.hardware.set(token.hardware.into());
    }
}

const fn is_logged_in(state: TokenState) -> bool {
    match state {
        TokenState::Ready
        | TokenState::Uninitialized
        | TokenState::Incomplete
        | TokenState::NoWrapProfile
        | TokenState::Damaged => true,
        TokenState::TokenMissing
        | TokenState::WrongPin
        | TokenState::PinMissing
        | TokenState::ModuleFailed
        | TokenState::Starting
        | TokenState::NotMade => false,
    }
}
