//! Volumes as kubelet asks for them, through the driver's own socket on a node: for what a kubelet would not do, such as
//! asking a thousand times.

use std::{collections::HashMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use strongroom_api::csi::v1::{
    NodeGetVolumeStatsRequest, NodePublishVolumeRequest, NodeUnpublishVolumeRequest,
    VolumeCapability, VolumeCondition,
    node_client::NodeClient,
    volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
};
use strongroom_hack::cluster::Node;
use tonic::transport::{Channel, Endpoint};

const SOCKET: &str = "/var/lib/kubelet/plugins/csi.strongroom.dev/csi.sock";

/// A connection to the driver's socket. Clones share it.
#[derive(Clone, Debug)]
pub struct Driver(NodeClient<Channel>);

impl Driver {
    /// Connects to the driver of a node.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn connect(node: &Node<'_>) -> Result<Self> {
        let socket = node.seen_from_outside(SOCKET)?;
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(socket).await?;
                    Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
                }
            }))
            .await?;
        Ok(Self(NodeClient::new(channel)))
    }

    /// Publishes a volume, for the first time or again.
    ///
    /// # Errors
    /// As the driver.
    pub async fn publish(&self, volume: &Volume, secrets: &str, token: &str) -> Result<()> {
        let request = volume.request(secrets, token);
        self.0.clone().node_publish_volume(request).await?;
        Ok(())
    }

    /// Takes a volume away.
    ///
    /// # Errors
    /// As the driver.
    pub async fn unpublish(&self, volume: &Volume) -> Result<()> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.id.clone(),
            target_path: volume.target(),
        };
        self.0.clone().node_unpublish_volume(request).await?;
        Ok(())
    }

    /// What kubelet is told of a volume.
    ///
    /// # Errors
    /// As the driver.
    pub async fn condition(&self, volume: &Volume) -> Result<VolumeCondition> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume.id.clone(),
            volume_path: volume.target(),
            ..NodeGetVolumeStatsRequest::default()
        };
        let stats = self.0.clone().node_get_volume_stats(request).await?;
        stats.into_inner().volume_condition.context("a condition")
    }
}

/// Where a volume of a pod is, and how kubelet calls it.
#[derive(Clone, Debug)]
pub struct Volume {
    id: String,
    pod_uid: String,
    /// Below kubelet's directory.
    folder: String,
}

impl Volume {
    /// The volume `secrets` of a pod that runs.
    ///
    /// # Errors
    /// When kubelet knows of none.
    pub fn of_pod(node: &Node<'_>, pod_uid: &str) -> Result<Self> {
        let mut volume = Self::named(pod_uid, "secrets");
        let data = fs::read_to_string(volume.folder_on(node).join("vol_data.json"))?;
        let data: serde_json::Value = serde_json::from_str(&data)?;
        let id = data["volumeHandle"].as_str().context("a volume's id")?;
        id.clone_into(&mut volume.id);
        Ok(volume)
    }

    /// A further volume of a pod, of which kubelet does not know; its folder is made as kubelet would.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn further(node: &Node<'_>, pod_uid: &str, name: &str) -> Result<Self> {
        let volume = Self::named(pod_uid, name);
        fs::create_dir(volume.folder_on(node))?;
        Ok(volume)
    }

    fn named(pod_uid: &str, name: &str) -> Self {
        Self {
            id: format!("csi-{name}"),
            pod_uid: pod_uid.to_owned(),
            folder: format!("pods/{pod_uid}/volumes/kubernetes.io~csi/{name}"),
        }
    }

    /// The folder around it, on the node's disk.
    #[must_use]
    pub fn folder_on(&self, node: &Node<'_>) -> PathBuf {
        node.on_disk(&format!("/var/lib/kubelet/{}", self.folder))
    }

    /// Where it is mounted, as the node sees it.
    #[must_use]
    pub fn target(&self) -> String {
        format!("/var/lib/kubelet/{}/mount", self.folder)
    }

    fn request(&self, secrets: &str, token: &str) -> NodePublishVolumeRequest {
        let tokens = serde_json::json!({"strongroom.dev": {
            "token": token, "expirationTimestamp": "2100-01-01T00:00:00Z",
        }});
        let context = [
            ("secrets", secrets),
            ("csi.storage.k8s.io/ephemeral", "true"),
            ("csi.storage.k8s.io/pod.uid", &self.pod_uid),
        ];
        let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        NodePublishVolumeRequest {
            volume_id: self.id.clone(),
            target_path: self.target(),
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode {
                    mode: Mode::SingleNodeWriter.into(),
                }),
                access_type: Some(AccessType::Mount(MountVolume {
                    volume_mount_group: "2000".to_owned(),
                    ..MountVolume::default()
                })),
            }),
            readonly: true,
            secrets: HashMap::from([(
                "csi.storage.k8s.io/serviceAccount.tokens".to_owned(),
                tokens.to_string(),
            )]),
            volume_context: context.map(owned).into(),
            ..NodePublishVolumeRequest::default()
        }
    }
}
