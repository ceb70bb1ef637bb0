//! The calls of the socket: who asks, may it, then the worker. Nothing here knows what a call means.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use strongroom_api::strongroom::hsm::v1::{
    self as pb, hsm_agent_server::HsmAgent, worker_answer::Answer, worker_call::Call,
};
use strongroom_hsm::{HsmError, Reason, wire};
use strongroom_runtime::socket::Peer;
use tonic::{Request, Response, Status, async_trait};
use zeroize::Zeroize;

use crate::{
    config::PeerConfig,
    metrics::{AgentMetrics, OK},
    rpc::Rpc,
    supervisor::Worker,
};

/// Which peer may make which call.
#[derive(Debug, Clone)]
pub(crate) struct AllowList(Arc<BTreeMap<u32, BTreeSet<Rpc>>>);

impl AllowList {
    /// Takes the lists of the configuration.
    pub(crate) fn new(peers: &[PeerConfig]) -> Self {
        Self(Arc::new(
            peers
                .iter()
                .map(|peer| (peer.uid, peer.allow.clone()))
                .collect(),
        ))
    }

    fn check(&self, peer: Option<&Peer>, rpc: Rpc) -> Result<(), HsmError> {
        let refused = |who: String| {
            HsmError::new(
                Reason::PeerNotAllowed,
                format!("{who} may not call {}", rpc.name()),
            )
        };
        let Some(peer) = peer else {
            return Err(refused("a peer without credentials".to_owned()));
        };
        match self.0.get(&peer.uid) {
            Some(calls) if calls.contains(&rpc) => Ok(()),
            _ => Err(refused(format!("uid {}", peer.uid))),
        }
    }
}

/// The service of the socket.
pub(crate) struct Server {
    pub(crate) allowed: AllowList,
    pub(crate) worker: Worker,
    pub(crate) metrics: AgentMetrics,
}

impl Server {
    /// Does a call for a peer that may make it, and counts the outcome.
    async fn answer<Q, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        ask: impl AsyncFnOnce(Q) -> Result<A, HsmError>,
    ) -> Result<Response<A>, Status> {
        let mut observation = self.metrics.requests.observe(rpc.name());
        let outcome = match self.allowed.check(request.extensions().get::<Peer>(), rpc) {
            Ok(()) => ask(request.into_inner()).await,
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(answer) => {
                observation.outcome(OK);
                Ok(Response::new(answer))
            }
            Err(error) => {
                let reason = error.reason().name();
                observation.outcome(reason);
                tracing::warn!(rpc = rpc.name(), reason, %error, "call failed");
                Err(wire::into_status(&error))
            }
        }
    }
}

/// The worker and the parent are the same program, so another kind of answer is a fault of the worker.
fn unexpected(mut answer: Answer) -> HsmError {
    if let Answer::UnwrapKek(response) = &mut answer {
        response.kek.zeroize();
    }
    HsmError::new(Reason::TokenFailed, "the worker answered another question")
}

/// Passes a call on to the worker and takes the answer of its kind.
macro_rules! ask_worker {
    ($self:ident, $request:ident, $rpc:ident, $answer:ident) => {
        $self
            .answer(Rpc::$rpc, $request, async |request| {
                match $self.worker.call(Call::$rpc(request)).await? {
                    Answer::$answer(answer) => Ok(answer),
                    other => Err(unexpected(other)),
                }
            })
            .await
    };
}

#[async_trait]
impl HsmAgent for Server {
    async fn describe(
        &self,
        request: Request<pb::DescribeRequest>,
    ) -> Result<Response<pb::TokenDescription>, Status> {
        self.answer(Rpc::Describe, request, async |_| {
            Ok((&*self.worker.last_look()).into())
        })
        .await
    }

    async fn initialize(
        &self,
        request: Request<pb::InitializeRequest>,
    ) -> Result<Response<pb::TokenDescription>, Status> {
        ask_worker!(self, request, Initialize, Description)
    }

    async fn random(
        &self,
        request: Request<pb::RandomRequest>,
    ) -> Result<Response<pb::RandomResponse>, Status> {
        ask_worker!(self, request, Random, Random)
    }

    async fn wrap_kek(
        &self,
        request: Request<pb::WrapKekRequest>,
    ) -> Result<Response<pb::WrapKekResponse>, Status> {
        ask_worker!(self, request, WrapKek, WrapKek)
    }

    async fn sign_kek_record(
        &self,
        request: Request<pb::SignKekRecordRequest>,
    ) -> Result<Response<pb::SignKekRecordResponse>, Status> {
        ask_worker!(self, request, SignKekRecord, SignKekRecord)
    }

    async fn unwrap_kek(
        &self,
        request: Request<pb::UnwrapKekRequest>,
    ) -> Result<Response<pb::UnwrapKekResponse>, Status> {
        ask_worker!(self, request, UnwrapKek, UnwrapKek)
    }

    async fn certify_checkpoint_key(
        &self,
        request: Request<pb::CertifyCheckpointKeyRequest>,
    ) -> Result<Response<pb::CertifyCheckpointKeyResponse>, Status> {
        ask_worker!(self, request, CertifyCheckpointKey, CertifyCheckpointKey)
    }

    async fn sign_ca_certificate(
        &self,
        request: Request<pb::SignCaCertificateRequest>,
    ) -> Result<Response<pb::SignCaCertificateResponse>, Status> {
        ask_worker!(self, request, SignCaCertificate, SignCaCertificate)
    }

    async fn make_token(
        &self,
        request: Request<pb::MakeTokenRequest>,
    ) -> Result<Response<pb::MakeTokenResponse>, Status> {
        self.answer(Rpc::MakeToken, request, async |_| {
            self.worker.make_token().await?;
            Ok(pb::MakeTokenResponse {})
        })
        .await
    }
}
