//! A driver in this process, the fake key service behind it and kubelet's side of its sockets.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use strongroom_api::{
    csi::v1::{
        NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
        NodeUnpublishVolumeRequest, VolumeCapability, VolumeCondition,
        node_client::NodeClient,
        volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
    },
    kubernetes::pluginregistration::v1::registration_client::RegistrationClient,
};
use strongroom_csi_driver::{config::Config, serve};
use strongroom_runtime::{Handle, SystemClock, socket, tasks::Tasks};
use tonic::{Status, transport::Channel};

use super::{Kubelet, UID, fake::Fake};

/// The driver's own first token.
pub(crate) const BEARER: &str = "driver-token-1";
/// The pod's.
pub(crate) const POD_TOKEN: &str = "pod-token-canary-4711";

pub(crate) struct Stage {
    pub(crate) kubelet: Kubelet,
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    pub(crate) service: Tasks,
    pub(crate) config: Config,
}

impl Stage {
    /// Folders and a key service; no driver yet.
    pub(crate) async fn new() -> Self {
        let kubelet = Kubelet::new();
        let fake = Fake::new(BEARER);
        let (address, service) = fake.serve(([127, 0, 0, 1], 0).into()).await;
        let at = |name: &str| kubelet.folder.path().join(name);
        for folder in [
            "plugins/csi.strongroom.dev",
            "plugins_registry",
            "self-test",
        ] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("token"), BEARER).unwrap();
        fake.write_root(&at("root.crt"));
        let root = kubelet.folder.path().display();
        let text = format!(
            "kubeletDir: {root}\n\
             keyService: {{endpoints: ['{address}'], caFile: {root}/root.crt, tokenFile: {root}/token, deadline: 5s}}\n\
             volume: {{sizeMib: 1, inodes: 256, selfTestDir: {root}/self-test}}\n\
             staleAfter: 1s\n\
             probes: 127.0.0.1:0\n"
        );
        fs::write(at("config.yaml"), text).unwrap();
        Self {
            config: Config::load(&at("config.yaml")).unwrap(),
            kubelet,
            fake,
            address,
            service,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.kubelet.folder.path().join(name)
    }

    /// Starts a driver in this process.
    pub(crate) async fn start(&self) -> Driver {
        let handle = Handle::default();
        let (node, clock) = ("node-0".to_owned(), Arc::new(SystemClock));
        serve::start(&handle, &self.config, node, clock)
            .await
            .unwrap();
        Driver {
            handle,
            node: self.node(),
        }
    }

    /// kubelet's connection.
    pub(crate) fn node(&self) -> NodeClient<Channel> {
        NodeClient::new(socket::channel(&self.config.socket(), 0))
    }

    pub(crate) fn registration(&self) -> RegistrationClient<Channel> {
        RegistrationClient::new(socket::channel(&self.config.registration_socket(), 0))
    }

    /// What kubelet sends for a volume of the pod.
    pub(crate) fn request(&self, volume: &str, token: &str) -> NodePublishVolumeRequest {
        let map = |entries: &[(&str, &str)]| -> HashMap<String, String> {
            let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
            entries.iter().map(owned).collect()
        };
        let tokens = format!(r#"{{"strongroom.dev":{{"token":"{token}"}}}}"#);
        NodePublishVolumeRequest {
            volume_id: format!("csi-{volume}"),
            target_path: self.kubelet.mount(volume).to_str().unwrap().to_owned(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode {
                    mode: Mode::SingleNodeWriter.into(),
                }),
                access_type: Some(AccessType::Mount(MountVolume {
                    volume_mount_group: "1000".to_owned(),
                    ..MountVolume::default()
                })),
            }),
            readonly: true,
            secrets: map(&[("csi.storage.k8s.io/serviceAccount.tokens", &tokens)]),
            volume_context: map(&[
                ("secrets", "db"),
                ("csi.storage.k8s.io/ephemeral", "true"),
                ("csi.storage.k8s.io/pod.uid", UID),
            ]),
            ..NodePublishVolumeRequest::default()
        }
    }

    /// What is in the password's file.
    pub(crate) fn password(&self) -> String {
        fs::read_to_string(self.kubelet.mount("secrets").join("db/password")).unwrap_or_default()
    }
}

/// A running driver, as kubelet sees it.
pub(crate) struct Driver {
    pub(crate) handle: Handle,
    node: NodeClient<Channel>,
}

impl Driver {
    pub(crate) async fn publish(&self, stage: &Stage) -> Result<(), Status> {
        self.send(stage.request("secrets", POD_TOKEN)).await
    }

    pub(crate) async fn send(&self, request: NodePublishVolumeRequest) -> Result<(), Status> {
        let published = self.node.clone().node_publish_volume(request).await;
        published.map(|_| ())
    }

    pub(crate) async fn unpublish(&self, path: &str) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: "csi-secrets".to_owned(),
            target_path: path.to_owned(),
        };
        self.node
            .clone()
            .node_unpublish_volume(request)
            .await
            .map(|_| ())
    }

    pub(crate) async fn stats(
        &self,
        id: &str,
        path: &str,
    ) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: id.to_owned(),
            volume_path: path.to_owned(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let response = self.node.clone().node_get_volume_stats(request).await;
        response.map(tonic::Response::into_inner)
    }

    pub(crate) async fn condition(&self, stage: &Stage) -> VolumeCondition {
        let path = stage.kubelet.mount("secrets");
        let stats = self.stats("csi-secrets", path.to_str().unwrap()).await;
        stats.unwrap().volume_condition.unwrap()
    }

    /// The value of a metric by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> String {
        let text = String::from_utf8(self.handle.metrics.encode()).unwrap();
        let find = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
        text.lines().find_map(find).unwrap_or_default()
    }

    /// Ends as a process does after SIGTERM.
    pub(crate) async fn stop(self) {
        self.handle.tasks.stop();
        self.handle.tasks.join().await.unwrap();
    }
}

/// Asks again and again. What never comes fails the test rather than hangs it; the patience is far beyond what a slow
/// machine needs.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..6_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("never: {what}");
}
