//! One stream for the node: the driver says which volumes there are, the key service says when what they hold has changed.
//! Without it kubelet's next publish brings the change, a minute or so later.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use strongroom_api::strongroom::v1::{
    VolumeSubscription, WatchEvent, WatchRequest, watch_event::Event, watch_request::Change,
};
use strongroom_runtime::Chain;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    driver::Driver,
    source::SourceError,
    table::{Table, Volume},
    volume::Target,
};

/// Changes that wait to be sent.
const BACKLOG: usize = 64;
/// Volumes that are read at a time after events; all pods of a node may hold the same secret.
const REFRESHES_MAX: usize = 16;
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Keeps the stream open while there are volumes, until the shutdown resolves.
pub async fn run(driver: Arc<Driver>, shutdown: impl Future<Output = ()>) {
    tokio::select! {
        () = reconnect(&driver) => {}
        () = shutdown => {}
    }
}

async fn reconnect(driver: &Arc<Driver>) {
    let mut pause = PAUSE_MIN;
    loop {
        until_wanted(&driver.table).await;
        let began = Instant::now();
        match session(driver).await {
            Ok(()) => tracing::debug!("the key service ended the stream"),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the key service does not tell of changes");
            }
        }
        // A stream that held is opened again at once: it ends with the driver's token, several times a day.
        pause = if began.elapsed() > PAUSE_MAX {
            PAUSE_MIN
        } else {
            (pause * 2).min(PAUSE_MAX)
        };
        tokio::time::sleep(jittered(pause)).await;
    }
}

/// Between half of a pause and all of it, so that nodes do not come back all at once.
fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let share = (random % 1024) as f64 / 1024.0;
    pause.mul_f64(0.5 + share / 2.0)
}

/// Waits until there is a volume.
async fn until_wanted(table: &Table) {
    let mut changes = table.changes();
    while wanted(table).is_empty() {
        // The sender is the table's, which outlives this.
        let _ = changes.changed().await;
    }
}

/// Opens the stream once, and follows it to its end.
async fn session(driver: &Arc<Driver>) -> Result<(), SourceError> {
    let (sender, receiver) = mpsc::channel(BACKLOG);
    tokio::select! {
        outcome = follow(driver, receiver) => outcome,
        never = announce(&driver.table, sender) => match never {},
    }
}

async fn follow(
    driver: &Arc<Driver>,
    changes: mpsc::Receiver<WatchRequest>,
) -> Result<(), SourceError> {
    let mut events = driver.source.watch(ReceiverStream::new(changes)).await?;
    tracing::info!("the key service tells of changes");
    let _connected = driver.counters.connected();
    let slots = Arc::new(Semaphore::new(REFRESHES_MAX));
    let mut refreshes = JoinSet::new();
    while let Some(WatchEvent { volume, event }) = events.next().await? {
        while refreshes.try_join_next().is_some() {}
        let (Some(target), Some(event)) = (find(&driver.table, &volume), event) else {
            continue;
        };
        let (driver, slots, came) = (driver.clone(), slots.clone(), Instant::now());
        refreshes.spawn(async move {
            let _slot = slots.acquire_owned().await;
            match event {
                Event::Etag(etag) => {
                    driver.refresh(&target, &etag).await;
                    driver.counters.followed(came.elapsed());
                }
                Event::Ended(reason) => {
                    let reason = reason.escape_default().take(64).collect::<String>();
                    tracing::info!(volume = %target, reason, "the subscription ended");
                    driver.ended(&target, &reason).await;
                }
            }
        });
    }
    Ok(())
}

fn find(table: &Table, name: &str) -> Option<Target> {
    let volumes = table.volumes();
    let found = volumes
        .iter()
        .find(|volume| volume.target.to_string() == name);
    found.map(|volume| volume.target.clone())
}

/// Sends each change of the table, beginning with everything.
async fn announce(table: &Table, sender: mpsc::Sender<WatchRequest>) -> Infallible {
    let mut sent = BTreeMap::new();
    let mut changes = table.changes();
    loop {
        changes.mark_unchanged();
        for change in difference(&mut sent, &wanted(table)) {
            let request = match change {
                Step::Add(volume) => match subscription(&volume) {
                    Some(subscription) => Change::Add(subscription),
                    None => continue,
                },
                Step::Untold(name) => Change::Untold(name),
                Step::Remove(name) => Change::Remove(name),
            };
            let request = WatchRequest {
                change: Some(request),
            };
            // When nobody receives, the stream is ending, and whoever follows it says so.
            let _ = sender.send(request).await;
        }
        let _ = changes.changed().await;
    }
}

/// Volumes by name, each with the number of its subscription; none while there is no token for it.
type Wanted = BTreeMap<String, (Option<u64>, Arc<Volume>)>;

fn wanted(table: &Table) -> Wanted {
    let entry = |volume: Arc<Volume>| {
        let state = volume.state();
        let subscription = state.access.map(|_| state.subscription);
        (volume.target.to_string(), (subscription, volume))
    };
    table.volumes().into_iter().map(entry).collect()
}

enum Step {
    Add(Arc<Volume>),
    Untold(String),
    Remove(String),
}

/// What has to be said so that the key service knows what is wanted.
fn difference(sent: &mut BTreeMap<String, Option<u64>>, wanted: &Wanted) -> Vec<Step> {
    let gone: Vec<String> = sent
        .keys()
        .filter(|name| !wanted.contains_key(*name))
        .cloned()
        .collect();
    let mut steps = Vec::new();
    for name in gone {
        sent.remove(&name);
        steps.push(Step::Remove(name));
    }
    for (name, (subscription, volume)) in wanted {
        if sent.insert(name.clone(), *subscription) == Some(*subscription) {
            continue;
        }
        steps.push(match subscription {
            Some(_) => Step::Add(volume.clone()),
            None => Step::Untold(name.clone()),
        });
    }
    steps
}

fn subscription(volume: &Volume) -> Option<VolumeSubscription> {
    let state = volume.state();
    let ask = crate::driver::ask(&volume.target, &state.access?, state.etag);
    Some(VolumeSubscription {
        volume: volume.target.to_string(),
        pod_token: ask.token_text(),
        pod_uid: ask.pod_uid.clone(),
        want: Some(ask.want()),
        have: ask.have,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use strongroom_core::SecretBytes;

    use super::*;
    use crate::{request::Wanted, table::Access};

    fn target(volume: &str) -> Target {
        let path = format!("/pods/uid/volumes/kubernetes.io~csi/{volume}/mount");
        Target::parse(&path, Path::new("/pods")).unwrap()
    }

    async fn publish(table: &Table, volume: &str) {
        let turn = table.turn(&target(volume)).await;
        turn.update(|state| {
            state.access = Some(Access {
                token: Arc::new(SecretBytes::copy_from(b"t")),
                wanted: Wanted::Secrets(vec!["db".to_owned()]),
                optional: false,
                group: 0,
            });
        });
        table.announce(&turn);
    }

    fn told(sent: &mut BTreeMap<String, Option<u64>>, table: &Table) -> Vec<String> {
        let text = |step| match step {
            Step::Add(volume) => format!("+{}", volume.target),
            Step::Untold(name) => format!("?{name}"),
            Step::Remove(name) => format!("-{name}"),
        };
        let steps = difference(sent, &wanted(table));
        steps.into_iter().map(text).collect()
    }

    #[tokio::test]
    async fn the_key_service_is_told_each_change_once() {
        let (table, mut sent) = (Table::default(), BTreeMap::new());
        // Found after a restart: nothing can be asked for it yet.
        drop(table.turn(&target("found")).await);
        assert_eq!(told(&mut sent, &table), ["?uid/found"]);
        publish(&table, "a").await;
        publish(&table, "b").await;
        publish(&table, "found").await;
        assert_eq!(told(&mut sent, &table), ["+uid/a", "+uid/b", "+uid/found"]);
        assert_eq!(told(&mut sent, &table), [""; 0]);
        publish(&table, "b").await;
        table.forget(table.turn(&target("a")).await);
        assert_eq!(told(&mut sent, &table), ["-uid/a", "+uid/b"]);
    }

    #[test]
    fn pauses_are_spread_over_their_upper_half() {
        for _ in 0..1000 {
            let pause = jittered(PAUSE_MAX);
            assert!((PAUSE_MAX / 2..=PAUSE_MAX).contains(&pause), "{pause:?}");
        }
    }
}
