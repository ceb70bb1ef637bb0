//! Where the key service and the cluster are, who is calling, and how to print.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Args as Group, ValueEnum};
use strongroom_core::{InvalidName, Name};

use crate::{connect::Address, output::Structured};

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
    /// Address of the key service [default: through the API server, where there is a kubeconfig]
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<Address>,
    /// PEM file with the root that the key service's certificate must lead to [default: what the key service published
    /// in the cluster, where there is a kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// PEM file with your certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// PEM file with the private key of your certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) system: SystemArgs,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// Which cluster, and as whom: as kubectl has it.
#[derive(Debug, Clone, Default, Group)]
#[command(next_help_heading = "Connection to the cluster")]
pub(crate) struct ClusterArgs {
    /// Kubeconfig file [default: KUBECONFIG, then ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

/// Where the cluster runs us.
#[derive(Debug, Clone, Default, Group)]
#[command(next_help_heading = "Connection to the cluster")]
pub(crate) struct SystemArgs {
    /// Namespace of the key service and the operator
    #[arg(long, value_name = "NAME", default_value = SYSTEM_NAMESPACE)]
    pub(crate) system_namespace: SystemNamespace,
}

const SYSTEM_NAMESPACE: &str = "strongroom-system";

/// Where the chart puts the key service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SystemNamespace(pub(crate) Name);

impl Default for SystemNamespace {
    fn default() -> Self {
        Self(SYSTEM_NAMESPACE.parse().expect("the constant is a name"))
    }
}

impl FromStr for SystemNamespace {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.parse().map(Self)
    }
}

impl fmt::Display for SystemNamespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// In which namespace.
#[derive(Debug, Clone, Default, Group)]
pub(crate) struct NamespaceArgs {
    /// Namespace [default: that of the kubeconfig's context]
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<Name>,
}

/// How to print what has no wide form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
    Yaml,
}

impl Format {
    /// The form for programs, where one was asked for.
    pub(crate) const fn structured(self) -> Option<Structured> {
        match self {
            Self::Table => None,
            Self::Json => Some(Structured::Json),
            Self::Yaml => Some(Structured::Yaml),
        }
    }
}

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WideFormat {
    Table,
    Wide,
    Json,
    Yaml,
}
