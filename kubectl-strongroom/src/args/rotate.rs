//! The command line of `rotate`.

use clap::{Args as Group, Subcommand};
use strongroom_core::VersionId;

use super::{ClusterArgs, ConnectionArgs, Format, NamespaceArgs};
use crate::{
    cluster::DryRun,
    reason::Reason,
    rotate::{PluginUrl, Timeout},
    target::RotateTarget,
};

/// Make a new version and use it from now on.
///
/// A ManagedSecret is rotated by an object of its own, a SecretRotation, which stays as a record and needs its own right to
/// make it; a CryptoKey by a new `spec.rotation.requestID`. Either is done once, by the operator and the key service.
///
/// Without --wait the command ends as soon as the wish is written. With --wait it ends when the new version is made, and
/// for a secret, when every volume that follows it holds the new version; with exit code 3 at the timeout. After its start
/// the key service takes half a minute to know all volumes of an older secret, and three minutes at most.
#[derive(Debug, Group)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct RotateArgs {
    #[command(subcommand)]
    pub(crate) command: Option<RotateCommand>,
    /// What to rotate: msec/NAME (a ManagedSecret) or ck/NAME (a CryptoKey)
    #[arg(value_name = "TYPE/NAME", required = true)]
    pub(crate) target: Option<RotateTarget>,
    #[command(flatten)]
    pub(crate) namespace: NamespaceArgs,
    /// Why, such as the number of an incident; not secret, in the audit log. Of a ManagedSecret only
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<Reason>,
    /// Wait until it is done
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, such as 90s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "wait")]
    pub(crate) timeout: Timeout,
    /// With server, the API server checks the wish and keeps nothing
    #[arg(
        long,
        value_name = "HOW",
        default_value = "none",
        conflicts_with = "wait"
    )]
    pub(crate) dry_run: DryRun,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RotateCommand {
    Etcd(RotateEtcdArgs),
}

/// Rotate the key that encrypts etcd.
///
/// Old versions go on decrypting. What is in etcd is encrypted with the new key when it is next written.
///
/// Without --wait the command ends as soon as the key service has the new version; API servers take it over
/// within a minute or so. With --wait it ends when every API server reports the new key id in its metrics,
/// or with exit code 3 at the timeout. API servers are asked through kubectl, with its usual configuration; on
/// a machine without a kubeconfig, name the metrics of each node's kms-plugin with --plugin-metrics instead.
#[derive(Debug, Group)]
pub(crate) struct RotateEtcdArgs {
    /// Rotate only if this version is the primary one; otherwise it is taken for rotated already
    #[arg(long, value_name = "EPOCH.NUMBER")]
    pub(crate) from: Option<VersionId>,
    /// Wait until every API server reports the new key id
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait, such as 90s, 5m or 1h30m
    #[arg(long, value_name = "DURATION", default_value = "5m", requires = "wait")]
    pub(crate) timeout: Timeout,
    /// Metrics of a kms-plugin to wait for, such as http://127.0.0.1:8081/metrics; repeatable. The API servers are
    /// then asked only if --kubeconfig or --context is given too
    #[arg(long, value_name = "URL", requires = "wait")]
    pub(crate) plugin_metrics: Vec<PluginUrl>,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}
