//! Makes the driver known to kubelet, which looks for sockets in a folder and asks whoever serves there.

mod authority;

use std::{io, path::PathBuf};

use strongroom_api::kubernetes::pluginregistration::v1::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse, registration_server,
};
use strongroom_runtime::{
    Condition,
    socket::{Incoming, PeerStream},
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, transport::server::Connected};

use self::authority::Localhost;
use crate::NAME;

/// What kubelet knows as a CSI driver.
const TYPE: &str = "CSIPlugin";
/// The interface's version in kubelet's terms; all 1.x are one.
const VERSION: &str = "1.0.0";

/// kubelet does not take the driver. A restart registers it anew.
#[derive(Debug, thiserror::Error)]
#[error("kubelet refused to register the driver: {0}")]
pub struct NotRegistered(String);

/// The connections of kubelet as our HTTP/2 understands them.
pub fn understood(
    incoming: Incoming,
) -> impl Stream<
    Item = io::Result<
        impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
    >,
> {
    incoming.map(|stream: io::Result<PeerStream>| stream.map(Localhost::new))
}

/// Answers kubelet.
#[derive(Debug)]
pub struct Registration {
    socket: PathBuf,
    registered: Condition,
    refused: mpsc::Sender<NotRegistered>,
}

impl Registration {
    /// Announces the driver that serves on a socket; what kubelet refuses comes out of the receiver.
    pub fn new(socket: PathBuf, registered: Condition) -> (Self, mpsc::Receiver<NotRegistered>) {
        registered.missing("kubelet has not registered the driver");
        let (refused, receiver) = mpsc::channel(1);
        let registration = Self {
            socket,
            registered,
            refused,
        };
        (registration, receiver)
    }
}

#[tonic::async_trait]
impl registration_server::Registration for Registration {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo {
            r#type: TYPE.to_owned(),
            name: NAME.to_owned(),
            endpoint: self.socket.display().to_string(),
            supported_versions: vec![VERSION.to_owned()],
        }))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let RegistrationStatus {
            plugin_registered,
            error,
        } = request.into_inner();
        if plugin_registered {
            tracing::info!("registered with kubelet");
            self.registered.met();
        } else {
            // Full when kubelet has refused before, and the process is ending.
            let _ = self.refused.try_send(NotRegistered(error));
        }
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
