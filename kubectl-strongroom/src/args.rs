//! The command line. Its help is pinned in `docs/reference/kubectl-strongroom.md`.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::{Args as Group, Parser, Subcommand, ValueEnum};
use strongroom_core::{FieldName, NodeName, RingId, VersionId};

use crate::{
    audit::Fingerprint,
    connect::Address,
    rotate::{PluginUrl, Timeout},
    secret::FieldFile,
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
    #[command(subcommand)]
    Rotate(RotateCommand),
    #[command(subcommand)]
    Enrol(EnrolCommand),
    #[command(subcommand)]
    Clock(ClockCommand),
    #[command(subcommand)]
    Secret(SecretCommand),
    #[command(subcommand)]
    Audit(AuditCommand),
    Bootstrap(BootstrapArgs),
    Version(VersionArgs),
}

/// Show how the installation is: identity, token, store, audit log, clock, conditions, nodes.
///
/// Exit code 0 when every condition holds, 1 when one does not.
#[derive(Debug, Group)]
pub(crate) struct StatusArgs {
    /// How to print; wide adds roots, fingerprints and ids
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: WideFormat,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Make a new version and use it from now on.
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
    pub(crate) kubectl: KubectlArgs,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Put values of secrets in, and see them.
#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommand {
    Set(SecretSetArgs),
    Reveal(SecretRevealArgs),
}

/// Set the value of a secret that people set: its next version, current from now on.
///
/// All fields are set together. A file is taken as it is, with its last end of line if it has one. There is no
/// flag for a value itself: others on the machine see command lines, and shells keep them.
#[derive(Debug, Group)]
pub(crate) struct SecretSetArgs {
    /// Name or id of the secret
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Id of its ring
    #[arg(long, value_name = "ID")]
    pub(crate) ring: RingId,
    /// A field and the file with its bytes, such as key=/dev/stdin; repeatable
    #[arg(long, value_name = "FIELD=PATH", required = true)]
    pub(crate) from_file: Vec<FieldFile>,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
}

/// Write one field of a secret to standard output, byte for byte.
///
/// Your certificate needs the role SecretReader on the ring; being an administrator is not enough. Who revealed what,
/// and the reason, are in the audit log.
#[derive(Debug, Group)]
pub(crate) struct SecretRevealArgs {
    /// Name or id of the secret
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Id of its ring
    #[arg(long, value_name = "ID")]
    pub(crate) ring: RingId,
    /// Which field
    #[arg(long, value_name = "FIELD")]
    pub(crate) field: FieldName,
    /// The version that was current before
    #[arg(long)]
    pub(crate) previous: bool,
    /// Why, such as the number of an incident; not secret
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    #[command(flatten)]
    pub(crate) connection: ConnectionArgs,
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

/// Set this control-plane node up: users, folders, configuration, static pods, the first administrator.
///
/// Run it as root on the node that is to have the key service, with the images already there. It needs a kubelet that
/// runs static pods, and no API server. What is in order already is left as it is, so it can be run again at any time.
///
/// The pod strongroom-init makes the token and the instance, once; bootstrap waits for it and removes it. kube-apiserver
/// itself is not touched: the flags and folders to add are printed.
///
/// There is one key service. Each further control-plane node gets the plugin alone, with --join. Give the same flags when
/// you run it again.
///
/// Exit code 0 when the node is set up, 1 when something stands in the way or fails, 3 when something takes longer than
/// the timeout: run it again then.
#[derive(Debug, Group)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BootstrapArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BootstrapCommand>,
    /// Show what would be done, and do nothing; yaml and json have the content of every file that is no secret
    #[arg(long)]
    pub(crate) plan: bool,
    /// How to print
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
    /// Address of this node at which pods and other nodes reach the key service [default: what this node's API server
    /// advertises, or loopback]
    #[arg(long, value_name = "IP")]
    pub(crate) address: Option<IpAddr>,
    /// Port of the key service
    #[arg(long, value_name = "PORT", default_value_t = 8443)]
    pub(crate) port: u16,
    /// Port for the plugins of other control-plane nodes, which join with --join [default: none]
    #[arg(long, value_name = "PORT")]
    pub(crate) plugins_port: Option<u16>,
    /// Set up the plugin alone, for a key service on another node; FILE comes from `kubectl strongroom enrol node`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["address", "plugins_port", "api_server", "no_kubeconfig"])]
    pub(crate) join: Option<PathBuf>,
    /// The first of three ports on loopback for probes and metrics
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) probes_port: u16,
    /// User id of the key service
    #[arg(long, value_name = "ID", default_value_t = 2001)]
    pub(crate) key_service_uid: u32,
    /// User id of the plugin
    #[arg(long, value_name = "ID", default_value_t = 2002)]
    pub(crate) kms_plugin_uid: u32,
    /// User id of hsm-agent
    #[arg(long, value_name = "ID", default_value_t = 2003)]
    pub(crate) hsm_agent_uid: u32,
    /// Where the images come from
    #[arg(long, value_name = "NAME", default_value = "strongroom.dev", value_parser = image_name)]
    pub(crate) image_repository: String,
    /// Tag of the images
    #[arg(long, value_name = "TAG", default_value = env!("CARGO_PKG_VERSION"), value_parser = image_tag)]
    pub(crate) image_tag: String,
    /// What the API server is to encrypt; with *.* nothing at all can be written while the plugin is away
    #[arg(
        long,
        value_name = "LIST",
        default_value = "secrets",
        value_delimiter = ','
    )]
    pub(crate) resources: Vec<Resource>,
    /// Folder of the kubelet's static pods
    #[arg(long, value_name = "DIR", default_value = "/etc/kubernetes/manifests")]
    pub(crate) manifests: PathBuf,
    /// Folder with ca.crt and ca.key of the cluster
    #[arg(long, value_name = "DIR", default_value = "/etc/kubernetes/pki")]
    pub(crate) cluster_pki: PathBuf,
    /// The API server that the key service is to talk to [default: the one in this node's kubeconfigs]
    #[arg(long, value_name = "URL", value_parser = api_server_url)]
    pub(crate) api_server: Option<String>,
    /// Make no kubeconfig for the key service
    #[arg(long, conflicts_with = "api_server")]
    pub(crate) no_kubeconfig: bool,
    /// Write files anew that were changed by hand
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// How long to wait for each thing that takes time, such as 90s or 5m
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    pub(crate) timeout: Timeout,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BootstrapCommand {
    /// Print the values that the chart needs to use the key service of this node
    Values,
    /// Hand in the certificate request on standard input, as the key service's user; bootstrap runs this itself
    #[command(hide = true)]
    RequestCertificate,
}

/// A resource as an EncryptionConfiguration names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resource(pub(crate) String);

impl FromStr for Resource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.*".contains(c);
        only(text, fits)
            .map(Self)
            .ok_or("a resource is named as in secrets or widgets.example.com")
    }
}

fn image_name(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._/:".contains(c);
    only(text, fits).ok_or("a repository is named as in registry.example:5000/strongroom")
}

fn image_tag(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    only(text, fits).ok_or("a tag has letters, digits, '.', '_' and '-'")
}

fn api_server_url(text: &str) -> Result<String, &'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]%".contains(c);
    only(text, fits)
        .filter(|url| url.starts_with("https://"))
        .ok_or("an API server is at https://HOST:PORT")
}

/// What ends up in a file is made of these characters alone.
fn only(text: &str, fits: impl Fn(char) -> bool) -> Option<String> {
    (!text.is_empty() && text.chars().all(fits)).then(|| text.to_owned())
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

/// Where the key service is and who is calling.
#[derive(Debug, Clone, Default, Group)]
#[command(next_help_heading = "Connection to the key service")]
pub(crate) struct ConnectionArgs {
    /// Configuration file [default: ~/.config/strongroom/config.yaml, then /etc/strongroom/cli.yaml]
    #[arg(
        long,
        value_name = "FILE",
        env = "STRONGROOM_CONFIG",
        hide_env_values = true
    )]
    pub(crate) config: Option<PathBuf>,
    /// Address of the key service
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<Address>,
    /// PEM file with the root that the key service's certificate must lead to
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with your certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with the private key of your certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Which cluster `kubectl` reaches; its own defaults count otherwise.
#[derive(Debug, Clone, Default, Group)]
#[command(next_help_heading = "Connection to the API servers, with --wait")]
pub(crate) struct KubectlArgs {
    /// Passed to kubectl
    #[arg(long, value_name = "FILE", requires = "wait")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Passed to kubectl
    #[arg(long, value_name = "NAME", requires = "wait")]
    pub(crate) context: Option<String>,
}

/// How to print what has no wide form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WideFormat {
    Table,
    Wide,
    Json,
    Yaml,
}
