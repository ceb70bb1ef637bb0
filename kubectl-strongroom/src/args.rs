//! The command line. Its help is pinned in `docs/reference/kubectl-strongroom.md`.

mod bootstrap;
mod connection;
mod rotate;
mod secret;

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand};
use jiff::SignedDuration;
use strongroom_core::{Name, NodeName};

use crate::{
    audit::Fingerprint,
    connect::Address,
    reason::Reason,
    target::{RingTarget, WhyTarget},
};
pub(crate) use bootstrap::{BootstrapArgs, BootstrapCommand};
pub(crate) use connection::{
    ClusterArgs, ConnectionArgs, Format, NamespaceArgs, SystemArgs, WideFormat,
};
pub(crate) use rotate::{RotateArgs, RotateCommand, RotateEtcdArgs};
pub(crate) use secret::{
    SecretCommand, SecretImportArgs, SecretPlaceArgs, SecretRevealArgs, SecretSetArgs,
};

/// Keys and secrets of this cluster: how they are, and what to do with them.
///
/// Exit codes: 0 ok, 1 failed, 2 usage, 3 not yet, 4 denied.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-strongroom",
    bin_name = "kubectl strongroom",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Status(StatusArgs),
    Why(WhyArgs),
    Rotate(RotateArgs),
    #[command(subcommand)]
    Secret(SecretCommand),
    #[command(subcommand)]
    Ring(RingCommand),
    AdminCertificate(AdminCertificateArgs),
    #[command(subcommand)]
    Enrol(EnrolCommand),
    #[command(subcommand)]
    Clock(ClockCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    Bootstrap(BootstrapArgs),
    Version(VersionArgs),
}

/// Show how the installation is: identity, token, store, audit log, clock, conditions, nodes, and what runs in the cluster.
///
/// The key service is asked with your certificate, the cluster with your kubeconfig. Where you have only one of them, the
/// other's part is left out; what you may not see in the cluster is named.
///
/// Exit code 0 when every condition holds and everything runs, 1 when not.
#[derive(Debug, Group)]
pub(crate) struct StatusArgs {
    /// How to print; wide adds roots, fingerprints and ids
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: WideFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Say why a pod does not start, or why a secret or a bundle is not ready.
///
/// Walks from the pod's volume over bundle, secret, access, ring and key service to the HSM, and shows the first broken link
/// with what to do about it. It changes nothing and shows no value. What you may not see in the cluster is named and taken
/// for whole. The key service itself is asked too where you have a certificate.
///
/// Exit code 0 when nothing is broken, 3 when something is not there yet and comes by itself or by a value that somebody
/// sets, 4 when access is denied, 1 when something else is broken.
#[derive(Debug, Group)]
pub(crate) struct WhyArgs {
    /// pod/NAME, msec/NAME (a ManagedSecret) or sb/NAME (a SecretBundle)
    #[arg(value_name = "TYPE/NAME")]
    pub(crate) target: WhyTarget,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What owns keys and secrets.
#[derive(Debug, Subcommand)]
pub(crate) enum RingCommand {
    Adopt(RingAdoptArgs),
}

/// Give a ring of a namespace that is no more to the namespace that has its name now.
///
/// A namespace that was deleted and made again is another owner: nothing of the former one opens for it until an administrator
/// says so. What is in the ring moves with it; the bindings of the former namespace's accounts do not count for accounts
/// that were made anew.
#[derive(Debug, Group)]
pub(crate) struct RingAdoptArgs {
    /// Name of the ring
    #[arg(value_name = "NAME")]
    pub(crate) name: RingTarget,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    /// uid of the namespace that gets the ring [default: asked of the cluster]
    #[arg(long, value_name = "UID")]
    pub(crate) namespace_uid: Option<String>,
    /// Name of the cluster in the key service's configuration, where it serves several
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster_name: Option<Name>,
    /// Why, such as the number of a change; not secret, in the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Reason,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Get a certificate for an administrator from the key service in the cluster.
///
/// The private key is made here and does not leave this machine. The request goes into the key service's pod by kubectl exec,
/// so the right to do that there is what makes an administrator; each issue is in the audit log. A configuration that uses
/// the certificate is written beside it, if there is none.
///
/// The certificate counts for a day at most; run it again then.
#[derive(Debug, Group)]
pub(crate) struct AdminCertificateArgs {
    /// Common name; one that the key service's configuration lists
    #[arg(long, value_name = "NAME", default_value = "administrator")]
    pub(crate) name: Name,
    /// How long it counts, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    pub(crate) lifetime: SignedDuration,
    /// Folder for key, certificate, root and configuration [default: ~/.config/strongroom]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) system: SystemArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Let a node take part.
#[derive(Debug, Subcommand)]
pub(crate) enum EnrolCommand {
    Node(EnrolNodeArgs),
}

/// Make an enrolment file for kms-plugin on another control-plane node.
///
/// The file has a secret that can be used once, within 15 minutes: carry it to the node, run `kms-plugin enrol
/// --enrolment FILE` there, and remove it. The file is new and readable by you alone. A secret for the node that was not
/// used is void from now on; a certificate that the node has stays good until the new secret is used.
#[derive(Debug, Group)]
pub(crate) struct EnrolNodeArgs {
    /// Name of the node, as Kubernetes has it
    #[arg(value_name = "NODE")]
    pub(crate) node: NodeName,
    /// Where the node reaches the key service's port for plugins; repeatable, tried in this order. Otherwise the file names
    /// what the key service's configuration says
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) endpoint: Vec<Address>,
    /// Where to write; - is standard output [default: enrolment-NODE.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What time it is for the key service.
#[derive(Debug, Subcommand)]
pub(crate) enum ClockCommand {
    Confirm(ConfirmClockArgs),
}

/// Believe the clock of the key service's machine after it jumped.
///
/// When that clock goes another way than time does, `kubectl strongroom status` shows ClockTrusted NO, and nothing is
/// scheduled for destruction or destroyed by time. Find out why, set the clock right if it is wrong, then run this. What the
/// clock of this machine says is sent along, and the two must agree within a minute.
///
/// Exit code 0 also when there is nothing to confirm.
#[derive(Debug, Group)]
pub(crate) struct ConfirmClockArgs {
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// What the audit log proves.
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    Verify(VerifyArgs),
}

/// Verify an audit log or a copy of it, offline.
///
/// The log is proven complete up to the witness: a checkpoint that was kept elsewhere, such as
/// `kubectl strongroom status -o json` shows under .audit.anchoredCheckpoint. Without a witness, or beyond it, records
/// may have been cut off at the end without a trace.
///
/// Exit code 0 when the log is complete up to the witness, 3 when it is consistent but its tail is unproven, 1 when it
/// was tampered with; the file and the record are named.
#[derive(Debug, Group)]
pub(crate) struct VerifyArgs {
    /// Folder with the log
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Fingerprint of the key that certifies checkpoints, as `key-service init` printed it
    #[arg(long, value_name = "HEX")]
    pub(crate) fingerprint: Fingerprint,
    /// File with a checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub(crate) witness: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// Show the version of this command, and of the key service if one is configured.
#[derive(Debug, Group)]
pub(crate) struct VersionArgs {
    /// Do not ask the key service
    #[arg(long)]
    pub(crate) client: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
