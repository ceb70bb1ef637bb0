//! A key service that exists only here, behind real TLS: it fails, forgets and answers wrongly on command, which the real
//! one cannot be made to do. The real one is in the stories.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use strongroom_api::strongroom::v1::{
    ReadForPodRequest, ReadForPodResponse, VolumeFile, VolumeSubscription, WatchEvent,
    WatchRequest,
    pods_server::{Pods, PodsServer},
    watch_event::Event,
    watch_request::Change,
};
use strongroom_runtime::tasks::Tasks;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, Sender},
};
use tokio_stream::{Stream, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Identity, Server, ServerTlsConfig},
};

const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

/// What the fake key service holds and has seen.
pub(crate) struct Facts {
    /// The only driver's token that counts.
    pub(crate) bearer: String,
    /// Content of `db/password` by version; the last is current.
    pub(crate) versions: Vec<String>,
    /// What every read is answered with instead.
    pub(crate) failure: Option<Status>,
    /// Files that are sent beside the password.
    pub(crate) more: Vec<VolumeFile>,
    pub(crate) instance: String,
    pub(crate) epoch: u32,
    /// Reads, each with the etag that it came with.
    pub(crate) reads: Vec<String>,
    /// What is subscribed, by name.
    pub(crate) subscriptions: BTreeMap<String, VolumeSubscription>,
    /// Names of volumes for which the driver had no token.
    pub(crate) untold: BTreeSet<String>,
    streams: Vec<Sender<Result<WatchEvent, Status>>>,
    /// How often everybody was hung up.
    hang_ups: usize,
}

/// A fake key service. A clone is another handle to it.
#[derive(Clone)]
pub(crate) struct Fake {
    facts: Arc<Mutex<Facts>>,
    root: String,
    identity: Identity,
}

/// A file as the key service sends it.
pub(crate) fn sent(path: &str, content: &str) -> VolumeFile {
    VolumeFile {
        path: path.to_owned(),
        content: content.as_bytes().to_vec(),
        ..VolumeFile::default()
    }
}

impl Fake {
    pub(crate) fn new(bearer: &str) -> Self {
        let mut authority = CertificateParams::new([]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["key-service.strongroom.dev".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        Self {
            facts: Arc::new(Mutex::new(Facts {
                bearer: bearer.to_owned(),
                versions: vec!["first".to_owned()],
                failure: None,
                more: Vec::new(),
                instance: INSTANCE.to_owned(),
                epoch: 1,
                reads: Vec::new(),
                subscriptions: BTreeMap::new(),
                untold: BTreeSet::new(),
                streams: Vec::new(),
                hang_ups: 0,
            })),
            root: authority.pem(),
            identity: Identity::from_pem(leaf.pem(), key.serialize_pem()),
        }
    }

    pub(crate) fn write_root(&self, path: &Path) {
        fs::write(path, &self.root).unwrap();
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    /// Makes a new version, without a word to anybody.
    pub(crate) fn rotate(&self, content: &str) {
        self.facts().versions.push(content.to_owned());
    }

    /// Says on every stream that every volume has changed, or whatever the event is.
    pub(crate) fn tell(&self, event: &Event) {
        let facts = self.facts();
        for stream in &facts.streams {
            for volume in facts.subscriptions.keys() {
                let _ = stream.try_send(Ok(WatchEvent {
                    volume: volume.clone(),
                    event: Some(event.clone()),
                }));
            }
        }
    }

    /// The etag of what is current.
    pub(crate) fn etag(&self) -> String {
        self.facts().etag()
    }

    /// Serves on an address until the tasks are stopped; port 0 is any.
    pub(crate) async fn serve(&self, address: SocketAddr) -> (SocketAddr, Tasks) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::default();
        let tls = ServerTlsConfig::new().identity(self.identity.clone());
        let serving = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(PodsServer::new(self.clone()))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), tasks.shutdown());
        let (fake, stopping) = (self.clone(), tasks.shutdown());
        tasks.spawn("fake", async move {
            tokio::select! {
                served = serving => served,
                never = fake.end_streams(stopping) => never,
            }
        });
        (address, tasks)
    }

    /// Ends the streams of a server that stops: those that are there and those that its clients were just opening.
    async fn end_streams<T>(&self, stopping: impl Future<Output = ()>) -> T {
        stopping.await;
        loop {
            self.hang_up();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Ends every stream, as a key service that stops.
    pub(crate) fn hang_up(&self) {
        let mut facts = self.facts();
        facts.streams.clear();
        facts.subscriptions.clear();
        facts.hang_ups += 1;
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let facts = self.facts();
        let expected = format!("Bearer {}", facts.bearer);
        let bearer = request.metadata().get("authorization");
        if bearer.is_some_and(|bearer| bearer.as_bytes() == expected.as_bytes()) {
            Ok(())
        } else {
            Err(Status::unauthenticated("the driver's token is not valid"))
        }
    }
}

impl Facts {
    fn etag(&self) -> String {
        format!("etag-{}-{}", self.versions.len(), self.more.len())
    }
}

#[tonic::async_trait]
impl Pods for Fake {
    async fn read_for_pod(
        &self,
        request: Request<ReadForPodRequest>,
    ) -> Result<Response<ReadForPodResponse>, Status> {
        self.admit(&request)?;
        let ReadForPodRequest {
            pod_token, have, ..
        } = request.into_inner();
        let mut facts = self.facts();
        facts.reads.push(have.clone());
        if let Some(failure) = &facts.failure {
            return Err(failure.clone());
        }
        if !pod_token.starts_with("pod-token") {
            return Err(Status::unauthenticated("the pod's token is not valid"));
        }
        let etag = facts.etag();
        let not_modified = have == etag;
        let mut files = vec![sent("db/password", facts.versions.last().unwrap())];
        files.extend(facts.more.clone());
        Ok(Response::new(ReadForPodResponse {
            etag,
            not_modified,
            files: if not_modified { Vec::new() } else { files },
            instance_id: facts.instance.clone(),
            store_epoch: facts.epoch,
            seq: 1,
        }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchEvent, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.admit(&request)?;
        let mut changes = request.into_inner();
        let (sender, receiver) = mpsc::channel(1024);
        let hang_ups = {
            let mut facts = self.facts();
            facts.streams.push(sender);
            facts.hang_ups
        };
        let fake = self.clone();
        #[allow(clippy::disallowed_methods, reason = "ends with the stream")]
        tokio::spawn(async move {
            while let Ok(Some(change)) = changes.message().await {
                let mut facts = fake.facts();
                if facts.hang_ups != hang_ups {
                    return;
                }
                match change.change {
                    Some(Change::Add(added)) => {
                        facts.subscriptions.insert(added.volume.clone(), added);
                    }
                    Some(Change::Remove(name)) => {
                        facts.subscriptions.remove(&name);
                    }
                    Some(Change::Untold(name)) => {
                        facts.untold.insert(name);
                    }
                    None => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
