//! The operator hears of what others changed, and how many volumes hold the current version of a secret.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use strongroom_api::strongroom::v1::{
    KeyRingState, ObjectEvent, RotateSecretRequest, SecretState, VolumeSubscription, Want,
    WatchEvent, WatchObjectsRequest, WatchRequest, pods_client::PodsClient, watch_event::Event,
    watch_request::Change,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::support::{API, Clusters, DRIVER, Process, object, reader, up, with_token};

/// Far more than an event takes; nobody waits for it unless something is wrong.
const EVENT: Duration = Duration::from_secs(20);

/// More than what drivers get to open their streams after a start.
const HERE: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_others_and_readers_are_told() -> Result<()> {
    let world = up("objects-watch", 29_160)?;
    let operator = Process::of(&world, &world.east).await?;
    let west = Process::of(&world, &world.west).await?;
    let mut events = watch(&operator).await?;
    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    let db = object("payments", "uid-of-payments", "db", "db-1");
    // Of another cluster nothing is told.
    west.ring(&ring, Vec::new()).await??;
    let made = operator.ring(&ring, Vec::new()).await??;
    ensure!(next(&mut events).await? == "KEY_RING payments/main");
    operator.secret(&db, "main", vec![reader(&API)]).await??;
    ensure!(next(&mut events).await? == "MANAGED_SECRET payments/db");
    ensure!(consumers(&operator.secret(&db, "main", vec![reader(&API)]).await??) == (0, 0));

    // A volume that holds what there is.
    let (volumes, sent) = mpsc::channel(8);
    let mut driver = follow(&world, sent).await?;
    volumes.send(subscription(&world, "")?).await?;
    let first = etag(&mut driver).await?;
    until(&operator, &mut events, &db, (1, 0)).await?;
    volumes.send(subscription(&world, &first)?).await?;
    until(&operator, &mut events, &db, (1, 1)).await?;

    // A person rotates: the operator hears of it, and the volume is behind until its driver says otherwise.
    let native = world.administrator().await?;
    native.secrets().rotate_secret(rotation(&made)).await?;
    ensure!(next(&mut events).await? == "MANAGED_SECRET payments/db");
    let second = etag(&mut driver).await?;
    ensure!(second != first);
    ensure!(consumers(&operator.secret(&db, "main", vec![reader(&API)]).await??) == (1, 0));
    volumes.send(subscription(&world, &second)?).await?;
    until(&operator, &mut events, &db, (1, 1)).await?;

    // Without its stream the volume counts on with what it held, until its driver is back and says otherwise.
    drop((volumes, driver));
    native.secrets().rotate_secret(rotation(&made)).await?;
    ensure!(next(&mut events).await? == "MANAGED_SECRET payments/db");
    ensure!(consumers(&operator.secret(&db, "main", vec![reader(&API)]).await??) == (1, 0));
    let (volumes, sent) = mpsc::channel(8);
    let _driver = follow(&world, sent).await?;
    volumes.send(removal()).await?;
    until(&operator, &mut events, &db, (0, 0)).await?;
    world.down()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_start_volumes_of_older_secrets_may_be_missing() -> Result<()> {
    let mut world = up("objects-pending", 29_170)?;
    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    let db = object("payments", "uid-of-payments", "db", "db-1");
    let operator = Process::of(&world, &world.east).await?;
    operator.ring(&ring, Vec::new()).await??;
    let access = || vec![reader(&API)];
    let made = operator.secret(&db, "main", access()).await??;
    ensure!(!made.consumers_pending);

    world.restart()?;
    let operator = Process::of(&world, &world.east).await?;
    let older = operator.secret(&db, "main", access()).await??;
    ensure!(older.consumers_pending);
    let api = object("payments", "uid-of-payments", "api", "api-1");
    let younger = operator.secret(&api, "main", Vec::new()).await??;
    ensure!(!younger.consumers_pending);

    // A driver that was started with it names what it cannot tell of, and is waited for.
    let mut events = watch(&operator).await?;
    let (volumes, sent) = mpsc::channel(8);
    let _driver = follow(&world, sent).await?;
    volumes.send(untold()).await?;
    tokio::time::sleep(HERE).await;
    let waiting = operator.secret(&db, "main", access()).await??;
    ensure!(waiting.consumers_pending);
    volumes.send(subscription(&world, "")?).await?;
    until(&operator, &mut events, &db, (1, 0)).await?;
    ensure!(next(&mut events).await? == "MANAGED_SECRET payments/db");
    let told = operator.secret(&db, "main", access()).await??;
    ensure!(consumers(&told) == (1, 0) && !told.consumers_pending);
    world.down()
}

/// The stream of the driver.
async fn follow(
    world: &Clusters,
    sent: mpsc::Receiver<WatchRequest>,
) -> Result<Streaming<WatchEvent>> {
    let request = with_token(ReceiverStream::new(sent), &world.east.token(&DRIVER)?)?;
    let mut pods = PodsClient::new(world.workloads().await?);
    Ok(pods.watch(request).await?.into_inner())
}

fn rotation(ring: &KeyRingState) -> RotateSecretRequest {
    RotateSecretRequest {
        ring_id: ring.ring.clone().unwrap_or_default().id,
        secret: "db".to_owned(),
        etag: String::new(),
    }
}

async fn watch(operator: &Process) -> Result<Streaming<ObjectEvent>> {
    let request = operator.request(WatchObjectsRequest {})?;
    Ok(operator.client().watch_objects(request).await?.into_inner())
}

/// The next event as `KIND NAMESPACE/NAME`.
async fn next(events: &mut Streaming<ObjectEvent>) -> Result<String> {
    let event = timeout(EVENT, events.message())
        .await
        .context("no event")??;
    let event = event.context("the stream ended")?;
    let kind = event
        .kind()
        .as_str_name()
        .trim_start_matches("OBJECT_KIND_");
    Ok(format!("{kind} {}/{}", event.namespace, event.name))
}

/// Follows the stream until a secret has so many volumes.
async fn until(
    operator: &Process,
    events: &mut Streaming<ObjectEvent>,
    db: &strongroom_api::strongroom::v1::ObjectRef,
    expected: (u32, u32),
) -> Result<()> {
    loop {
        ensure!(next(events).await? == "MANAGED_SECRET payments/db");
        let state = operator.secret(db, "main", vec![reader(&API)]).await??;
        if consumers(&state) == expected {
            return Ok(());
        }
    }
}

fn consumers(state: &SecretState) -> (u32, u32) {
    (state.consumers, state.consumers_current)
}

fn untold() -> WatchRequest {
    WatchRequest {
        change: Some(Change::Untold("secrets".to_owned())),
    }
}

fn removal() -> WatchRequest {
    WatchRequest {
        change: Some(Change::Remove("secrets".to_owned())),
    }
}

fn subscription(world: &Clusters, have: &str) -> Result<WatchRequest> {
    let add = VolumeSubscription {
        volume: "secrets".to_owned(),
        pod_token: world.east.token(&API)?,
        pod_uid: API.uid(),
        want: Some(Want {
            secrets: vec!["db".to_owned()],
            bundle: String::new(),
        }),
        have: have.to_owned(),
    };
    Ok(WatchRequest {
        change: Some(Change::Add(add)),
    })
}

async fn etag(driver: &mut Streaming<WatchEvent>) -> Result<String> {
    let event = timeout(EVENT, driver.message())
        .await
        .context("no event")??;
    match event.context("the stream ended")?.event {
        Some(Event::Etag(etag)) => Ok(etag),
        Some(Event::Ended(reason)) => bail!("{reason} in place of an etag"),
        None => bail!("an event says something"),
    }
}
