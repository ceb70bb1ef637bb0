//! The stream of names of objects that changed.

use std::{sync::Arc, time::Duration};

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::Clock;
use tokio::time::{MissedTickBehavior, interval};

use super::worded;
use crate::{
    grpc::running::{Running, Sender},
    registry::{Changed, ObjectKind},
    service::{ObjectWatch, WatchEnd},
};

/// Events that wait for a slow reader; beyond them and those of the registry he has to look at everything again.
const EVENTS_WAITING: usize = 64;
/// How often secrets with other readers are told of, and the clock is looked at for a token that ends: it can be turned.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn stream(
    objects: ObjectWatch,
    clock: Arc<dyn Clock>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Running<wire::ObjectEvent> {
    Running::new(EVENTS_WAITING, |sender| {
        run(objects, clock, sender, shutdown)
    })
}

/// Hears of objects until the stream, the token or the process ends.
async fn run(
    mut objects: ObjectWatch,
    clock: Arc<dyn Clock>,
    sender: Sender<wire::ObjectEvent>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let heard = tokio::select! {
            changed = objects.next() => changed.map(|changed| vec![changed]),
            _ = looks.tick() => {
                if clock.now() >= objects.expires {
                    Err(WatchEnd::Expired)
                } else {
                    Ok(objects.take_waiting().collect())
                }
            }
            () = &mut shutdown => return,
        };
        match heard {
            Ok(changed) => {
                for object in changed {
                    // An error means that the reader is gone.
                    if sender.send(Ok(event(object))).await.is_err() {
                        return;
                    }
                }
            }
            Err(end) => {
                let _ = sender.send(Err(worded(end.error()))).await;
                return;
            }
        }
    }
}

fn event(changed: Changed) -> wire::ObjectEvent {
    let kind = match changed.kind {
        ObjectKind::Ring => wire::ObjectKind::KeyRing,
        ObjectKind::Key => wire::ObjectKind::CryptoKey,
        ObjectKind::Secret => wire::ObjectKind::ManagedSecret,
        ObjectKind::Bundle => wire::ObjectKind::SecretBundle,
    };
    wire::ObjectEvent {
        kind: kind.into(),
        namespace: changed.tenant.namespace.to_string(),
        name: changed.name.to_string(),
    }
}
