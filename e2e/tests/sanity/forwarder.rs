//! Hands each call of csi-sanity to the driver and says that there is a controller: without one the suite publishes nothing.
//! What it changes on the way is what kubelet would have said: a read-only volume, and a path that ends in `mount`.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use strongroom_api::csi::v1::{
    ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse,
    ControllerServiceCapability, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse,
    GetPluginInfoRequest, GetPluginInfoResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodePublishVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    PluginCapability, ProbeRequest, ProbeResponse, Volume,
    controller_server::{Controller, ControllerServer},
    controller_service_capability::{self, Rpc},
    identity_client::IdentityClient,
    identity_server::{Identity, IdentityServer},
    node_client::NodeClient,
    node_server::{Node, NodeServer},
    plugin_capability::{self, Service},
};
use strongroom_runtime::socket;
use tokio::{net::UnixListener, runtime::Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server},
};

use crate::stage::{Stage, mapped};

/// The forwarder, on a thread of its own.
pub(crate) struct Forwarder {
    runtime: Runtime,
    socket: PathBuf,
    published: Arc<AtomicUsize>,
}

impl Forwarder {
    pub(crate) fn start(stage: &Stage) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let path = stage.path("forwarder.sock");
        let _inside = runtime.enter();
        let listener = UnixListener::bind(&path)?;
        let calls = Calls::new(&stage.socket(), stage.pod_uid());
        let published = calls.published.clone();
        let served = Server::builder()
            .add_service(IdentityServer::new(calls.clone()))
            .add_service(ControllerServer::new(calls.clone()))
            .add_service(NodeServer::new(calls))
            .serve_with_incoming(UnixListenerStream::new(listener));
        runtime.spawn(served);
        Ok(Self {
            runtime,
            socket: path,
            published,
        })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many publishes the driver answered with OK.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    pub(crate) fn end(self) {
        self.runtime.shutdown_background();
    }
}

#[derive(Clone)]
struct Calls {
    driver: Channel,
    pod_uid: String,
    published: Arc<AtomicUsize>,
}

impl Calls {
    fn new(driver: &Path, pod_uid: String) -> Self {
        Self {
            driver: socket::channel(driver, 0),
            pod_uid,
            published: Arc::default(),
        }
    }

    fn identity(&self) -> IdentityClient<Channel> {
        IdentityClient::new(self.driver.clone())
    }

    fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(self.driver.clone())
    }
}

#[tonic::async_trait]
impl Identity for Calls {
    async fn get_plugin_info(
        &self,
        request: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        self.identity().get_plugin_info(request).await
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = Service {
            r#type: plugin_capability::service::Type::ControllerService.into(),
        };
        let capability = PluginCapability {
            r#type: Some(plugin_capability::Type::Service(service)),
        };
        Ok(Response::new(GetPluginCapabilitiesResponse {
            capabilities: vec![capability],
        }))
    }

    async fn probe(
        &self,
        request: Request<ProbeRequest>,
    ) -> Result<Response<ProbeResponse>, Status> {
        self.identity().probe(request).await
    }
}

#[tonic::async_trait]
impl Controller for Calls {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let context = [
            ("secrets", "db"),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.name", "api-1"),
            ("csi.storage.k8s.io/pod.namespace", "payments"),
            ("csi.storage.k8s.io/pod.uid", self.pod_uid.as_str()),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let volume = Volume {
            capacity_bytes: 0,
            volume_id: request.into_inner().name,
            volume_context: context.into_iter().map(owned).collect::<HashMap<_, _>>(),
        };
        Ok(Response::new(CreateVolumeResponse {
            volume: Some(volume),
        }))
    }

    async fn delete_volume(
        &self,
        _: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        Ok(Response::new(DeleteVolumeResponse {}))
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let rpc = Rpc {
            r#type: controller_service_capability::rpc::Type::CreateDeleteVolume.into(),
        };
        let capability = ControllerServiceCapability {
            r#type: Some(controller_service_capability::Type::Rpc(rpc)),
        };
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: vec![capability],
        }))
    }
}

#[tonic::async_trait]
impl Node for Calls {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let mut request = request.into_inner();
        request.readonly = true;
        request.target_path = mapped(&request.target_path);
        let answer = self.node().node_publish_volume(request).await?;
        self.published.fetch_add(1, Ordering::Relaxed);
        Ok(answer)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let mut request = request.into_inner();
        request.target_path = mapped(&request.target_path);
        self.node().node_unpublish_volume(request).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let mut request = request.into_inner();
        request.volume_path = mapped(&request.volume_path);
        self.node().node_get_volume_stats(request).await
    }

    async fn node_get_capabilities(
        &self,
        request: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        self.node().node_get_capabilities(request).await
    }

    async fn node_get_info(
        &self,
        request: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.node().node_get_info(request).await
    }
}
