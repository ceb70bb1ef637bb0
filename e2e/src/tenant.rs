//! Namespace `payments` of a cluster that the key service knows as `main`: a ring, a secret `db` in it, and pods that read it.

use anyhow::Result;
use strongroom_api::strongroom::v1::{
    CreateKeyRingRequest, CreateSecretRequest, GeneratedField, GeneratedSource, Owner, RandomText,
    RotateSecretRequest, SecretBinding, SecretRole, SecretSource, SetSecretAccessRequest,
    generated_field::Kind, keys_client::KeysClient, secret_source::Source,
    secrets_client::SecretsClient,
};
use strongroom_hack::cluster::{BUSYBOX, ScopedCluster};
use tokio::runtime::Runtime;
use tonic::transport::Channel;

/// A pod as its author writes it: not root, nothing writable, one volume of ours.
pub const READER: &str = include_str!("tenant/reader.yaml");
/// For `kubectl get -o`.
pub const UID: &str = "jsonpath={.metadata.uid}";

/// The namespace, and an administrator of the key service.
#[derive(Debug)]
pub struct Tenant {
    runtime: Runtime,
    channel: Channel,
    ring: String,
}

impl Tenant {
    /// Makes namespace, ring and secret; nobody may read it. `connect` opens the administrator's connection.
    ///
    /// # Errors
    /// As the API server or the key service.
    pub fn create(
        cluster: &ScopedCluster,
        connect: impl AsyncFnOnce() -> Result<Channel>,
    ) -> Result<Self> {
        cluster.kubectl(&["create", "namespace", "payments"])?;
        let namespace_uid = cluster.kubectl(&["get", "namespace", "payments", "-o", UID])?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let channel = runtime.block_on(connect())?;
        let request = CreateKeyRingRequest {
            name: "payments".to_owned(),
            owner: Some(Owner {
                cluster: "main".to_owned(),
                namespace: "payments".to_owned(),
                namespace_uid,
            }),
        };
        let created =
            runtime.block_on(KeysClient::new(channel.clone()).create_key_ring(request))?;
        let tenant = Self {
            ring: created.into_inner().id,
            runtime,
            channel,
        };
        tenant.create_secret("db")?;
        Ok(tenant)
    }

    fn secrets(&self) -> SecretsClient<Channel> {
        SecretsClient::new(self.channel.clone())
    }

    /// Makes another secret as `db` is: a user's name and a random password.
    ///
    /// # Errors
    /// As the key service.
    pub fn create_secret(&self, name: &str) -> Result<()> {
        let field = |name: &str, kind| GeneratedField {
            name: name.to_owned(),
            kind: Some(kind),
        };
        let source = Source::Generate(GeneratedSource {
            fields: vec![
                field("username", Kind::Value("payments_api".to_owned())),
                field("password", Kind::Random(RandomText::default())),
            ],
        });
        let request = CreateSecretRequest {
            ring_id: self.ring.clone(),
            name: name.to_owned(),
            source: Some(SecretSource {
                source: Some(source),
            }),
            access: Vec::new(),
        };
        self.runtime
            .block_on(self.secrets().create_secret(request))?;
        Ok(())
    }

    /// Lets a service account of the namespace, and no other, read the secret `db`.
    ///
    /// # Errors
    /// As the API server or the key service.
    pub fn grant(&self, cluster: &ScopedCluster, account: &str) -> Result<()> {
        self.grant_on(cluster, "db", account)
    }

    /// The same for any secret.
    ///
    /// # Errors
    /// As the API server or the key service.
    pub fn grant_on(&self, cluster: &ScopedCluster, secret: &str, account: &str) -> Result<()> {
        let uid = kubectl(cluster, &["get", "serviceaccount", account, "-o", UID])?;
        let request = SetSecretAccessRequest {
            ring_id: self.ring.clone(),
            secret: secret.to_owned(),
            etag: String::new(),
            access: vec![SecretBinding {
                role: SecretRole::SecretReader.into(),
                service_account: account.to_owned(),
                service_account_uid: uid,
            }],
        };
        self.runtime
            .block_on(self.secrets().set_secret_access(request))?;
        Ok(())
    }

    /// Makes the next version.
    ///
    /// # Errors
    /// As the key service.
    pub fn rotate(&self) -> Result<()> {
        let request = RotateSecretRequest {
            ring_id: self.ring.clone(),
            secret: "db".to_owned(),
            etag: String::new(),
        };
        self.runtime
            .block_on(self.secrets().rotate_secret(request))?;
        Ok(())
    }
}

/// `kubectl` in the namespace.
///
/// # Errors
/// As the API server.
pub fn kubectl(cluster: &ScopedCluster, words: &[&str]) -> Result<String> {
    cluster.kubectl(&[&["-n", "payments"], words].concat())
}

/// Makes a pod that reads the secret, and its service account of the same name.
///
/// # Errors
/// As the API server.
pub fn create_pod(cluster: &ScopedCluster, name: &str) -> Result<()> {
    kubectl(cluster, &["create", "serviceaccount", name])?;
    apply_pod(cluster, READER, name, name)
}

/// Makes a pod of a manifest, as a service account that is there.
///
/// # Errors
/// As the API server.
pub fn apply_pod(cluster: &ScopedCluster, manifest: &str, name: &str, account: &str) -> Result<()> {
    let manifest = manifest
        .replace("ACCOUNT", account)
        .replace("NAME", name)
        .replace("IMAGE", BUSYBOX);
    cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest)?;
    Ok(())
}

/// Waits until a pod runs.
///
/// # Errors
/// When it does not.
pub fn wait_until_runs(cluster: &ScopedCluster, pod: &str) -> Result<()> {
    let pod = format!("pod/{pod}");
    kubectl(
        cluster,
        &["wait", "--for=condition=Ready", &pod, "--timeout=120s"],
    )?;
    Ok(())
}

/// Runs a script in a pod.
///
/// # Errors
/// When it fails.
pub fn exec(cluster: &ScopedCluster, pod: &str, script: &str) -> Result<String> {
    kubectl(cluster, &["exec", pod, "--", "sh", "-c", script])
}

/// The token of a pod that runs, as kubelet would have it: bound to the pod and its node.
///
/// # Errors
/// As the API server.
pub fn pod_token(cluster: &ScopedCluster, pod: &str) -> Result<String> {
    let account = "jsonpath={.spec.serviceAccountName}";
    let account = kubectl(cluster, &["get", "pod", pod, "-o", account])?;
    let bound = format!("--bound-object-name={pod}");
    let words = ["create", "token", &account, "--audience=strongroom.dev"];
    let more = ["--bound-object-kind=Pod", &bound, "--duration=1h"];
    let token = kubectl(cluster, &[&words[..], &more].concat())?;
    Ok(token.trim().to_owned())
}
