//! What the service does by itself: anchoring checkpoints, refreshing KEKs, writing folded refusals, keeping the time, rotating,
//! counting volumes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use prometheus::IntGauge;
use strongroom_audit::{Checkpoint, CheckpointFailed, Checkpointer};
use strongroom_core::{Caller, ContextDigest, Denied, Job, Resource, action, authorize};
use strongroom_runtime::{Chain, Condition, fault};
use strongroom_store::SqliteStore;
use tokio::time::Instant;

use crate::{
    registry::ChangeError,
    service::{HERE_WITHIN, Service, TOLD_WITHIN},
};

/// Refusals are folded by the second.
const FOLD_INTERVAL: Duration = Duration::from_secs(1);
/// KEKs are asked for again this often at most, and at least four times within the bound.
const REFRESH_MAX: Duration = Duration::from_secs(60);
/// And this often while they cannot be used, so that readiness tells of the token's return.
const REFRESH_RETRY: Duration = Duration::from_secs(1);

/// How often the first turn is compared with the time, which can be set.
const ROTATION_LOOK: Duration = Duration::from_secs(1);
/// What was missed while nobody was there is made up for at this pace, so that those who read it come in no herd.
const ROTATION_PACE: Duration = Duration::from_millis(50);
/// How often volumes are looked for of which nobody tells any more.
const VOLUMES_LOOK: Duration = Duration::from_secs(5);
/// How often the clocks are compared.
const TIME_LOOK: Duration = Duration::from_secs(1);
/// What a process that is killed forgets of the time, at most.
const TIME_WRITTEN: Duration = Duration::from_secs(60 * 60);
/// What one that ends in order forgets.
const TIME_WRITTEN_AT_END: Duration = Duration::from_secs(60);
/// A store or a log that did not take the time is given some.
const TIME_RETRY: Duration = Duration::from_secs(60);

/// A checkpoint was not anchored.
#[derive(Debug, thiserror::Error)]
enum AnchorError {
    #[error("the checkpoint was not made")]
    Checkpoint(#[source] CheckpointFailed),
    #[error("the policy does not let the anchor job work")]
    Denied(#[source] Denied),
    #[error("the store did not take the checkpoint")]
    Change(#[source] ChangeError),
}

/// Anchors a checkpoint whenever the log has grown by more than the record of the last anchor.
pub(crate) async fn anchor(
    service: Arc<Service>,
    checkpointer: Arc<Checkpointer>,
    interval: Duration,
    anchored: Condition,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    let mut covered = 0;
    loop {
        if service.trail.log().size() > covered {
            match anchor_once(&service, &checkpointer).await {
                Ok(checkpoint) => {
                    anchored.met();
                    // The anchor's own record is not worth an anchor: an idle service stays quiet.
                    covered = checkpoint.size() + 1;
                }
                Err(error) => {
                    let chain = Chain(&error).to_string();
                    tracing::error!(error = chain, "no checkpoint was anchored");
                    anchored.missing(chain);
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = &mut shutdown => break,
        }
    }
    Ok(())
}

async fn anchor_once(
    service: &Service,
    checkpointer: &Checkpointer,
) -> Result<Checkpoint, AnchorError> {
    let position = service.registry.position();
    let recorded = service.trail.recorded_changes(position.epoch);
    let checkpoint = checkpointer
        .checkpoint(
            position.epoch.get(),
            position.seq,
            *position.root.as_bytes(),
        )
        .await
        .map_err(AnchorError::Checkpoint)?;
    fault::point!("key-service.anchor.before-commit");
    let caller = Caller::System(Job::Anchor);
    let permit = authorize::<action::AnchorCheckpoint>(
        &service.policy,
        &caller,
        Resource::Instance,
        ContextDigest::default(),
    )
    .map_err(AnchorError::Denied)?;
    let note = checkpoint.as_note();
    service
        .registry
        .anchor_checkpoint(
            &permit,
            &service.replica,
            note,
            recorded,
            service.clock.now(),
        )
        .await
        .map_err(AnchorError::Change)?;
    Ok(checkpoint)
}

/// Keeps the bound of cached KEKs away while the token answers. While it does not, the cached ones serve; `/readyz` says so
/// only when the KEK of the system ring is no longer among them.
pub(crate) async fn refresh(
    service: Arc<Service>,
    bound: Duration,
    hsm: Condition,
    available: IntGauge,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    let interval = (bound / 4).min(REFRESH_MAX);
    let mut serves = true;
    available.set(1);
    loop {
        let pause = if serves { interval } else { REFRESH_RETRY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = service.keyring.missed(), if serves => {}
            () = &mut shutdown => return Ok(()),
        }
        let record = |ring, generation| service.registry.kek(ring, generation);
        let refreshed = service.keyring.refresh(record).await;
        available.set(refreshed.is_ok().into());
        if let Err(error) = refreshed {
            tracing::warn!(error = %Chain(&error), "the token did not give a KEK again; the cached ones serve within their bound");
        }
        let usable = match service.registry.system_kek() {
            Some(kek) => service
                .keyring
                .pair(&kek)
                .await
                .map(drop)
                .map_err(|error| Chain(&error).to_string()),
            None => Err("the store has no KEK of the system ring".to_owned()),
        };
        serves = usable.is_ok();
        match usable {
            Ok(()) => hsm.met(),
            Err(reason) => {
                available.set(0);
                hsm.missing(reason);
            }
        }
    }
}

/// Writes what was folded in seconds that have passed, also when no further refusal comes.
pub(crate) async fn fold(
    service: Arc<Service>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = tokio::time::sleep(FOLD_INTERVAL) => {}
            () = &mut shutdown => return Ok(()),
        }
        fold_once(&service, service.clock.now().as_i64()).await;
    }
}

async fn fold_once(service: &Service, now: i64) {
    if let Err(error) = service.trail.record_folds(now).await {
        tracing::error!(error = %Chain(&error), "folded refusals are not in the audit log");
    }
}

/// Notices jumps of the machine's clock and writes the time down.
pub(crate) async fn keep_time(
    service: Arc<Service>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    loop {
        let pause = match service.record_time(TIME_WRITTEN).await {
            Ok(()) => TIME_LOOK,
            Err(error) => {
                tracing::error!(error = %Chain(&error), "the time is not written down; it is kept in memory");
                TIME_RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}

/// Rotates what schedules say. It looks at what is due first and at nothing else.
pub(crate) async fn rotate(
    service: Arc<Service>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    loop {
        let pause = match service.rotate_next().await {
            true => ROTATION_PACE,
            false => ROTATION_LOOK,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = &mut shutdown => return Ok(()),
        }
    }
}

/// Ends the time in which volumes may not have been heard of yet, and the count of those that are heard of no more.
pub(crate) async fn count_volumes(
    service: Arc<Service>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Infallible> {
    tokio::pin!(shutdown);
    let consumers = &service.workloads.consumers;
    let began = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(VOLUMES_LOOK) => {}
            () = &mut shutdown => return Ok(()),
        }
        let elapsed = began.elapsed();
        if elapsed >= TOLD_WITHIN {
            consumers.settle();
            consumers.forget_untold(Instant::now() - TOLD_WITHIN);
        } else if elapsed >= HERE_WITHIN {
            consumers.settle_if_told();
        }
    }
}

/// Ends in order: the last records, a checkpoint over them, the log, the store. Nothing may be served any more.
pub(crate) async fn close(service: &Service, checkpointer: &Checkpointer, store: &SqliteStore) {
    fold_once(service, i64::MAX).await;
    if let Err(error) = service.record_time(TIME_WRITTEN_AT_END).await {
        tracing::warn!(error = %Chain(&error), "the time is not written down");
    }
    if let Err(error) = anchor_once(service, checkpointer).await {
        tracing::warn!(error = %Chain(&error), "no last checkpoint was anchored");
    }
    service.trail.log().close().await;
    if let Err(error) = store.close().await {
        tracing::warn!(error = %Chain(&error), "the store was not closed in order");
    }
}
