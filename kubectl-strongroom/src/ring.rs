//! `ring adopt`: an administrator gives the ring of a namespace that is no more to the one that has its name now.

use std::io::Write;

use strongroom_api::strongroom::v1::{AdoptKeyRingRequest, Owner, keys_client::KeysClient};

use crate::{
    args::RingAdoptArgs,
    cluster::{Cluster, Kind, Kubeconfig, Scope, objects::Named},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::plain,
    rpc::CallError,
    target::RingTarget,
};

/// Why no ring is adopted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    #[error("there is no namespace {0}, so there is nobody to give the ring to")]
    NoNamespace(String),
    #[error(
        "no namespace is given, and there is no kubeconfig to go by; give --namespace and --namespace-uid"
    )]
    NoPlace,
}

impl RingError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoNamespace(_) => Exit::Failed,
            Self::NoPlace => Exit::Usage,
        }
    }
}

/// Asks the key service for it, as an administrator.
pub(crate) async fn adopt(
    args: RingAdoptArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let RingAdoptArgs {
        name: RingTarget(name),
        namespace,
        namespace_uid,
        cluster_name,
        reason,
        connection,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let named = namespace.namespace.map(|name| name.to_string());
    let (namespace, uid) = match (named, namespace_uid) {
        (Some(namespace), Some(uid)) => (namespace, uid),
        (named, uid) => {
            let kubeconfig =
                Kubeconfig::find(&connection.cluster, environment).ok_or(RingError::NoPlace)?;
            let cluster = Cluster::open(kubeconfig).await?;
            let namespace = cluster.namespace(named);
            let uid = match uid {
                Some(uid) => uid,
                None => uid_of(&cluster, &namespace).await?,
            };
            (namespace, uid)
        }
    };
    let request = AdoptKeyRingRequest {
        owner: Some(Owner {
            cluster: cluster_name
                .map(|name| name.to_string())
                .unwrap_or_default(),
            namespace: namespace.clone(),
            namespace_uid: uid.clone(),
        }),
        name: name.to_string(),
        reason: reason.to_string(),
    };
    let ring = KeysClient::new(connect(&settings).await?)
        .adopt_key_ring(request)
        .await
        .map_err(|status| CallError::new("adopt the ring", status))?
        .into_inner();
    writeln!(
        out,
        "KeyRing {namespace}/{name} ({}) belongs to the namespace with uid {}",
        plain(&ring.id),
        plain(&uid),
    )?;
    Ok(Exit::Ok)
}

async fn uid_of(cluster: &Cluster, namespace: &str) -> Result<String, CommandError> {
    let found: Option<Named> = cluster
        .get(Kind::Namespace, Scope::Cluster, namespace)
        .await?;
    match found {
        // One that is going will not keep anything.
        Some(found) if found.metadata.deletion_timestamp.is_none() => Ok(found.metadata.uid),
        _ => Err(RingError::NoNamespace(namespace.to_owned()).into()),
    }
}
