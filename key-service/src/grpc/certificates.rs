//! `strongroom.v1.Certificates`, on the local socket for administrators.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use tonic::{Request, Response, Status};

use super::{identity::by_admin_socket, parse::duration};
use crate::service::{CallError, CertificateRequest, Service};

/// Serves certificates to the service's own user id.
pub(crate) struct CertificatesServer(pub Arc<Service>);

#[tonic::async_trait]
impl wire::certificates_server::Certificates for CertificatesServer {
    async fn issue_certificate(
        &self,
        request: Request<wire::IssueCertificateRequest>,
    ) -> Result<Response<wire::IssueCertificateResponse>, Status> {
        let context = by_admin_socket(&request)?;
        let wire::IssueCertificateRequest {
            name,
            request_pem,
            lifetime,
        } = request.into_inner();
        let lifetime = lifetime
            .map(|given| duration("lifetime", given))
            .transpose()?;
        let asked = CertificateRequest {
            name,
            request_pem,
            lifetime,
        };
        let issued = self
            .0
            .issue_certificate(&context, asked)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(wire::IssueCertificateResponse {
            chain_pem: issued.chain_pem,
            root_pem: issued.root_pem,
            serial: issued.serial,
        }))
    }
}
