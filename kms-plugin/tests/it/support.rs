//! A key service that exists only here, on a real Unix socket, and a plugin in front of it. The real one comes in e2e.

pub(crate) mod program;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use strongroom_api::{
    kubernetes::kms::v2::{
        DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
        key_management_service_client::KeyManagementServiceClient,
    },
    strongroom::kms::v1::{
        self, Activation, ProbeRequest, ProbeResponse,
        etcd_keys_server::{EtcdKeys, EtcdKeysServer},
    },
};
use strongroom_kms_plugin::{
    config::{Config, KeyService, Listen, StatusConfig},
    serve,
};
use strongroom_runtime::{
    Handle,
    socket::{self, Peers, SocketOptions},
    tasks::Tasks,
};
use tempfile::TempDir;
use tonic::{Request, Response, Status, transport::Channel};

/// The instance of the fake key service.
pub(crate) const INSTANCE: &str = "0123456789abcdef0123456789abcdef";

/// What kube-apiserver seals.
pub(crate) const SEED: &[u8] = &[42; 32];

/// What one sealed seed is bound to.
type Bound = (String, HashMap<String, Vec<u8>>, Vec<u8>);

/// What the fake key service holds.
pub(crate) struct Facts {
    pub(crate) instance: String,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    pub(crate) activations: Vec<Activation>,
    /// What every call is answered with instead.
    pub(crate) failure: Option<Status>,
    /// How long every call takes.
    pub(crate) delay: Duration,
    sealed: HashMap<Vec<u8>, Bound>,
}

/// A fake key service. A clone is another handle to it.
#[derive(Clone)]
pub(crate) struct Fake {
    facts: Arc<Mutex<Facts>>,
    pub(crate) probes: Arc<AtomicU64>,
    pub(crate) encrypts: Arc<AtomicU64>,
    pub(crate) decrypts: Arc<AtomicU64>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let facts = Facts {
            instance: INSTANCE.to_owned(),
            epoch: 1,
            seq: 1,
            activations: Vec::new(),
            failure: None,
            delay: Duration::ZERO,
            sealed: HashMap::new(),
        };
        let fake = Self {
            facts: Arc::new(Mutex::new(facts)),
            probes: Arc::default(),
            encrypts: Arc::default(),
            decrypts: Arc::default(),
        };
        fake.rotate();
        fake
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    /// Makes a new version primary and returns its key id.
    pub(crate) fn rotate(&self) -> String {
        let mut facts = self.facts();
        let number = u32::try_from(facts.activations.len()).unwrap() + 1;
        let key_id = format!("key-{number}");
        let version = format!("{}.{number}", facts.epoch);
        facts.activations.push(Activation {
            key_id: key_id.clone(),
            number,
            version,
        });
        facts.seq += 1;
        key_id
    }

    /// Serves on a path until the tasks are stopped.
    pub(crate) fn serve(&self, path: &std::path::Path) -> Tasks {
        let options = SocketOptions::new(Peers::for_api_server([us()]).unwrap());
        let incoming = socket::bind(path, options).unwrap();
        let tasks = Tasks::default();
        let shutdown = tasks.shutdown();
        let service = EtcdKeysServer::new(self.clone());
        tasks.spawn("fake", async move {
            let mut server = tonic::transport::Server::builder();
            server
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, shutdown)
                .await
        });
        tasks
    }

    async fn enter(&self, counter: &AtomicU64) -> Result<(), Status> {
        counter.fetch_add(1, Ordering::SeqCst);
        let (delay, failure) = {
            let facts = self.facts();
            (facts.delay, facts.failure.clone())
        };
        tokio::time::sleep(delay).await;
        failure.map_or(Ok(()), Err)
    }
}

#[tonic::async_trait]
impl EtcdKeys for Fake {
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.enter(&self.probes).await?;
        let facts = self.facts();
        Ok(Response::new(ProbeResponse {
            instance_id: facts.instance.clone(),
            primary: facts.activations.last().cloned(),
            readable: facts.activations.clone(),
            store_epoch: facts.epoch,
            seq: facts.seq,
        }))
    }

    async fn encrypt(
        &self,
        request: Request<v1::EncryptRequest>,
    ) -> Result<Response<v1::EncryptResponse>, Status> {
        self.enter(&self.encrypts).await?;
        let request = request.into_inner();
        let mut facts = self.facts();
        if facts.activations.last().unwrap().key_id != request.key_id {
            return Err(Status::aborted("not the primary"));
        }
        let ciphertext = format!("sealed-{}", facts.sealed.len()).into_bytes();
        let bound = (
            request.key_id.clone(),
            request.annotations,
            request.plaintext,
        );
        facts.sealed.insert(ciphertext.clone(), bound);
        Ok(Response::new(v1::EncryptResponse {
            ciphertext,
            key_id: request.key_id,
        }))
    }

    async fn decrypt(
        &self,
        request: Request<v1::DecryptRequest>,
    ) -> Result<Response<v1::DecryptResponse>, Status> {
        self.enter(&self.decrypts).await?;
        let request = request.into_inner();
        let facts = self.facts();
        match facts.sealed.get(&request.ciphertext) {
            Some((key_id, annotations, plaintext))
                if *key_id == request.key_id && *annotations == request.annotations =>
            {
                Ok(Response::new(v1::DecryptResponse {
                    plaintext: plaintext.clone(),
                }))
            }
            _ => Err(Status::invalid_argument("the ciphertext cannot be opened")),
        }
    }
}

pub(crate) fn us() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Folders, a fake key service, and what a plugin needs to know of them.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) fake: Fake,
    pub(crate) config: Config,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            listen: Listen {
                path: folder.path().join("kms.sock"),
                peers: vec![us()],
                group: None,
            },
            key_service: KeyService {
                socket: Some(folder.path().join("keys.sock")),
                uid: Some(us()),
                endpoints: Vec::new(),
                identity_dir: None,
                root_sha256: None,
            },
            state: folder.path().join("state.json"),
            probes: ([127, 0, 0, 1], 0).into(),
            status: StatusConfig {
                interval: Duration::from_millis(50),
                retry_interval: Duration::from_millis(50),
                max_age: Duration::from_millis(500),
            },
            deadline: Duration::from_secs(2),
            concurrency: 64,
            log: "info".to_owned(),
        };
        Self {
            folder,
            fake: Fake::new(),
            config,
        }
    }

    /// Starts the fake key service.
    pub(crate) fn serve(&self) -> Tasks {
        self.fake.serve(&self.socket())
    }

    /// The socket of the fake key service.
    pub(crate) fn socket(&self) -> PathBuf {
        let socket = self.config.key_service.socket.as_deref();
        socket.expect("the rig has one").to_owned()
    }

    /// Starts a plugin in this process.
    pub(crate) fn start(&self) -> Plugin {
        let handle = Handle::default();
        serve::start(&handle, &self.config).unwrap();
        Plugin {
            handle,
            path: self.config.listen.path.clone(),
        }
    }

    /// Starts both, and waits until Status answers.
    pub(crate) async fn ready(&self) -> (Tasks, Plugin, Client) {
        let tasks = self.serve();
        let plugin = self.start();
        let client = plugin.client();
        client.until_ok().await;
        (tasks, plugin, client)
    }
}

/// A running plugin.
pub(crate) struct Plugin {
    pub(crate) handle: Handle,
    path: PathBuf,
}

impl Plugin {
    pub(crate) fn client(&self) -> Client {
        Client::new(&self.path)
    }

    /// Ends as a process does after SIGTERM.
    pub(crate) async fn stop(self) {
        self.handle.tasks.stop();
        self.handle.tasks.join().await.unwrap();
    }

    /// Waits until a metric has a value.
    pub(crate) async fn until_metric(&self, name: &str, value: &str) {
        eventually(name, async || self.metric(name).filter(|now| now == value)).await;
    }

    /// Finds the value of a metric by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let text = String::from_utf8(self.handle.metrics.encode()).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.to_owned())
    }
}

/// What kube-apiserver does.
#[derive(Clone)]
pub(crate) struct Client(KeyManagementServiceClient<Channel>);

impl Client {
    pub(crate) fn new(path: &std::path::Path) -> Self {
        Self(KeyManagementServiceClient::new(socket::channel(path, us())))
    }

    pub(crate) async fn status(&self) -> Result<StatusResponse, Status> {
        Ok(self.0.clone().status(StatusRequest {}).await?.into_inner())
    }

    pub(crate) async fn encrypt(&self, seed: &[u8]) -> Result<EncryptResponse, Status> {
        let request = EncryptRequest {
            plaintext: seed.to_vec(),
            uid: "uid-of-test".to_owned(),
        };
        Ok(self.0.clone().encrypt(request).await?.into_inner())
    }

    pub(crate) async fn decrypt(&self, sealed: &EncryptResponse) -> Result<Vec<u8>, Status> {
        let request = DecryptRequest {
            ciphertext: sealed.ciphertext.clone(),
            uid: "uid-of-test".to_owned(),
            key_id: sealed.key_id.clone(),
            annotations: sealed.annotations.clone(),
        };
        Ok(self
            .0
            .clone()
            .decrypt(request)
            .await?
            .into_inner()
            .plaintext)
    }

    /// Waits until Status answers with a key id, and returns it.
    pub(crate) async fn until_ok(&self) -> String {
        let answer = eventually("Status answers", async || self.status().await.ok());
        answer.await.key_id
    }

    /// Waits until Status names a key id.
    pub(crate) async fn until_key_id(&self, key_id: &str) {
        let status = async || self.status().await.ok();
        eventually("Status names the key id", async || {
            status().await.filter(|status| status.key_id == key_id)
        })
        .await;
    }

    /// Waits until Status is an error whose text holds a text, and returns it.
    pub(crate) async fn until_error(&self, text: &str) -> Status {
        let error = async || self.status().await.err();
        eventually(text, async || {
            error().await.filter(|error| error.message().contains(text))
        })
        .await
    }
}

/// Asks again and again until there is an answer. What never comes fails the test rather than hangs it; the patience is
/// far beyond what a slow machine needs.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..6_000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
