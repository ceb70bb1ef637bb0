//! Keeps the answer that `Status` gives: probes the key service in the background, compares each answer with the highest
//! position seen, and publishes it only once that position is on the disk.

mod board;

pub use board::{Board, Health, Unusable, View};

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use strongroom_runtime::fault;
use tokio::time::Instant;

use crate::{
    config::{Config, StatusConfig},
    snapshot::{MalformedProbe, Snapshot},
    state::{HighWater, Refusal, StateError, StateFile},
    upstream::{Upstream, UpstreamError},
};

/// Why a probe did not renew the answer.
#[derive(Debug, thiserror::Error)]
enum ProbeError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the key service did not answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Malformed(#[from] MalformedProbe),
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the position cannot be recorded")]
    State(#[source] StateError),
}

/// The background probe.
pub struct Prober {
    upstream: Upstream,
    board: Arc<Board>,
    state: Arc<StateFile>,
    seen: Option<HighWater>,
    timing: StatusConfig,
    deadline: Duration,
}

impl Prober {
    /// Prepares a probe that goes on from what the state says.
    pub fn new(
        config: &Config,
        upstream: Upstream,
        board: Arc<Board>,
        (state, seen): (StateFile, Option<HighWater>),
    ) -> Self {
        Self {
            upstream,
            board,
            state: Arc::new(state),
            seen,
            timing: config.status.clone(),
            deadline: config.deadline,
        }
    }

    /// Probes until the shutdown resolves, at once when the board wants it.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        tokio::pin!(shutdown);
        loop {
            let round = self.board.begin();
            // Not interrupted by the shutdown: a write of the state ends within the drain.
            let pause = jitter(self.round().await);
            self.board.end(round);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.board.wanted() => {}
                () = &mut shutdown => return,
            }
        }
    }

    /// Probes once, and returns the time until the next probe.
    async fn round(&mut self) -> Duration {
        let started = Instant::now();
        match self.probe().await {
            Ok(snapshot) => {
                fault::point!("plugin.probe.before-publish");
                self.board.renew(snapshot, started);
                self.timing.interval
            }
            Err(error) => {
                self.board.fail(health(error));
                self.timing.retry_interval
            }
        }
    }

    async fn probe(&mut self) -> Result<Snapshot, ProbeError> {
        self.uncover().await?;
        let pinned = self
            .seen
            .as_ref()
            .map(|seen| seen.instance_id.clone())
            .unwrap_or_default();
        let response = tokio::time::timeout(self.deadline, self.upstream.probe(pinned))
            .await
            .map_err(|_| ProbeError::Late(self.deadline))??;
        let snapshot = Snapshot::parse(response)?;
        let after = match &self.seen {
            None => HighWater::first(&snapshot),
            Some(seen) => seen.advance(&snapshot)?,
        };
        self.record(after).await?;
        Ok(snapshot)
    }

    /// Goes on with the state of a volume that was mounted over the folder since: it knows more than the folder below.
    async fn uncover(&mut self) -> Result<(), ProbeError> {
        let state = self.state.clone();
        let found = tokio::task::spawn_blocking(move || {
            let covered = state.is_covered();
            covered.then(|| StateFile::open(state.path())).transpose()
        });
        let found = found
            .await
            .expect("opening the state does not panic, and the runtime outlives its tasks")
            .map_err(ProbeError::State)?;
        if let Some((state, seen)) = found {
            tracing::warn!(path = %state.path().display(), "a volume was mounted over the state");
            self.state = Arc::new(state);
            match (seen, self.seen.take()) {
                (Some(seen), _) => self.seen = Some(seen),
                (None, Some(seen)) => self.record(seen).await?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    async fn record(&mut self, after: HighWater) -> Result<(), ProbeError> {
        if self.seen.as_ref() == Some(&after) {
            return Ok(());
        }
        let (state, written) = (self.state.clone(), after.clone());
        tokio::task::spawn_blocking(move || state.write(&written))
            .await
            .expect("writing the state does not panic, and the runtime outlives its tasks")
            .map_err(ProbeError::State)?;
        self.seen = Some(after);
        Ok(())
    }
}

/// Sorts a failed probe: what only says that the key service is away leaves the last answer to grow old.
fn health(error: ProbeError) -> Health {
    match error {
        ProbeError::Refused(refusal) if !refusal.may_pass() => Health::Refused(refusal),
        ProbeError::Upstream(UpstreamError::Unusable { .. } | UpstreamError::Refused) => {
            Health::Unusable {
                cause: error.to_string(),
            }
        }
        ProbeError::State(_) | ProbeError::Malformed(_) => Health::Unusable {
            cause: strongroom_runtime::Chain(&error).to_string(),
        },
        ProbeError::Upstream(_) | ProbeError::Late(_) => Health::Away {
            cause: error.to_string(),
        },
        ProbeError::Refused(refusal) => Health::Behind(refusal),
    }
}

/// Shortens a pause by up to a tenth, so that plugins of several nodes do not ask in step.
fn jitter(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let thousandths = u32::try_from(random % 101).unwrap_or(0);
    pause - pause * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_only_shortens_and_by_a_tenth_at_most() {
        let pause = Duration::from_secs(5);
        for _ in 0..1000 {
            let shortened = jitter(pause);
            assert!(
                shortened <= pause && shortened >= pause * 9 / 10,
                "{shortened:?}"
            );
        }
    }
}
