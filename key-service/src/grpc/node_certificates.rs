//! `strongroom.kms.v1.NodeCertificates`, on the port for plugins of other nodes.

use std::sync::Arc;

use strongroom_api::strongroom::kms::v1 as wire;
use strongroom_core::{NodeIdentity, NodeRole};
use strongroom_runtime::fault;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    identity::{node_of, origin},
    parse::field,
};
use crate::service::{CallError, IssuedNodeCertificate, Service};

/// Strangers may ask for this call, so it gets the work of two at a time: an administrator enrols node after node.
const ENROLMENTS_MAX: usize = 2;

/// Serves certificates to plugins of other nodes.
pub(crate) struct NodeCertificatesServer {
    service: Arc<Service>,
    enrolments: Semaphore,
}

impl NodeCertificatesServer {
    /// Serves them out of a service.
    pub(crate) fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            enrolments: Semaphore::new(ENROLMENTS_MAX),
        }
    }

    fn answer(&self, issued: IssuedNodeCertificate) -> Response<wire::NodeCertificate> {
        let IssuedNodeCertificate {
            chain_pem,
            certificate,
        } = issued;
        Response::new(wire::NodeCertificate {
            chain_pem,
            serial: certificate.serial,
            not_before_ms: certificate.not_before.as_i64(),
            not_after_ms: certificate.not_after.as_i64(),
            instance_id: self.service.registry.instance().id.to_string(),
        })
    }
}

#[tonic::async_trait]
impl wire::node_certificates_server::NodeCertificates for NodeCertificatesServer {
    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::NodeCertificate>, Status> {
        let _slot = self
            .enrolments
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("other nodes are being enrolled; try again"))?;
        let origin = origin(&request);
        let wire::EnrolRequest {
            node,
            secret,
            request_pem,
        } = request.into_inner();
        let secret = Zeroizing::new(secret);
        let identity = NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: field("node", &node)?,
        };
        let issued = self
            .service
            .enrol_node(origin, identity, &secret, &request_pem)
            .await
            .map_err(CallError::into_status)?;
        fault::point!("key-service.enrol.before-reply");
        Ok(self.answer(issued))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::NodeCertificate>, Status> {
        let credential = node_of(&request)?;
        let origin = origin(&request);
        let request_pem = request.into_inner().request_pem;
        let issued = self
            .service
            .renew_node(credential, origin, &request_pem)
            .await
            .map_err(CallError::into_status)?;
        fault::point!("key-service.renew.before-reply");
        Ok(self.answer(issued))
    }
}
