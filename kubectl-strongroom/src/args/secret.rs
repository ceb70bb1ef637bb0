//! The command line of `secret`, and how a secret is named.

use clap::{Args as Group, Subcommand};
use strongroom_core::{FieldName, Name, RingId};

use super::{ConnectionArgs, NamespaceArgs};
use crate::{reason::Reason, rotate::Timeout, secret::FieldFile, target::ImportTarget};

/// Put values of secrets in, and see them.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    Set(SecretSetArgs),
    Import(SecretImportArgs),
    Reveal(SecretRevealArgs),
}

/// Where a secret is.
#[derive(Debug, Clone, Group)]
pub(crate) struct SecretPlaceArgs {
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    /// Name of the cluster in the key service's configuration, where it serves several that have such a secret
    #[arg(long, value_name = "NAME", conflicts_with = "ring")]
    pub(crate) cluster_name: Option<Name>,
    /// Id of its ring, in place of a namespace
    #[arg(long, value_name = "ID", conflicts_with = "namespace")]
    pub(crate) ring: Option<RingId>,
}

/// Set the value of a secret that people set: its next version, current from now on.
///
/// All fields are set together. A file is taken as it is, with its last end of line if it has one. There is no
/// flag for a value itself: others on the machine see command lines, and shells keep them.
#[derive(Debug, Group)]
pub(crate) struct SecretSetArgs {
    /// Name of the secret; with --ring, also its id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// A field and the file with its bytes, such as key=/dev/stdin; repeatable
    #[arg(long, value_name = "FIELD=PATH", required = true)]
    pub(crate) from_file: Vec<FieldFile>,
    #[command(flatten)]
    pub(crate) place: SecretPlaceArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Take the value of a Kubernetes Secret over into a ManagedSecret that people set.
///
/// The Secret is read with your own rights in the cluster, and stays as it is; the value goes to the key service with your
/// certificate. What the key service could not keep is listed before anything is done.
///
/// The ManagedSecret needs `source.manual` with the fields of the Secret. With --create it is made if it is not there; whoever
/// is to read it is then added under spec.access.
#[derive(Debug, Group)]
pub(crate) struct SecretImportArgs {
    /// The Secret of Kubernetes, as secret/NAME
    #[arg(value_name = "secret/NAME")]
    pub(crate) from: ImportTarget,
    /// Name of the ManagedSecret
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    /// Make the ManagedSecret if there is none of that name
    #[arg(long)]
    pub(crate) create: bool,
    /// KeyRing of a ManagedSecret that is made, where the namespace has several
    #[arg(long, value_name = "NAME", requires = "create")]
    pub(crate) key_ring: Option<Name>,
    /// Name of the cluster in the key service's configuration, where it serves several that have such a secret
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<Name>,
    /// How long to wait for the key service to have the ManagedSecret, such as 90s or 5m
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(crate) timeout: Timeout,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Write one field of a secret to standard output, byte for byte.
///
/// Your certificate needs the role SecretReader on the ring; being an administrator is not enough. Who revealed what,
/// and the reason, are in the audit log.
#[derive(Debug, Group)]
pub(crate) struct SecretRevealArgs {
    /// Name of the secret; with --ring, also its id
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Which field
    #[arg(long, value_name = "FIELD")]
    pub(crate) field: FieldName,
    /// The version that was current before
    #[arg(long)]
    pub(crate) previous: bool,
    /// Why, such as the number of an incident; not secret
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) place: SecretPlaceArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
