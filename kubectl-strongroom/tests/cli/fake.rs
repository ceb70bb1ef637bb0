//! A key service that says what a test tells it to, behind the TLS that clients must insist on.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    thread::JoinHandle,
};

use strongroom_api::strongroom::v1::{
    AdoptKeyRingRequest, AuditLog, ChangeVersionRequest, ClockJump, Condition, ConfirmClockRequest,
    ConfirmClockResponse, CreateKeyRequest, CreateKeyRingRequest, CreateSecretRequest,
    DescribeInstanceRequest, DescribeInstanceResponse, DescribeKeyRequest, DescribeSecretRequest,
    InviteNodeRequest, Key, KeyRing, KeyVersion, KeyVersionState, ListKeyRingsRequest,
    ListKeyRingsResponse, ListKeysRequest, ListKeysResponse, ListSecretsRequest,
    ListSecretsResponse, NodeInvitation, RevealSecretRequest, RevealSecretResponse,
    RotateKeyRequest, RotateSecretRequest, ScheduleVersionDestructionRequest, Secret, SecretStage,
    SecretVersion, ServiceClock, SetPrimaryVersionRequest, SetSecretAccessRequest,
    SetSecretValueRequest, Tenant, Token,
    clock_server::{Clock, ClockServer},
    instance_server::{Instance, InstanceServer},
    keys_server::{Keys, KeysServer},
    nodes_server::{Nodes, NodesServer},
    secrets_server::{Secrets, SecretsServer},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Request, Response, Status, async_trait,
    transport::{Certificate, Server, ServerTlsConfig},
};

use crate::pki::{Authority, Identity};

pub(crate) const RING: &str = "0f0e0d0c0b0a09080706050403020100";
pub(crate) const KEY: &str = "000102030405060708090a0b0c0d0e0f";

/// What the key service answers, and what it was asked.
pub(crate) struct State {
    pub(crate) instance: Result<DescribeInstanceResponse, Status>,
    pub(crate) key: Key,
    /// Answers a rotation instead of making it.
    pub(crate) rotation: Option<Status>,
    pub(crate) rotations: u32,
    /// Answers an invitation instead of making it.
    pub(crate) invitation: Option<Status>,
    /// What the clock's confirmation is answered with.
    pub(crate) confirmation: Result<ConfirmClockResponse, Status>,
    /// The times that confirmations brought along.
    pub(crate) seen: Vec<prost_types::Timestamp>,
    /// The fields of every secret.
    pub(crate) fields: HashMap<String, Vec<u8>>,
    /// Where the last value went.
    pub(crate) set: Option<(String, Option<Tenant>, String)>,
    /// What the last adoption asked for.
    pub(crate) adopted: Option<AdoptKeyRingRequest>,
    /// Secret and reason of the last reveal.
    pub(crate) revealed: Option<RevealSecretRequest>,
}

/// Serves until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub(crate) fn start(authority: &Authority, identity: &Identity) -> Self {
        let state = Arc::new(Mutex::new(State {
            instance: Ok(instance()),
            key: etcd_key(),
            rotation: None,
            rotations: 0,
            invitation: None,
            confirmation: Ok(confirmation()),
            seen: Vec::new(),
            fields: HashMap::new(),
            set: None,
            adopted: None,
            revealed: None,
        }));
        let tls = ServerTlsConfig::new()
            .identity(tonic::transport::Identity::from_pem(
                &identity.certificate,
                &identity.key,
            ))
            .client_ca_root(Certificate::from_pem(authority.pem()));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let handler = Handler(state.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async {
                let incoming = TcpListenerStream::new(TcpListener::from_std(listener).unwrap());
                Server::builder()
                    .tls_config(tls)
                    .unwrap()
                    .add_service(InstanceServer::new(handler.clone()))
                    .add_service(NodesServer::new(handler.clone()))
                    .add_service(ClockServer::new(handler.clone()))
                    .add_service(SecretsServer::new(handler.clone()))
                    .add_service(KeysServer::new(handler))
                    .serve_with_incoming_shutdown(incoming, async {
                        let _ = stopped.await;
                    })
                    .await
                    .unwrap();
            });
        });
        Self {
            address,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An installation in good health.
pub(crate) fn instance() -> DescribeInstanceResponse {
    DescribeInstanceResponse {
        instance_id: "d1d2d3d4d5d6d7d8d9dadbdcdddedfd0".to_owned(),
        version: "0.1.0".to_owned(),
        store_epoch: 1,
        seq: 42,
        store_root: "5f".repeat(32),
        token: Some(Token {
            label: "strongroom".to_owned(),
            serial: "1f2e3d4c5b6a7988".to_owned(),
            manufacturer: "SoftHSM project".to_owned(),
            model: "SoftHSM v2".to_owned(),
            hardware: false,
            wrap_profile: "AES-GCM with host IV".to_owned(),
        }),
        audit: Some(AuditLog {
            records: 1204,
            certifier_fingerprint: "ab".repeat(32),
            anchored_checkpoint: String::new(),
            anchored_at: None,
        }),
        system_ring_id: RING.to_owned(),
        etcd_key_id: KEY.to_owned(),
        conditions: vec![condition("HSM", true, "Reachable", "the token answers")],
        nodes: Vec::new(),
        clock: Some(ServiceClock {
            service_time: Some("2026-11-22T05:00:01Z".parse().unwrap()),
            wall_clock: Some("2026-11-22T05:00:01Z".parse().unwrap()),
            jump: None,
        }),
    }
}

/// A clock that was turned back by a little more than a day.
pub(crate) fn jump() -> ClockJump {
    ClockJump {
        noticed_at: Some("2026-11-22T04:00:00Z".parse().unwrap()),
        ahead: Some(prost_types::Duration {
            seconds: -86_461,
            nanos: -500_000_000,
        }),
    }
}

fn confirmation() -> ConfirmClockResponse {
    ConfirmClockResponse {
        service_time: Some("2026-11-22T05:00:01Z".parse().unwrap()),
        confirmed: Some(jump()),
    }
}

pub(crate) fn condition(r#type: &str, ok: bool, reason: &str, message: &str) -> Condition {
    Condition {
        r#type: r#type.to_owned(),
        ok,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn etcd_key() -> Key {
    let mut key = Key {
        id: KEY.to_owned(),
        ring_id: RING.to_owned(),
        name: "etcd".to_owned(),
        ..Key::default()
    };
    add_version(&mut key);
    key
}

/// The hash of the key id of the version with that number.
pub(crate) fn key_id_hash(number: usize) -> String {
    format!("sha256:{}", format!("{number:02x}").repeat(32))
}

fn add_version(key: &mut Key) {
    let number = key.versions.len() + 1;
    key.primary_version = format!("1.{number}");
    key.versions.push(KeyVersion {
        version: key.primary_version.clone(),
        state: KeyVersionState::Enabled.into(),
        ..KeyVersion::default()
    });
    key.etag = format!("etag-{number}");
    key.activation = u32::try_from(number).unwrap();
    key.key_id_hash = key_id_hash(number);
}

#[derive(Clone)]
struct Handler(Arc<Mutex<State>>);

#[async_trait]
impl Instance for Handler {
    async fn describe(
        &self,
        _: Request<DescribeInstanceRequest>,
    ) -> Result<Response<DescribeInstanceResponse>, Status> {
        self.0.lock().unwrap().instance.clone().map(Response::new)
    }
}

#[async_trait]
impl Nodes for Handler {
    async fn invite(
        &self,
        request: Request<InviteNodeRequest>,
    ) -> Result<Response<NodeInvitation>, Status> {
        if let Some(refusal) = self.0.lock().unwrap().invitation.clone() {
            return Err(refusal);
        }
        Ok(Response::new(NodeInvitation {
            instance_id: "d1d2d3d4d5d6d7d8d9dadbdcdddedfd0".to_owned(),
            node: request.into_inner().node,
            secret: "5e".repeat(32),
            expires: Some("2026-11-22T05:15:00Z".parse().unwrap()),
            root_sha256: "70".repeat(32),
            endpoints: vec!["192.0.2.10:8444".to_owned()],
        }))
    }
}

#[async_trait]
impl Clock for Handler {
    async fn confirm(
        &self,
        request: Request<ConfirmClockRequest>,
    ) -> Result<Response<ConfirmClockResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.seen.extend(request.into_inner().now);
        state.confirmation.clone().map(Response::new)
    }
}

#[async_trait]
impl Secrets for Handler {
    async fn set_secret_value(
        &self,
        request: Request<SetSecretValueRequest>,
    ) -> Result<Response<Secret>, Status> {
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        state.set = Some((request.ring_id, request.tenant, request.secret.clone()));
        state.fields = request.fields;
        Ok(Response::new(Secret {
            name: request.secret,
            versions: vec![
                secret_version("1.1", SecretStage::Previous),
                secret_version("1.2", SecretStage::Current),
            ],
            ..Secret::default()
        }))
    }

    async fn reveal_secret(
        &self,
        request: Request<RevealSecretRequest>,
    ) -> Result<Response<RevealSecretResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let mut fields = state.fields.clone();
        fields.retain(|name, _| *name == request.field);
        state.revealed = Some(request);
        if fields.is_empty() {
            return Err(Status::permission_denied("not you"));
        }
        Ok(Response::new(RevealSecretResponse {
            version: "1.2".to_owned(),
            fields,
        }))
    }

    async fn create_secret(
        &self,
        _: Request<CreateSecretRequest>,
    ) -> Result<Response<Secret>, Status> {
        Err(never())
    }

    async fn describe_secret(
        &self,
        _: Request<DescribeSecretRequest>,
    ) -> Result<Response<Secret>, Status> {
        Err(Status::not_found("not found"))
    }

    async fn list_secrets(
        &self,
        _: Request<ListSecretsRequest>,
    ) -> Result<Response<ListSecretsResponse>, Status> {
        Err(never())
    }

    async fn rotate_secret(
        &self,
        _: Request<RotateSecretRequest>,
    ) -> Result<Response<Secret>, Status> {
        Err(never())
    }

    async fn set_secret_access(
        &self,
        _: Request<SetSecretAccessRequest>,
    ) -> Result<Response<Secret>, Status> {
        Err(never())
    }
}

fn secret_version(version: &str, stage: SecretStage) -> SecretVersion {
    SecretVersion {
        version: version.to_owned(),
        stage: stage.into(),
        ..SecretVersion::default()
    }
}

#[async_trait]
impl Keys for Handler {
    async fn describe_key(
        &self,
        request: Request<DescribeKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let DescribeKeyRequest { ring_id, key } = request.into_inner();
        assert_eq!((ring_id.as_str(), key.as_str()), (RING, KEY));
        Ok(Response::new(self.0.lock().unwrap().key.clone()))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let mut state = self.0.lock().unwrap();
        let RotateKeyRequest { ring_id, key, etag } = request.into_inner();
        assert_eq!((ring_id.as_str(), key.as_str()), (RING, KEY));
        assert_eq!(etag, state.key.etag, "a rotation names what was read");
        if let Some(status) = &state.rotation {
            return Err(status.clone());
        }
        state.rotations += 1;
        add_version(&mut state.key);
        Ok(Response::new(state.key.clone()))
    }

    async fn create_key_ring(
        &self,
        _: Request<CreateKeyRingRequest>,
    ) -> Result<Response<KeyRing>, Status> {
        Err(never())
    }

    async fn adopt_key_ring(
        &self,
        request: Request<AdoptKeyRingRequest>,
    ) -> Result<Response<KeyRing>, Status> {
        let request = request.into_inner();
        let (name, owner) = (request.name.clone(), request.owner.clone());
        self.0.lock().unwrap().adopted = Some(request);
        let id = RING.to_owned();
        Ok(Response::new(KeyRing {
            id,
            name,
            owner,
            ..KeyRing::default()
        }))
    }

    async fn list_key_rings(
        &self,
        _: Request<ListKeyRingsRequest>,
    ) -> Result<Response<ListKeyRingsResponse>, Status> {
        Err(never())
    }

    async fn create_key(&self, _: Request<CreateKeyRequest>) -> Result<Response<Key>, Status> {
        Err(never())
    }

    async fn list_keys(
        &self,
        _: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        Err(never())
    }

    async fn set_primary_version(
        &self,
        _: Request<SetPrimaryVersionRequest>,
    ) -> Result<Response<Key>, Status> {
        Err(never())
    }

    async fn enable_version(
        &self,
        _: Request<ChangeVersionRequest>,
    ) -> Result<Response<Key>, Status> {
        Err(never())
    }

    async fn disable_version(
        &self,
        _: Request<ChangeVersionRequest>,
    ) -> Result<Response<Key>, Status> {
        Err(never())
    }

    async fn schedule_version_destruction(
        &self,
        _: Request<ScheduleVersionDestructionRequest>,
    ) -> Result<Response<Key>, Status> {
        Err(never())
    }

    async fn cancel_version_destruction(
        &self,
        _: Request<ChangeVersionRequest>,
    ) -> Result<Response<Key>, Status> {
        Err(never())
    }
}

fn never() -> Status {
    Status::unimplemented("no command calls this")
}
