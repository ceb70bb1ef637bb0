//! What a node is set up with: the flags, with their defaults filled in.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use jiff::Timestamp;
use strongroom_core::Name;

use super::{
    api_server::ApiServer,
    join::{Join, JoinError},
};
use crate::args::BootstrapArgs;

/// The user id that the kernel shows for those it cannot name.
const OVERFLOW_UID: u32 = 65534;

/// One of the programs that run on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Program {
    HsmAgent,
    KeyService,
    KmsPlugin,
}

impl Program {
    pub(super) const ALL: [Self; 3] = [Self::HsmAgent, Self::KeyService, Self::KmsPlugin];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::HsmAgent => "hsm-agent",
            Self::KeyService => "key-service",
            Self::KmsPlugin => "kms-plugin",
        }
    }

    /// The name of its user and of its static pod.
    pub(super) const fn full_name(self) -> &'static str {
        match self {
            Self::HsmAgent => "strongroom-hsm-agent",
            Self::KeyService => "strongroom-key-service",
            Self::KmsPlugin => "strongroom-kms-plugin",
        }
    }
}

/// User ids, each also the id of a group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Users {
    pub(super) key_service: u32,
    pub(super) kms_plugin: u32,
    pub(super) hsm_agent: u32,
}

/// Where the key service's own access to the cluster comes from.
#[derive(Debug, Clone)]
pub(super) struct ClusterAccess {
    /// The cluster's certificate authority, PEM.
    pub(super) ca: PathBuf,
    /// Its private key, PEM.
    pub(super) ca_key: PathBuf,
    /// The API server.
    pub(super) server: String,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) users: Users,
    /// Where the key service listens.
    pub(super) address: SocketAddr,
    /// The first of three ports on loopback.
    pub(super) probes_port: u16,
    pub(super) repository: String,
    pub(super) tag: String,
    /// What the API server is to encrypt.
    pub(super) resources: Vec<String>,
    /// Folder of static pods.
    pub(super) manifests: PathBuf,
    pub(super) access: Option<ClusterAccess>,
    /// Where plugins of other nodes come in.
    pub(super) plugins: Option<SocketAddr>,
    /// Where operator and drivers come in.
    pub(super) workloads: SocketAddr,
    /// The name under which the cluster is registered.
    pub(super) cluster: Name,
    /// The key service on another node, if this one gets the plugin alone.
    pub(super) join: Option<Join>,
    /// Whether files that were changed by hand are written anew.
    pub(super) overwrite: bool,
    pub(super) started: Timestamp,
    /// What this node's API server says of itself, if there is one.
    pub(super) api_server: Option<ApiServer>,
}

/// Why the flags do not fit.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("user ids are three different numbers, and neither 0 nor {OVERFLOW_UID}")]
    Users,
    #[error(
        "the three ports from --probes-port on, --port, --workloads-port and --plugins-port must be six different ones"
    )]
    Ports,
    #[error("plugins of other nodes do not reach loopback; give --address")]
    Loopback,
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error(
        "it is not known where the API server is; give --api-server https://HOST:PORT, or --no-kubeconfig"
    )]
    NoApiServer,
}

impl Settings {
    /// Fills in what the node's API server says of itself.
    pub(super) fn new(
        args: &BootstrapArgs,
        api_server: Option<ApiServer>,
        known_server: Option<String>,
        started: Timestamp,
    ) -> Result<Self, SettingsError> {
        let users = Users {
            key_service: args.key_service_uid,
            kms_plugin: args.kms_plugin_uid,
            hsm_agent: args.hsm_agent_uid,
        };
        users.check()?;
        check_ports(args)?;
        let advertised = api_server
            .as_ref()
            .and_then(|server| server.advertise_address);
        let address = args.address.or(advertised);
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        if args.plugins_port.is_some() && address.is_loopback() {
            return Err(SettingsError::Loopback);
        }
        let join = args.join.as_deref().map(Join::load).transpose()?;
        Ok(Self {
            users,
            address: SocketAddr::new(address, args.port),
            probes_port: args.probes_port,
            repository: args.image_repository.clone(),
            tag: args.image_tag.clone(),
            resources: args.resources.iter().map(|r| r.0.clone()).collect(),
            manifests: args.manifests.clone(),
            access: match join {
                Some(_) => None,
                None => access(args, known_server)?,
            },
            plugins: args.plugins_port.map(|port| SocketAddr::new(address, port)),
            workloads: SocketAddr::new(address, args.workloads_port),
            cluster: args.cluster_name.clone(),
            join,
            overwrite: args.overwrite,
            started,
            api_server,
        })
    }

    /// The programs that run on this node.
    pub(super) fn programs(&self) -> &'static [Program] {
        match self.join {
            Some(_) => &[Program::KmsPlugin],
            None => &Program::ALL,
        }
    }

    /// The image of a program.
    pub(super) fn image(&self, program: Program) -> String {
        let Self {
            repository, tag, ..
        } = self;
        format!("{repository}/{}:{tag}", program.name())
    }

    pub(super) const fn uid(&self, program: Program) -> u32 {
        match program {
            Program::HsmAgent => self.users.hsm_agent,
            Program::KeyService => self.users.key_service,
            Program::KmsPlugin => self.users.kms_plugin,
        }
    }

    /// The port on loopback of a program's probes, in the order of the samples.
    pub(super) const fn probes(&self, program: Program) -> u16 {
        self.probes_port
            + match program {
                Program::KeyService => 0,
                Program::KmsPlugin => 1,
                Program::HsmAgent => 2,
            }
    }
}

impl Users {
    fn check(self) -> Result<(), SettingsError> {
        let ids = [self.key_service, self.kms_plugin, self.hsm_agent];
        let [one, two, three] = ids;
        let fit = one != two && two != three && one != three;
        if fit && !ids.contains(&0) && !ids.contains(&OVERFLOW_UID) {
            Ok(())
        } else {
            Err(SettingsError::Users)
        }
    }
}

fn check_ports(args: &BootstrapArgs) -> Result<(), SettingsError> {
    let first = args.probes_port;
    let last = first.checked_add(2).ok_or(SettingsError::Ports)?;
    let others = [args.port, args.workloads_port]
        .into_iter()
        .chain(args.plugins_port);
    let others: Vec<u16> = others.collect();
    let is_probe = |port: &u16| (first..=last).contains(port);
    let is_twice = |port: &u16| others.iter().filter(|other| *other == port).count() > 1;
    let clash = others.iter().any(is_probe) || others.iter().any(is_twice);
    if first == 0 || clash {
        Err(SettingsError::Ports)
    } else {
        Ok(())
    }
}

fn access(
    args: &BootstrapArgs,
    known_server: Option<String>,
) -> Result<Option<ClusterAccess>, SettingsError> {
    if args.no_kubeconfig {
        return Ok(None);
    }
    let server = args.api_server.clone().or(known_server);
    Ok(Some(ClusterAccess {
        ca: args.cluster_pki.join("ca.crt"),
        ca_key: args.cluster_pki.join("ca.key"),
        server: server.ok_or(SettingsError::NoApiServer)?,
    }))
}
