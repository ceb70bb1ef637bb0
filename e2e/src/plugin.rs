//! The plugin's socket, as the API server uses it, for stories that need no API server.

use std::path::Path;

use anyhow::Result;
use strongroom_api::kubernetes::kms::v2::{
    DecryptRequest, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse,
    key_management_service_client::KeyManagementServiceClient,
};
use strongroom_hack::installation::{Installation, PLUGIN_UID};
use strongroom_runtime::socket;
use tonic::{Status, transport::Channel};

/// A blocking client.
#[derive(Debug)]
pub struct Plugin {
    runtime: tokio::runtime::Runtime,
    client: KeyManagementServiceClient<Channel>,
}

impl Plugin {
    /// Prepares a client, which connects at its first call and again after the plugin was away.
    ///
    /// # Errors
    /// When there is no runtime.
    pub fn new(installation: &Installation) -> Result<Self> {
        Self::at(&installation.plugin_socket())
    }

    /// The same for a plugin that listens elsewhere.
    ///
    /// # Errors
    /// As `new`.
    pub fn at(path: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let channel = {
            let _inside = runtime.enter();
            socket::channel(path, PLUGIN_UID)
        };
        let client = KeyManagementServiceClient::new(channel);
        Ok(Self { runtime, client })
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// As the plugin.
    pub fn status(&self) -> Result<StatusResponse, Status> {
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.status(StatusRequest {}))?;
        Ok(answer.into_inner())
    }

    /// Seals a seed.
    ///
    /// # Errors
    /// As the plugin.
    pub fn encrypt(&self, seed: &[u8]) -> Result<EncryptResponse, Status> {
        let request = EncryptRequest {
            plaintext: seed.to_vec(),
            uid: "story".to_owned(),
        };
        let mut client = self.client.clone();
        Ok(self.runtime.block_on(client.encrypt(request))?.into_inner())
    }

    /// Opens what `encrypt` gave.
    ///
    /// # Errors
    /// As the plugin.
    pub fn decrypt(&self, sealed: &EncryptResponse) -> Result<Vec<u8>, Status> {
        let EncryptResponse {
            ciphertext,
            key_id,
            annotations,
        } = sealed.clone();
        let request = DecryptRequest {
            ciphertext,
            uid: "story".to_owned(),
            key_id,
            annotations,
        };
        let mut client = self.client.clone();
        let answer = self.runtime.block_on(client.decrypt(request))?;
        Ok(answer.into_inner().plaintext)
    }
}
