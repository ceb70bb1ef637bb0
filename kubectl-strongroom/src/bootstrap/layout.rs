//! What is on a node that is set up: accounts, folders, files. Made from the settings alone.

mod files;
mod folders;
mod pods;

pub(super) use files::wait_container;

use std::path::{Path, PathBuf};

use super::{
    join::Join,
    settings::{Program, Settings},
    template::{fill, marked},
};

pub(super) const ETC: &str = "/etc/strongroom";
pub(super) const STATE: &str = "/var/lib/strongroom";
pub(super) const ENCRYPTION: &str = "/etc/strongroom/apiserver/encryption.yaml";
/// What the API server's pod mounts beside the folder of `ENCRYPTION`.
pub(super) const API_SERVER_SOCKETS: &str = "/var/lib/strongroom/sockets/apiserver";
/// What kubeadm adds to the API server's pod.
pub(super) const PATCH: &str = "/etc/strongroom/kubeadm/kube-apiserver+strategic.yaml";
pub(super) const ADMIN_SOCKET: &str = "/var/lib/strongroom/sockets/key-service/admin.sock";
pub(super) const ADMINISTRATOR: &str = "/etc/strongroom/administrator";
pub(super) const KUBECONFIG: &str = "/etc/strongroom/kubeconfig";
pub(super) const ENROLMENT: &str = "/etc/strongroom/kms-plugin/enrolment.yaml";
pub(super) const IDENTITY: &str = "/var/lib/strongroom/kms-plugin/identity/identity.json";
pub(super) const PLUGIN_CONFIG: &str = "/etc/strongroom/kms-plugin/config.yaml";

/// A user with a group of the same name and id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: &'static str,
    pub(super) id: u32,
}

/// A file or a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) mode: u32,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Folder,
    /// A text that starts with our mark.
    Text(String),
    /// A secret, or what belongs to one: made when it is written, and shown nowhere.
    Secret(Secret),
}

/// What is made on the node and known to nobody before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secret {
    /// The key service's access to the cluster.
    Kubeconfig,
    /// The first administrator's private key.
    AdministratorKey,
    /// The certificate of that key.
    AdministratorCertificate,
    /// The root that the key service's certificate leads to. No secret, but known only after init.
    Root,
    /// A copy of the enrolment file.
    Enrolment,
}

/// A pod that is there only while it does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Once {
    pub(super) act: Act,
    pub(super) pod: Entry,
    /// What only this pod reads, removed with it.
    pub(super) secret: Option<Entry>,
}

/// What is done once in the life of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Make the token and the instance.
    Init,
    /// Get the node's first certificate.
    Enrol,
}

impl Act {
    /// How people call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Enrol => "enrolment",
        }
    }
}

impl Entry {
    fn folder(path: impl Into<PathBuf>, owner: u32, group: u32, mode: u32) -> Self {
        Self {
            path: path.into(),
            owner,
            group,
            mode,
            content: Content::Folder,
        }
    }

    fn text(path: impl Into<PathBuf>, mode: u32, body: &str) -> Self {
        Self {
            path: path.into(),
            owner: 0,
            group: 0,
            mode,
            content: Content::Text(marked(body)),
        }
    }

    fn secret(path: impl Into<PathBuf>, owner: u32, secret: Secret) -> Self {
        Self {
            path: path.into(),
            owner,
            group: owner,
            mode: if owner == 0 { 0o600 } else { 0o400 },
            content: Content::Secret(secret),
        }
    }
}

/// Everything, in the order in which it is made.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) accounts: Vec<Account>,
    /// Folders, and files that start nothing.
    pub(super) entries: Vec<Entry>,
    pub(super) once: Once,
    /// The static pods.
    pub(super) pods: Vec<Entry>,
    /// What the first administrator needs.
    pub(super) administrator: Vec<Entry>,
}

impl Layout {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut entries = folders::all(settings);
        entries.extend(files::all(settings));
        let (once, administrator) = match settings.join {
            Some(_) => (pods::enrol(settings), Vec::new()),
            None => (pods::init(settings), administrator()),
        };
        let programs = settings.programs();
        let account = |program: &Program| Account {
            name: program.full_name(),
            id: settings.uid(*program),
        };
        let pod = |program: &Program| pods::serving(settings, *program);
        Self {
            accounts: programs.iter().map(account).collect(),
            entries,
            once,
            pods: programs.iter().map(pod).collect(),
            administrator,
        }
    }

    /// Every path that is looked at before the plan is made.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let once = [&self.once.pod].into_iter().chain(&self.once.secret);
        let entries = self.entries.iter().chain(once).chain(&self.pods);
        entries.chain(&self.administrator).map(|entry| &*entry.path)
    }
}

fn administrator() -> Vec<Entry> {
    let entry = |name: &str, secret| Entry::secret(format!("{ADMINISTRATOR}/{name}"), 0, secret);
    vec![
        entry("key.pem", Secret::AdministratorKey),
        entry("certificate.pem", Secret::AdministratorCertificate),
        entry("ca.pem", Secret::Root),
    ]
}

/// What templates have names for.
fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let uid = |program| settings.uid(program).to_string();
    let probes = |program| settings.probes(program).to_string();
    let join = settings.join.as_ref();
    vec![
        ("hsm-agent-uid", uid(Program::HsmAgent)),
        ("key-service-uid", uid(Program::KeyService)),
        ("kms-plugin-uid", uid(Program::KmsPlugin)),
        ("hsm-agent-probes", probes(Program::HsmAgent)),
        ("key-service-probes", probes(Program::KeyService)),
        ("kms-plugin-probes", probes(Program::KmsPlugin)),
        ("address", settings.address.to_string()),
        ("resources", settings.resources.join(", ")),
        ("repository", settings.repository.clone()),
        ("tag", settings.tag.clone()),
        (
            "plugins",
            settings.plugins.map_or_else(String::new, |address| {
                format!("plugins:\n  listen: \"{address}\"\n")
            }),
        ),
        ("workloads", workloads(settings)),
        ("endpoints", join.map_or_else(String::new, quoted)),
        (
            "root",
            join.map_or_else(String::new, |join| join.root_sha256.clone()),
        ),
    ]
}

/// Callers with tokens: only with access to the API server, which says whose keys they are.
fn workloads(settings: &Settings) -> String {
    match settings.access {
        None => String::new(),
        Some(_) => fill(
            include_str!("templates/key-service-workloads.yaml"),
            &[
                ("address", settings.workloads.to_string()),
                ("cluster", settings.cluster.to_string()),
                ("kubeconfig", KUBECONFIG.to_owned()),
            ],
        ),
    }
}

fn quoted(join: &Join) -> String {
    let endpoints = join.endpoints.iter().map(|text| format!("\"{text}\""));
    endpoints.collect::<Vec<_>>().join(", ")
}
