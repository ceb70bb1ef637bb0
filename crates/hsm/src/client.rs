//! The client of hsm-agent's socket.

use std::{path::Path, time::Duration};

use async_trait::async_trait;
use strongroom_api::strongroom::hsm::v1::{self as pb, hsm_agent_client::HsmAgentClient};
use strongroom_core::{InstanceId, SecretBytes};
use strongroom_runtime::socket;
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    CaCertificateRequest, CheckpointKeyStatement, Hsm, HsmError, KekPlace, KekRecord, Reason,
    RootEnvelope, SignedKekRecord, TokenDescription, TokenSignature, wire,
};

/// The agent waits for a second before a call and for ten in it; a bit more, so that its own answer arrives.
const DEADLINE: Duration = Duration::from_secs(12);

/// Asks hsm-agent over its socket. Path, socket and listener are checked before the first byte of each connection, and
/// the connection is made again after a loss. A clone shares the connection.
#[derive(Clone, Debug)]
pub struct AgentClient(HsmAgentClient<Channel>);

impl AgentClient {
    /// Prepares a client of the socket at `path`, on which the user `owner` listens. Connects at the first call; must be
    /// made within a runtime.
    pub fn new(path: &Path, owner: u32) -> Self {
        Self(HsmAgentClient::new(socket::channel(path, owner)))
    }

    /// Has SoftHSM's token made where nothing of one is; where one is, nothing changes. No other module has such a call, so it
    /// is not in [`Hsm`].
    ///
    /// # Errors
    /// The agent makes no tokens, or could not.
    pub async fn make_token(&self) -> Result<(), HsmError> {
        let message = request(pb::MakeTokenRequest {});
        answered(self.client().make_token(message).await).map(drop)
    }

    fn client(&self) -> HsmAgentClient<Channel> {
        self.0.clone()
    }
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

fn answered<T>(outcome: Result<Response<T>, Status>) -> Result<T, HsmError> {
    outcome
        .map(Response::into_inner)
        .map_err(|status| wire::from_status(&status))
}

/// An answer that does not parse came from an agent that does not fit.
fn parsed<T>(outcome: Result<T, wire::MalformedField>) -> Result<T, HsmError> {
    outcome.map_err(|field| {
        HsmError::new(
            Reason::TokenFailed,
            format!("the agent's answer is malformed: {field}"),
        )
    })
}

fn signature(bytes: &[u8]) -> Result<TokenSignature, HsmError> {
    parsed(wire::array("signature", bytes)).map(TokenSignature::from_bytes)
}

#[async_trait]
impl Hsm for AgentClient {
    async fn describe(&self) -> Result<TokenDescription, HsmError> {
        let token = answered(
            self.client()
                .describe(request(pb::DescribeRequest {}))
                .await,
        )?;
        parsed(token.try_into())
    }

    async fn initialize(&self, instance: InstanceId) -> Result<TokenDescription, HsmError> {
        let instance_id = instance.as_bytes().to_vec();
        let message = pb::InitializeRequest { instance_id };
        parsed(answered(self.client().initialize(request(message)).await)?.try_into())
    }

    async fn random(&self, len: usize) -> Result<SecretBytes, HsmError> {
        let length = u32::try_from(len).unwrap_or(u32::MAX);
        let response = answered(
            self.client()
                .random(request(pb::RandomRequest { length }))
                .await,
        )?;
        match SecretBytes::new(response.random) {
            random if random.len() == len => Ok(random),
            random => {
                let sentence = format!("the agent gave {} random bytes, not {len}", random.len());
                Err(HsmError::new(Reason::TokenFailed, sentence))
            }
        }
    }

    async fn wrap_kek(&self, place: KekPlace, kek: &SecretBytes) -> Result<RootEnvelope, HsmError> {
        let KekPlace {
            instance,
            ring,
            generation,
        } = place;
        let message = pb::WrapKekRequest {
            instance_id: instance.as_bytes().to_vec(),
            ring_id: ring.as_bytes().to_vec(),
            generation: generation.get(),
            kek: kek.expose().to_vec(),
        };
        let response = answered(self.client().wrap_kek(request(message)).await)?;
        parsed(wire::present("envelope", response.envelope).and_then(TryInto::try_into))
    }

    async fn sign_kek_record(&self, record: KekRecord) -> Result<SignedKekRecord, HsmError> {
        let message = pb::SignKekRecordRequest {
            record: Some((&record).into()),
        };
        let response = answered(self.client().sign_kek_record(request(message)).await)?;
        Ok(SignedKekRecord {
            record,
            signature: signature(&response.signature)?,
        })
    }

    async fn unwrap_kek(&self, record: &SignedKekRecord) -> Result<SecretBytes, HsmError> {
        let message = pb::UnwrapKekRequest {
            record: Some(record.into()),
        };
        let response = answered(self.client().unwrap_kek(request(message)).await)?;
        match SecretBytes::new(response.kek) {
            kek if kek.len() == crate::KEK_LEN => Ok(kek),
            _ => Err(HsmError::new(
                Reason::TokenFailed,
                "the agent gave a KEK of another length",
            )),
        }
    }

    async fn certify_checkpoint_key(
        &self,
        statement: &CheckpointKeyStatement,
    ) -> Result<TokenSignature, HsmError> {
        let message: pb::CertifyCheckpointKeyRequest = statement.into();
        let response = answered(self.client().certify_checkpoint_key(request(message)).await)?;
        signature(&response.signature)
    }

    async fn sign_ca_certificate(
        &self,
        wanted: &CaCertificateRequest,
    ) -> Result<Vec<u8>, HsmError> {
        let message: pb::SignCaCertificateRequest = wanted.into();
        let response = answered(self.client().sign_ca_certificate(request(message)).await)?;
        Ok(response.certificate)
    }
}
