//! What the last probe found, where `Status`, `Encrypt` and `Decrypt` read it. They read one and the same snapshot, so
//! a key id is never reported by one and unknown to another.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{snapshot::Snapshot, state::Refusal};

/// How the last probe ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// None has ended yet.
    Starting,
    /// The key can be used.
    Good,
    /// The key service does not answer.
    Away {
        /// Why, in a sentence.
        cause: String,
    },
    /// The key service offers an older position of the same store, as a replica that lags behind does.
    Behind(Refusal),
    /// The key cannot be used.
    Unusable {
        /// Why, in a sentence.
        cause: String,
    },
    /// The key service is not believed.
    Refused(Refusal),
}

impl Health {
    /// Every name, for metrics.
    pub const NAMES: &'static [&'static str] =
        &["starting", "good", "away", "behind", "unusable", "refused"];

    /// Returns a stable name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Good => "good",
            Self::Away { .. } => "away",
            Self::Behind(_) => "behind",
            Self::Unusable { .. } => "unusable",
            Self::Refused(_) => "refused",
        }
    }
}

/// Why `Status` is an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No probe has succeeded since the start.
    #[error("the key service was not reached yet: {cause}")]
    NotYet {
        /// Why.
        cause: String,
    },
    /// The last good probe is too old.
    #[error("the key service was last reached {} s ago: {cause}", age.as_secs())]
    Stale {
        /// Its age.
        age: Duration,
        /// Why there is no newer one.
        cause: String,
    },
    /// The key service answers, but not with a key that can be used.
    #[error("{cause}")]
    Key {
        /// Why.
        cause: String,
    },
    /// The key service is not believed.
    #[error("the key service is not believed: {0}")]
    Refused(Refusal),
}

/// What the last probes found.
#[derive(Clone, Debug)]
pub struct View {
    /// How the last one ended.
    pub health: Health,
    /// What the last good one found, and when it began.
    pub last_good: Option<(Arc<Snapshot>, Instant)>,
}

/// The place where the findings are read.
#[derive(Debug)]
pub struct Board {
    view: RwLock<View>,
    max_age: Duration,
    begun: AtomicU64,
    ended: watch::Sender<u64>,
    wanted: Notify,
}

impl Board {
    /// Makes a board on which a good probe counts for `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Self {
            view: RwLock::new(View {
                health: Health::Starting,
                last_good: None,
            }),
            max_age,
            begun: AtomicU64::new(0),
            ended: watch::Sender::new(0),
            wanted: Notify::new(),
        }
    }

    /// Returns what the last probes found.
    pub fn view(&self) -> View {
        self.view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the snapshot that `Status` and `Encrypt` use.
    ///
    /// # Errors
    ///
    /// When the key cannot be used as far as is known.
    pub fn usable(&self) -> Result<Arc<Snapshot>, Unusable> {
        let View { health, last_good } = self.view();
        let cause = match health {
            Health::Refused(refusal) => return Err(Unusable::Refused(refusal)),
            Health::Unusable { cause } => return Err(Unusable::Key { cause }),
            Health::Away { cause } => cause,
            Health::Behind(refusal) => refusal.to_string(),
            Health::Starting => "the first probe is under way".to_owned(),
            Health::Good => "the next probe is under way".to_owned(),
        };
        let Some((snapshot, began)) = last_good else {
            return Err(Unusable::NotYet { cause });
        };
        let age = began.elapsed();
        if age > self.max_age {
            Err(Unusable::Stale { age, cause })
        } else {
            Ok(snapshot)
        }
    }

    /// Returns the last good snapshot, however old: what was sealed once may be opened as long as the key service does.
    ///
    /// # Errors
    ///
    /// When there was none since the start.
    pub fn last_good(&self) -> Result<Arc<Snapshot>, Unusable> {
        match self.view().last_good {
            Some((snapshot, _)) => Ok(snapshot),
            // Never `Ok` without a good probe.
            None => self.usable(),
        }
    }

    /// Asks for a probe without waiting for it.
    pub fn nudge(&self) {
        self.wanted.notify_one();
    }

    /// Waits until a probe has ended that began after this call.
    pub async fn refresh(&self) {
        let mut ended = self.ended.subscribe();
        // A probe that is under way may have asked before the change; the one after it has not.
        let target = self.begun.load(Ordering::SeqCst) + 1;
        self.nudge();
        // The sender lives in the board itself, so this ends with the target only.
        let _ = ended.wait_for(|round| *round >= target).await;
    }

    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(super) fn end(&self, round: u64) {
        self.ended.send_replace(round);
    }

    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(super) fn renew(&self, snapshot: Snapshot, began: Instant) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        log_change(&view, &Health::Good);
        log_activation(&view, &snapshot);
        *view = View {
            health: Health::Good,
            last_good: Some((Arc::new(snapshot), began)),
        };
    }

    pub(crate) fn fail(&self, health: Health) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        log_change(&view, &health);
        view.health = health;
    }
}

/// Logs each change of health once; a repeated failure is seen in the metrics.
fn log_change(before: &View, after: &Health) {
    if before.health.name() == after.name() {
        return;
    }
    let health = after.name();
    match after {
        Health::Starting => {}
        Health::Good => tracing::info!(health, "the etcd key can be used"),
        Health::Away { cause } => tracing::warn!(health, cause, "probe failed"),
        Health::Unusable { cause } => tracing::error!(health, cause, "the etcd key cannot be used"),
        Health::Behind(refusal) => tracing::warn!(health, %refusal, "probe not believed"),
        Health::Refused(refusal) => tracing::error!(health, %refusal, "key service not believed"),
    }
}

fn log_activation(before: &View, snapshot: &Snapshot) {
    let known = before
        .last_good
        .as_ref()
        .map(|(snapshot, _)| &snapshot.primary.key_id);
    let primary = &snapshot.primary;
    if known != Some(&primary.key_id) {
        let (key_id, version) = (&primary.key_id, primary.version.to_string());
        tracing::info!(
            key_id,
            activation = primary.number,
            version,
            "primary activation"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::answer;

    const MAX_AGE: Duration = Duration::from_secs(8);

    fn good() -> Board {
        let board = Board::new(MAX_AGE);
        board.renew(Snapshot::parse(answer(1, 1, 1)).unwrap(), Instant::now());
        board
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_counts_until_its_age_and_then_names_the_cause() {
        let board = good();
        board.fail(Health::Away {
            cause: "nobody answers".to_owned(),
        });
        tokio::time::advance(MAX_AGE).await;
        assert!(board.usable().is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            board.usable().unwrap_err().to_string(),
            "the key service was last reached 9 s ago: nobody answers"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_grows_old_even_when_no_probe_ends() {
        let board = good();
        tokio::time::advance(MAX_AGE + Duration::from_secs(1)).await;
        assert!(matches!(board.usable(), Err(Unusable::Stale { .. })));
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_used_is_an_error_at_once() {
        let board = good();
        board.fail(Health::Unusable {
            cause: "key etcd is disabled".to_owned(),
        });
        assert_eq!(
            board.usable().unwrap_err().to_string(),
            "key etcd is disabled"
        );
    }

    #[tokio::test]
    async fn what_was_sealed_may_be_opened_while_the_key_service_is_not_believed() {
        let board = good();
        board.fail(Health::Refused(Refusal::EpochWentBack {
            highest: 2,
            offered: 1,
        }));
        assert!(board.usable().is_err());
        assert!(board.last_good().is_ok());
    }

    #[tokio::test]
    async fn a_refresh_waits_for_a_probe_that_began_after_it() {
        let board = Arc::new(Board::new(MAX_AGE));
        let under_way = board.begin();
        let refresh = board.refresh();
        tokio::pin!(refresh);
        let is_done = async |refresh: &mut std::pin::Pin<&mut _>| {
            tokio::time::timeout(Duration::from_millis(1), refresh)
                .await
                .is_ok()
        };
        assert!(!is_done(&mut refresh).await);
        board.end(under_way);
        assert!(!is_done(&mut refresh).await);
        let next = board.begin();
        board.end(next);
        refresh.await;
    }
}
