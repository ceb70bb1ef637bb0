//! The stream of a driver: what changed is told at once, without values, and only while it may be read.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use strongroom_api::strongroom::v1::{
    ReadForPodRequest, RotateSecretRequest, SetSecretAccessRequest, VolumeSubscription, WatchEvent,
    WatchRequest, watch_event::Event, watch_request::Change,
};
use strongroom_e2e::issuer::Pod;
use strongroom_hack::installation::Program;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::{
    pods::{connect, want},
    support::{
        API, Clusters, DRIVER, generated, make_ring, make_secret, owner, reader, up, with_token,
    },
};

/// Far more than an event takes; nobody waits for it unless something is wrong.
const EVENT: Duration = Duration::from_secs(20);

pub(crate) struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    events: Streaming<WatchEvent>,
}

impl Stream {
    pub(crate) async fn open(world: &Clusters, driver: &str) -> Result<Result<Self, Status>> {
        let (requests, sent) = mpsc::channel(8);
        let request = with_token(ReceiverStream::new(sent), driver)?;
        let opened = connect(world).await?.watch(request).await;
        Ok(opened.map(|events| Self {
            requests,
            events: events.into_inner(),
        }))
    }

    async fn add(
        &self,
        volume: &str,
        token: &str,
        pod: &Pod,
        secret: &str,
        have: &str,
    ) -> Result<()> {
        self.subscribe(VolumeSubscription {
            volume: volume.to_owned(),
            pod_token: token.to_owned(),
            pod_uid: pod.uid(),
            want: want(&[secret]),
            have: have.to_owned(),
        })
        .await
    }

    pub(crate) async fn subscribe(&self, add: VolumeSubscription) -> Result<()> {
        let change = Some(Change::Add(add));
        Ok(self.requests.send(WatchRequest { change }).await?)
    }

    /// The next event as `VOLUME etag ETAG` or `VOLUME ended REASON`.
    pub(crate) async fn next(&mut self) -> Result<String> {
        let message = timeout(EVENT, self.events.message())
            .await
            .context("no event")??;
        let WatchEvent { volume, event } = message.context("the stream ended")?;
        Ok(match event.context("an event says something")? {
            Event::Etag(etag) => format!("{volume} etag {etag}"),
            Event::Ended(reason) => format!("{volume} ended {reason}"),
        })
    }

    /// How the stream ends when nothing more comes.
    async fn end(&mut self) -> Result<Status> {
        match timeout(EVENT, self.events.message())
            .await
            .context("no end")?
        {
            Err(status) => Ok(status),
            Ok(message) => bail!("{:?} in place of an end", message.map(|event| event.volume)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_is_told_while_it_may_be_read() -> Result<()> {
    let mut world = up("secrets-watch", 23620)?;
    let native = world.administrator().await?;
    let ring = make_ring(&native, "payments", Some(owner("east", "payments"))).await?;
    for name in ["db", "web"] {
        make_secret(&native, &ring, name, generated(), vec![reader(&API)]).await?;
    }
    let rotate = async |secret: &str| {
        let request = RotateSecretRequest {
            ring_id: ring.id.clone(),
            secret: secret.to_owned(),
            etag: String::new(),
        };
        native.secrets().rotate_secret(request).await
    };
    let (driver, pod) = (world.east.token(&DRIVER)?, world.east.token(&API)?);
    let mut stream = Stream::open(&world, &driver).await??;

    // What a volume holds already is not told; what it should hold is, at once.
    let held = etag(&world, &driver, &pod).await?;
    stream.add("held", &pod, &API, "db", &held).await?;
    stream.add("empty", &pod, &API, "db", "").await?;
    ensure!(stream.next().await? == format!("empty etag {held}"));
    stream.add("web", &pod, &API, "web", "").await?;
    let web = stream.next().await?;
    ensure!(
        web.starts_with("web etag ") && !web.ends_with(&held),
        "{web}"
    );

    rotate("db").await?;
    let next = etag(&world, &driver, &pod).await?;
    let mut told = [stream.next().await?, stream.next().await?];
    told.sort();
    ensure!(
        told == [format!("empty etag {next}"), format!("held etag {next}")],
        "{told:?}"
    );

    // A volume that was removed is silent: the next event is the other's.
    let remove = Some(Change::Remove("empty".to_owned()));
    stream
        .requests
        .send(WatchRequest { change: remove })
        .await?;
    rotate("db").await?;
    let event = stream.next().await?;
    ensure!(
        event.starts_with("held etag ") && !event.ends_with(&next),
        "{event}"
    );

    // A subscription ends with its token, unless a newer one came under its name.
    let short = |pod: &Pod| world.east.token_with(pod, Duration::from_secs(3), |_| {});
    stream.add("web", &short(&API)?, &API, "web", "").await?;
    ensure!(stream.next().await?.starts_with("web etag "));
    ensure!(stream.next().await? == "web ended TokenExpired");

    // Whose role is taken away hears that, and no etag.
    let request = SetSecretAccessRequest {
        ring_id: ring.id.clone(),
        secret: "db".to_owned(),
        ..Default::default()
    };
    native.secrets().set_secret_access(request).await?;
    ensure!(stream.next().await? == "held ended RoleMissing");
    stream.add("held", &pod, &API, "db", "").await?;
    ensure!(stream.next().await? == "held ended RoleMissing");
    stream.add("nothing", &pod, &API, "nothing", "x").await?;
    ensure!(stream.next().await? == "nothing ended NotFound");
    // Who holds nothing may wait for what is not there yet.
    stream.add("later", &pod, &API, "later", "").await?;
    let elsewhere = world.east.token(&Pod {
        node: "worker-2",
        ..API
    })?;
    stream.add("elsewhere", &elsewhere, &API, "web", "").await?;
    ensure!(stream.next().await? == "elsewhere ended NotThisNode");
    make_secret(&native, &ring, "later", generated(), vec![reader(&API)]).await?;
    ensure!(stream.next().await?.starts_with("later etag "));

    streams_have_a_bound_and_end(&mut world, &driver, stream).await?;
    world.down()
}

async fn streams_have_a_bound_and_end(
    world: &mut Clusters,
    driver: &str,
    mut stream: Stream,
) -> Result<()> {
    let second = Stream::open(world, driver).await??;
    let third = Stream::open(world, driver)
        .await?
        .err()
        .context("a third stream")?;
    ensure!(third.code() == Code::ResourceExhausted, "{third:?}");
    let other_node = world.east.token(&Pod {
        node: "worker-2",
        ..DRIVER
    })?;
    Stream::open(world, &other_node).await??;
    drop(second);

    let short = world
        .east
        .token_with(&DRIVER, Duration::from_secs(3), |_| {})?;
    let mut ending = loop {
        // The place of the second comes back once its end has arrived.
        if let Ok(opened) = Stream::open(world, &short).await? {
            break opened;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let end = ending.end().await?;
    ensure!(end.code() == Code::Unauthenticated, "{end:?}");

    // An end of the process does not wait for streams.
    world.installation.stop(Program::KeyService)?;
    let last = timeout(EVENT, stream.events.message())
        .await
        .context("no end")?;
    ensure!(!matches!(last, Ok(Some(_))), "an event in place of an end");
    let log = world.installation.log_end(Program::KeyService);
    ensure!(!log.contains("still running"), "{log}");
    Ok(())
}

async fn etag(world: &Clusters, driver: &str, pod: &str) -> Result<String> {
    let message = ReadForPodRequest {
        pod_token: pod.to_owned(),
        pod_uid: API.uid(),
        want: want(&["db"]),
        have: String::new(),
    };
    let request = with_token(message, driver)?;
    let read = connect(world).await?.read_for_pod(request).await?;
    Ok(read.into_inner().etag)
}
