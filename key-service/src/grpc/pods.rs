//! `strongroom.v1.Pods`: the identity of a call is the token that it carries, whatever the connection.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use strongroom_api::strongroom::v1::{self as wire, watch_event, watch_request};
use strongroom_core::{Name, VOLUME_SECRETS_MAX};
use strongroom_runtime::tasks::Tasks;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{MissedTickBehavior, interval},
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    identity::{origin, shown},
    parse::field,
    running::{Running, Sender},
};
use crate::service::{
    CallError, Driver, Event, File, Service, Session, Subscription, VolumeRequest, Wanted,
};

/// Longest name that a driver gives a volume.
const VOLUME_NAME_MAX: usize = 128;
/// Longest etag that is compared; ours are shorter.
const ETAG_MAX: usize = 128;
/// Events that wait for a slow driver; then nothing more is decided until it reads.
const EVENTS_WAITING: usize = 64;
/// How often the clock is looked at for tokens that end: it can be turned.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Serves drivers over the port for workloads.
pub(crate) struct PodsServer {
    service: Arc<Service>,
    /// Streams end when the process does.
    tasks: Tasks,
}

impl PodsServer {
    pub(crate) fn new(service: Arc<Service>, tasks: Tasks) -> Self {
        Self { service, tasks }
    }

    /// The driver who calls.
    async fn driver<T>(&self, request: &Request<T>) -> Result<Driver, Status> {
        let driver = self.service.driver(shown(request)?, origin(request)).await;
        driver.map_err(CallError::into_status)
    }
}

fn volume_request(
    token: String,
    pod_uid: String,
    want: Option<wire::Want>,
) -> Result<VolumeRequest, Status> {
    Ok(VolumeRequest {
        token,
        pod_uid,
        wanted: wanted(want.unwrap_or_default())?,
    })
}

fn wanted(want: wire::Want) -> Result<Wanted, Status> {
    let wire::Want { secrets, bundle } = want;
    match (secrets.len(), bundle.as_str()) {
        (0, name) if !name.is_empty() => Ok(Wanted::Bundle(field("want.bundle", name)?)),
        (1..=VOLUME_SECRETS_MAX, "") => {
            let names = secrets.iter().map(|name| field("want.secrets", name));
            Ok(Wanted::Secrets(
                names.collect::<Result<BTreeSet<Name>, _>>()?,
            ))
        }
        _ => Err(Status::invalid_argument(format!(
            "want: 1 to {VOLUME_SECRETS_MAX} names of secrets, or the name of a bundle"
        ))),
    }
}

fn short_etag(etag: String) -> Result<String, Status> {
    if etag.len() <= ETAG_MAX {
        Ok(etag)
    } else {
        Err(Status::invalid_argument(
            "have: not one that this service gave",
        ))
    }
}

fn subscription(add: wire::VolumeSubscription) -> Result<Subscription, Status> {
    let wire::VolumeSubscription {
        volume,
        pod_token,
        pod_uid,
        want,
        have,
    } = add;
    Ok(Subscription {
        volume: named(volume)?,
        request: volume_request(pod_token, pod_uid, want)?,
        have: short_etag(have)?,
    })
}

fn named(volume: String) -> Result<String, Status> {
    if (1..=VOLUME_NAME_MAX).contains(&volume.len()) {
        return Ok(volume);
    }
    let sentence = format!("volume: 1 to {VOLUME_NAME_MAX} bytes");
    Err(Status::invalid_argument(sentence))
}

fn event(event: Event) -> wire::WatchEvent {
    let (volume, event) = match event {
        Event::Etag { volume, etag } => (volume, watch_event::Event::Etag(etag)),
        Event::Ended { volume, reason } => (volume, watch_event::Event::Ended(reason.to_owned())),
    };
    wire::WatchEvent {
        volume,
        event: Some(event),
    }
}

fn file(file: File) -> wire::VolumeFile {
    wire::VolumeFile {
        path: file.path,
        mode: file.mode.bits(),
        uid: file.uid,
        gid: file.gid,
        content: file.content.expose().to_vec(),
    }
}

#[tonic::async_trait]
impl wire::pods_server::Pods for PodsServer {
    async fn read_for_pod(
        &self,
        request: Request<wire::ReadForPodRequest>,
    ) -> Result<Response<wire::ReadForPodResponse>, Status> {
        let driver = self.driver(&request).await?;
        let wire::ReadForPodRequest {
            pod_token,
            pod_uid,
            want,
            have,
        } = request.into_inner();
        let wanted = volume_request(pod_token, pod_uid, want)?;
        let have = short_etag(have)?;
        let read = self.service.read_for_pod(&driver, &wanted, &have).await;
        let read = read.map_err(CallError::into_status)?;
        Ok(Response::new(wire::ReadForPodResponse {
            etag: read.etag,
            not_modified: read.files.is_none(),
            files: read.files.into_iter().flatten().map(file).collect(),
            instance_id: self.service.registry.instance().id.to_string(),
            store_epoch: read.position.epoch.get(),
            seq: read.position.seq,
        }))
    }

    type WatchStream = Running<wire::WatchEvent>;

    async fn watch(
        &self,
        request: Request<Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Running<wire::WatchEvent>>, Status> {
        let driver = self.driver(&request).await?;
        let session = self.service.watch(driver);
        let session = session.map_err(CallError::into_status)?;
        let (requests, shutdown) = (request.into_inner(), self.tasks.shutdown());
        let run = |sender| run(session, requests, sender, shutdown);
        Ok(Response::new(Running::new(EVENTS_WAITING, run)))
    }
}

/// Hears driver, registry and clock until the stream or the process ends.
async fn run(
    mut session: Session,
    mut requests: Streaming<wire::WatchRequest>,
    sender: Sender<wire::WatchEvent>,
    shutdown: impl Future<Output = ()>,
) {
    tokio::pin!(shutdown);
    let mut changes = session.changes();
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let events = tokio::select! {
            message = requests.message() => match message {
                Ok(Some(message)) => take(&mut session, message).await,
                Ok(None) | Err(_) => return,
            },
            changed = changes.recv() => match changed {
                Ok(object) => Ok(session.changed(Some(&object))),
                Err(RecvError::Lagged(_)) => Ok(session.changed(None)),
                Err(RecvError::Closed) => return,
            },
            _ = looks.tick() => session.elapsed().map_err(CallError::into_status),
            () = &mut shutdown => return,
        };
        let ends = events.is_err();
        let answers = match events {
            Ok(events) => events.into_iter().map(|it| Ok(event(it))).collect(),
            Err(status) => vec![Err(status)],
        };
        for answer in answers {
            // An error means that the driver is gone.
            if sender.send(answer).await.is_err() {
                return;
            }
        }
        if ends {
            return;
        }
    }
}

async fn take(session: &mut Session, message: wire::WatchRequest) -> Result<Vec<Event>, Status> {
    match message.change {
        Some(watch_request::Change::Add(add)) => {
            let event = session.add(subscription(add)?).await;
            Ok(event.into_iter().collect())
        }
        Some(watch_request::Change::Remove(volume)) => {
            session.remove(&volume);
            Ok(Vec::new())
        }
        Some(watch_request::Change::Untold(volume)) => {
            session.untold(&named(volume)?);
            Ok(Vec::new())
        }
        None => Err(Status::invalid_argument("change: is required")),
    }
}
