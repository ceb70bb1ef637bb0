//! The command line of `bootstrap`: what ends up in files is checked here.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use clap::{Args as Group, Subcommand};
use strongroom_core::Name;

use super::Format;
use crate::rotate::Timeout;

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
    /// Port for the operator and the CSI drivers of the cluster; not with --no-kubeconfig, since the API server says by which
    /// keys their tokens are verified
    #[arg(long, value_name = "PORT", default_value_t = 8445)]
    pub(crate) workloads_port: u16,
    /// The name under which the cluster owns keys and secrets; it never changes
    #[arg(long, value_name = "NAME", default_value = "main")]
    pub(crate) cluster_name: Name,
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
