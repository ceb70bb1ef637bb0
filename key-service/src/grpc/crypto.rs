//! `strongroom.v1.Crypto`, by certificate on one port and by token on the other.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use super::{
    identity::by_either,
    parse::{checksum, context, field, locator},
};
use crate::service::{CallError, DecryptRequest, EncryptRequest, Service};

/// Serves the use of keys.
#[derive(Clone)]
pub(crate) struct CryptoServer(pub Arc<Service>);

#[tonic::async_trait]
impl wire::crypto_server::Crypto for CryptoServer {
    async fn encrypt(
        &self,
        request: Request<wire::EncryptRequest>,
    ) -> Result<Response<wire::EncryptResponse>, Status> {
        let caller = by_either(&request)?;
        let request = request.into_inner();
        let plaintext = Zeroizing::new(request.plaintext);
        checksum("plaintext", request.plaintext_crc32c, &plaintext)?;
        let encrypt = EncryptRequest {
            ring: field("ring_id", &request.ring_id)?,
            key: locator(&request.key)?,
            plaintext: &plaintext,
            context: context(request.context)?,
        };
        let sealed = self
            .0
            .encrypt(&caller, encrypt)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(wire::EncryptResponse {
            ciphertext_crc32c: crc32c::crc32c(&sealed.ciphertext),
            ciphertext: sealed.ciphertext,
            key_id: sealed.key.to_string(),
            version: sealed.version.to_string(),
        }))
    }

    async fn decrypt(
        &self,
        request: Request<wire::DecryptRequest>,
    ) -> Result<Response<wire::DecryptResponse>, Status> {
        let caller = by_either(&request)?;
        let request = request.into_inner();
        checksum("ciphertext", request.ciphertext_crc32c, &request.ciphertext)?;
        let decrypt = DecryptRequest {
            ring: field("ring_id", &request.ring_id)?,
            ciphertext: &request.ciphertext,
            context: context(request.context)?,
        };
        let opened = self
            .0
            .decrypt(&caller, decrypt)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(wire::DecryptResponse {
            plaintext_crc32c: crc32c::crc32c(opened.plaintext.expose()),
            plaintext: opened.plaintext.expose().to_vec(),
            key_id: opened.key.to_string(),
            version: opened.version.to_string(),
            used_primary: opened.used_primary,
        }))
    }
}
