//! Follows what the key service says of objects. A stream says nothing about the time before it: the next one is opened before
//! the last one ends, and where there was a gap everything is looked at again.

use std::{sync::Arc, time::Duration};

use strongroom_api::strongroom::v1::{ObjectEvent, ObjectKind};
use strongroom_runtime::Chain;
use tokio::{sync::watch, time::Instant};

use crate::{
    counters::Counters,
    leadership::Term,
    object::{Key, Kind},
    queue::Lane,
    service::{Changes, Failure, Service},
    sinks::Wake,
};

/// A stream ends with the token that it was opened with, which counts for ten minutes at least.
const RENEW: Duration = Duration::from_secs(240);
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Follows for ever, in this process's terms.
pub async fn follow(
    service: Arc<Service>,
    wake: Wake,
    mut terms: watch::Receiver<Option<Term>>,
    counters: Counters,
) {
    let mut pause = PAUSE_MIN;
    loop {
        let serves = |term: &Option<Term>| term.as_ref().is_some_and(|term| term.fence().is_ok());
        if terms.wait_for(serves).await.is_err() {
            return;
        }
        let began = Instant::now();
        if let Err(failure) = session(&service, &wake, &counters).await {
            tracing::info!(error = %Chain(&failure), "the key service does not tell of changes");
        }
        pause = if began.elapsed() > PAUSE_MAX {
            PAUSE_MIN
        } else {
            (pause * 2).min(PAUSE_MAX)
        };
        tokio::time::sleep(pause).await;
    }
}

async fn session(service: &Service, wake: &Wake, counters: &Counters) -> Result<(), Failure> {
    let mut changes = open(service, counters).await?;
    // What waits already is looked at once all the same.
    wake.resync();
    let mut renew = Instant::now() + RENEW;
    loop {
        tokio::select! {
            change = changes.next() => match change? {
                Some(change) => take(wake, change),
                None => return Ok(()),
            },
            () = tokio::time::sleep_until(renew) => {
                // What the old one has not said yet the new one may not say: both are heard for a moment.
                let next = open(service, counters).await?;
                drain(wake, &mut changes).await?;
                changes = next;
                renew = Instant::now() + RENEW;
            }
        }
    }
}

async fn open(service: &Service, counters: &Counters) -> Result<Changes, Failure> {
    let changes = service.watch().await?;
    counters.streams.inc();
    Ok(changes)
}

async fn drain(wake: &Wake, changes: &mut Changes) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(1);
    while let Ok(change) = tokio::time::timeout_at(until, changes.next()).await {
        match change? {
            Some(change) => take(wake, change),
            None => break,
        }
    }
    Ok(())
}

fn take(wake: &Wake, change: ObjectEvent) {
    let kind = match change.kind() {
        ObjectKind::KeyRing => Kind::KeyRing,
        ObjectKind::CryptoKey => Kind::CryptoKey,
        ObjectKind::ManagedSecret => Kind::ManagedSecret,
        ObjectKind::SecretBundle => Kind::SecretBundle,
        ObjectKind::Unspecified => return,
    };
    let key = Key::new(kind, change.namespace, change.name);
    wake.queue.add(key, Lane::Changed);
}
