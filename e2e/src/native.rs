//! Native gRPC as an administrator.

use std::{fs, path::Path};

use anyhow::Result;
use strongroom_api::strongroom::v1::{
    instance_client::InstanceClient, keys_client::KeysClient, secrets_client::SecretsClient,
};
use strongroom_hack::installation::Installation;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A connection of an administrator.
#[derive(Clone, Debug)]
pub struct Native(Channel);

impl Native {
    /// Connects with the credentials that `Installation::administrator` made.
    ///
    /// # Errors
    /// When credentials are missing or the service does not answer.
    pub async fn connect(installation: &Installation, name: &str) -> Result<Self> {
        let at = |suffix: &str| installation.path("etc").join(format!("{name}{suffix}"));
        let read = |path: &Path| fs::read(path);
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&at("-root.crt"))?))
            .identity(Identity::from_pem(read(&at(".crt"))?, read(&at(".key"))?))
            .domain_name("key-service.strongroom.dev");
        let endpoint = Endpoint::from_shared(format!("https://{}", installation.server()))?;
        Ok(Self(endpoint.tls_config(tls)?.connect().await?))
    }

    /// The connection itself.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.0.clone()
    }

    /// The service of keys.
    #[must_use]
    pub fn keys(&self) -> KeysClient<Channel> {
        KeysClient::new(self.0.clone())
    }

    /// The service of secrets.
    #[must_use]
    pub fn secrets(&self) -> SecretsClient<Channel> {
        SecretsClient::new(self.0.clone())
    }

    /// The service that describes the installation.
    #[must_use]
    pub fn instance(&self) -> InstanceClient<Channel> {
        InstanceClient::new(self.0.clone())
    }
}
