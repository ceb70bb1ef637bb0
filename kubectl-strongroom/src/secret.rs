//! `secret`: values go in from files or from a Secret of Kubernetes and come out on standard output, with the caller's own
//! identity.
//!
//! Which secret is meant is said by namespace and name, and found by the key service: nothing that is written in the
//! cluster decides where a value goes.

mod import;
mod values;

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    path::PathBuf,
};

use strongroom_api::strongroom::v1::{
    RevealSecretRequest, Secret, SecretStage, SetSecretValueRequest, Tenant,
    secrets_client::SecretsClient,
};
use strongroom_core::{FieldName, SecretBytes, VALUE_BYTES_MAX};
use tonic::transport::Channel;

use crate::{
    args::{ConnectionArgs, SecretPlaceArgs, SecretRevealArgs, SecretSetArgs},
    cluster::{Cluster, Kubeconfig},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::plain,
    rpc::CallError,
};
pub(crate) use import::{ImportError, import};
pub(crate) use values::FieldFile;

/// Why a value is not sent or not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot read the value of field {field} from {path:?}")]
    Read {
        field: FieldName,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the value of field {field} in {path:?} has more than {VALUE_BYTES_MAX} bytes")]
    TooLong { field: FieldName, path: PathBuf },
    #[error("the field {0} is given twice")]
    Twice(FieldName),
    #[error(
        "no namespace is given, and there is no kubeconfig to go by; give --namespace, or --ring"
    )]
    NoPlace,
    #[error("the key service answered without the field {0}")]
    Answer(FieldName),
}

impl SecretError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Read { .. } | Self::TooLong { .. } | Self::Twice(_) | Self::NoPlace => {
                Exit::Usage
            }
            Self::Answer(_) => Exit::Failed,
        }
    }
}

/// Where the key service looks for a name.
enum Place {
    Ring(String),
    Tenant(Tenant),
}

impl Place {
    /// From the command line, otherwise the namespace of the kubeconfig's context.
    async fn resolve(
        args: SecretPlaceArgs,
        connection: &ConnectionArgs,
        environment: &Environment,
    ) -> Result<Self, CommandError> {
        let SecretPlaceArgs {
            namespace,
            cluster_name,
            ring,
        } = args;
        if let Some(ring) = ring {
            return Ok(Self::Ring(ring.to_string()));
        }
        let namespace = match namespace.namespace {
            Some(name) => name.to_string(),
            None => {
                let kubeconfig = Kubeconfig::find(&connection.cluster, environment)
                    .ok_or(SecretError::NoPlace)?;
                Cluster::open(kubeconfig).await?.namespace(None)
            }
        };
        Ok(Self::Tenant(Tenant {
            cluster: cluster_name
                .map(|name| name.to_string())
                .unwrap_or_default(),
            namespace,
        }))
    }

    /// As requests have it: an id, or a namespace.
    fn into_parts(self) -> (String, Option<Tenant>) {
        match self {
            Self::Ring(ring) => (ring, None),
            Self::Tenant(tenant) => (String::new(), Some(tenant)),
        }
    }
}

/// Sets the fields of a manual secret, all together.
pub(crate) async fn set(
    args: SecretSetArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let SecretSetArgs {
        name,
        from_file,
        place,
        connection,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let place = Place::resolve(place, &connection, environment).await?;
    let fields = values::read_fields(&from_file)?;
    let set = send(connect(&settings).await?, place, name, &fields).await?;
    writeln!(
        out,
        "secret {} has version {}",
        plain(&set.name),
        current(&set)
    )?;
    Ok(Exit::Ok)
}

async fn send(
    channel: Channel,
    place: Place,
    secret: String,
    fields: &BTreeMap<FieldName, SecretBytes>,
) -> Result<Secret, CallError> {
    let (ring_id, tenant) = place.into_parts();
    let request = SetSecretValueRequest {
        ring_id,
        tenant,
        secret,
        etag: String::new(),
        fields: fields
            .iter()
            .map(|(field, bytes)| (field.to_string(), bytes.expose().to_vec()))
            .collect::<HashMap<_, _>>(),
    };
    let set = SecretsClient::new(channel).set_secret_value(request).await;
    set.map(tonic::Response::into_inner)
        .map_err(|status| CallError::new("set the secret", status))
}

/// The version that readers get.
fn current(secret: &Secret) -> String {
    let current = secret
        .versions
        .iter()
        .find(|version| version.stage() == SecretStage::Current);
    current.map_or_else(|| "unknown".to_owned(), |version| plain(&version.version))
}

/// Writes the bytes of one field to standard output, and nothing beside them.
pub(crate) async fn reveal(
    args: SecretRevealArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let SecretRevealArgs {
        name,
        field,
        previous,
        reason,
        place,
        connection,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let (ring_id, tenant) = Place::resolve(place, &connection, environment)
        .await?
        .into_parts();
    let stage = if previous {
        SecretStage::Previous
    } else {
        SecretStage::Current
    };
    let request = RevealSecretRequest {
        ring_id,
        tenant,
        secret: name,
        field: field.to_string(),
        stage: stage.into(),
        reason: reason.to_string(),
    };
    let mut revealed = SecretsClient::new(connect(&settings).await?)
        .reveal_secret(request)
        .await
        .map_err(|status| CallError::new("reveal the secret", status))?
        .into_inner();
    let bytes = revealed.fields.remove(field.as_str());
    let bytes = SecretBytes::new(bytes.ok_or(SecretError::Answer(field))?);
    out.write_all(bytes.expose())?;
    out.flush()?;
    Ok(Exit::Ok)
}
