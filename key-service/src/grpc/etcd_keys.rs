//! `strongroom.kms.v1.EtcdKeys`, on the plugin's socket and on the port for plugins of other nodes.

use std::{collections::BTreeMap, sync::Arc};

use strongroom_api::strongroom::kms::v1 as wire;
use strongroom_core::{Activation, InstanceId};
use strongroom_runtime::fault;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    identity::{by_kms_socket, is_plain, node_of, origin},
    parse::field,
};
use crate::service::{CallContext, CallError, SeedRequest, Service};

/// Through which door plugins come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Door {
    /// The socket on this machine; the kernel says who they are.
    Socket,
    /// The TLS port; their certificates say who they are, and the registry what those are worth.
    Tls,
}

/// Serves the key of etcd to plugins.
pub(crate) struct EtcdKeysServer {
    /// What does it.
    pub service: Arc<Service>,
    /// Where they come from.
    pub door: Door,
}

impl EtcdKeysServer {
    /// Asked anew for each call: an identity that was revoked is refused on connections that are open, too.
    async fn context<T>(&self, request: &Request<T>) -> Result<CallContext, Status> {
        match self.door {
            Door::Socket => by_kms_socket(request),
            Door::Tls => self
                .service
                .admit_node(node_of(request)?, origin(request))
                .await
                .map_err(CallError::into_status),
        }
    }
}

fn pinned(text: &str) -> Result<Option<InstanceId>, Status> {
    if text.is_empty() {
        Ok(None)
    } else {
        field("instance_id", text).map(Some)
    }
}

fn activation((key_id, activation): &(String, Activation)) -> wire::Activation {
    wire::Activation {
        key_id: key_id.clone(),
        number: activation.number,
        version: activation.version.to_string(),
    }
}

/// The API server's uid of the operation joins our audit record with its log.
fn with_request_id(mut context: CallContext, request_id: &str) -> CallContext {
    if is_plain(request_id) {
        context.origin.request_id = request_id.to_owned();
    }
    context
}

#[tonic::async_trait]
impl wire::etcd_keys_server::EtcdKeys for EtcdKeysServer {
    async fn probe(
        &self,
        request: Request<wire::ProbeRequest>,
    ) -> Result<Response<wire::ProbeResponse>, Status> {
        let context = self.context(&request).await?;
        let instance = pinned(&request.get_ref().instance_id)?;
        let probe = self
            .service
            .probe_etcd_key(&context, instance)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(wire::ProbeResponse {
            instance_id: probe.instance.to_string(),
            primary: Some(activation(&probe.primary)),
            readable: probe.readable.iter().map(activation).collect(),
            store_epoch: probe.position.epoch.get(),
            seq: probe.position.seq,
        }))
    }

    async fn encrypt(
        &self,
        request: Request<wire::EncryptRequest>,
    ) -> Result<Response<wire::EncryptResponse>, Status> {
        let context = self.context(&request).await?;
        let request = request.into_inner();
        let context = with_request_id(context, &request.request_id);
        let plaintext = Zeroizing::new(request.plaintext);
        let annotations: BTreeMap<_, _> = request.annotations.into_iter().collect();
        let seed = SeedRequest {
            instance: pinned(&request.instance_id)?,
            key_id: &request.key_id,
            bytes: &plaintext,
            annotations: &annotations,
        };
        let ciphertext = self
            .service
            .encrypt_seed(&context, seed)
            .await
            .map_err(CallError::into_status)?;
        fault::point!("key-service.encrypt-seed.before-reply");
        Ok(Response::new(wire::EncryptResponse {
            ciphertext,
            key_id: request.key_id,
        }))
    }

    async fn decrypt(
        &self,
        request: Request<wire::DecryptRequest>,
    ) -> Result<Response<wire::DecryptResponse>, Status> {
        let context = self.context(&request).await?;
        let request = request.into_inner();
        let context = with_request_id(context, &request.request_id);
        let annotations: BTreeMap<_, _> = request.annotations.into_iter().collect();
        let seed = SeedRequest {
            instance: pinned(&request.instance_id)?,
            key_id: &request.key_id,
            bytes: &request.ciphertext,
            annotations: &annotations,
        };
        let opened = self
            .service
            .decrypt_seed(&context, seed)
            .await
            .map_err(CallError::into_status)?;
        fault::point!("key-service.decrypt-seed.before-reply");
        Ok(Response::new(wire::DecryptResponse {
            plaintext: opened.expose().to_vec(),
        }))
    }
}
