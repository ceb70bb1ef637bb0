//! What is on a node that is set up: accounts, folders, files. Made from the settings alone.

use std::path::{Path, PathBuf};

use super::{
    settings::{Program, Settings},
    template::{fill, marked, sha256},
};

pub(super) const ETC: &str = "/etc/strongroom";
pub(super) const STATE: &str = "/var/lib/strongroom";
pub(super) const ENCRYPTION: &str = "/etc/strongroom/apiserver/encryption.yaml";
/// What the API server's pod mounts beside the folder of `ENCRYPTION`.
pub(super) const API_SERVER_SOCKETS: &str = "/var/lib/strongroom/sockets/apiserver";
pub(super) const ADMIN_SOCKET: &str = "/var/lib/strongroom/sockets/key-service/admin.sock";
pub(super) const ADMINISTRATOR: &str = "/etc/strongroom/administrator";
pub(super) const KUBECONFIG: &str = "/etc/strongroom/kubeconfig";
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
    /// The pod that makes the instance; it is there only while it runs.
    pub(super) init: Entry,
    /// The static pods.
    pub(super) pods: Vec<Entry>,
    /// What the first administrator needs.
    pub(super) administrator: Vec<Entry>,
}

impl Layout {
    /// `token_is_made` leaves out of the init pod what would be refused.
    pub(super) fn new(settings: &Settings, token_is_made: bool) -> Self {
        let mut entries = folders(settings);
        entries.extend(files(settings));
        Self {
            accounts: Program::ALL
                .map(|program| Account {
                    name: program.full_name(),
                    id: settings.uid(program),
                })
                .to_vec(),
            entries,
            init: init_pod(settings, token_is_made),
            pods: Program::ALL.map(|program| pod(settings, program)).to_vec(),
            administrator: administrator(settings),
        }
    }

    /// Every path that is looked at before the plan is made.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let init = std::iter::once(&self.init);
        let entries = self.entries.iter().chain(init).chain(&self.pods);
        entries.chain(&self.administrator).map(|entry| &*entry.path)
    }
}

fn folders(settings: &Settings) -> Vec<Entry> {
    let [service, plugin, agent] = [
        settings.users.key_service,
        settings.users.kms_plugin,
        settings.users.hsm_agent,
    ];
    let etc = |name: &str, mode| Entry::folder(format!("{ETC}/{name}"), 0, 0, mode);
    let own = |name: &str, owner| Entry::folder(format!("{STATE}/{name}"), owner, owner, 0o700);
    let sockets = |name: &str, owner, group, mode| {
        Entry::folder(format!("{STATE}/sockets/{name}"), owner, group, mode)
    };
    vec![
        Entry::folder(ETC, 0, 0, 0o755),
        etc("hsm-agent", 0o755),
        etc("key-service", 0o755),
        etc("kms-plugin", 0o755),
        etc("apiserver", 0o700),
        etc("administrator", 0o700),
        etc("systemd", 0o755),
        Entry::folder(STATE, 0, 0, 0o755),
        own("hsm-agent", agent),
        own("key-service", service),
        own("audit", service),
        own("kms-plugin", plugin),
        Entry::folder(format!("{STATE}/sockets"), 0, 0, 0o755),
        sockets("hsm", agent, service, 0o750),
        sockets("kms", service, plugin, 0o750),
        sockets("key-service", service, service, 0o700),
        sockets("apiserver", plugin, plugin, 0o750),
    ]
}

fn files(settings: &Settings) -> Vec<Entry> {
    let values = values(settings);
    let text = |name: &str, mode, template: &str| {
        Entry::text(format!("{ETC}/{name}"), mode, &fill(template, &values))
    };
    let configs = Program::ALL.map(|program| {
        let path = format!("{ETC}/{}/config.yaml", program.name());
        Entry::text(path, 0o644, &config(settings, program))
    });
    let mut files = configs.to_vec();
    files.extend([
        text("cli.yaml", 0o600, include_str!("templates/cli.yaml")),
        text(
            "apiserver/encryption.yaml",
            0o600,
            include_str!("templates/encryption.yaml"),
        ),
    ]);
    if settings.access.is_some() {
        files.push(text(
            "rbac.yaml",
            0o644,
            include_str!("templates/rbac.yaml"),
        ));
        let service = settings.users.key_service;
        files.push(Entry::secret(KUBECONFIG, service, Secret::Kubeconfig));
    }
    files.extend(Program::ALL.map(|program| unit(settings, program)));
    files.push(tmpfiles(settings));
    files
}

/// The configuration of a program.
fn config(settings: &Settings, program: Program) -> String {
    let template = match program {
        Program::HsmAgent => include_str!("templates/hsm-agent.yaml"),
        Program::KeyService => include_str!("templates/key-service.yaml"),
        Program::KmsPlugin => include_str!("templates/kms-plugin.yaml"),
    };
    fill(template, &values(settings))
}

fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let uid = |program| settings.uid(program).to_string();
    let probes = |program| settings.probes(program).to_string();
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
    ]
}

fn pod(settings: &Settings, program: Program) -> Entry {
    let template = match program {
        Program::HsmAgent => include_str!("templates/pod-hsm-agent.yaml"),
        Program::KeyService => include_str!("templates/pod-key-service.yaml"),
        Program::KmsPlugin => include_str!("templates/pod-kms-plugin.yaml"),
    };
    let name = format!("{}.yaml", program.full_name());
    // With another configuration it is another pod, so the kubelet starts it anew.
    let config = [("config", sha256(&config(settings, program)))];
    let body = fill(template, &[&config[..], &values(settings)].concat());
    Entry::text(settings.manifests.join(name), 0o600, &body)
}

fn init_pod(settings: &Settings, token_is_made: bool) -> Entry {
    let token = if token_is_made {
        ""
    } else {
        include_str!("templates/pod-init-token.yaml")
    };
    // The time makes each run a pod of its own; a kubelet takes an equal manifest for the one that has ended.
    let own = [
        ("token", token.to_owned()),
        ("started", format!("{:?}", settings.started.to_string())),
    ];
    let body = fill(
        include_str!("templates/pod-init.yaml"),
        &[&own[..], &values(settings)].concat(),
    );
    Entry::text(
        settings.manifests.join("strongroom-init.yaml"),
        0o600,
        &body,
    )
}

fn administrator(_: &Settings) -> Vec<Entry> {
    let entry = |name: &str, secret| Entry::secret(format!("{ADMINISTRATOR}/{name}"), 0, secret);
    vec![
        entry("key.pem", Secret::AdministratorKey),
        entry("certificate.pem", Secret::AdministratorCertificate),
        entry("ca.pem", Secret::Root),
    ]
}

fn unit(settings: &Settings, program: Program) -> Entry {
    let users = settings.users;
    let (group, writable) = match program {
        Program::HsmAgent => (Some(users.key_service), "hsm-agent sockets/hsm"),
        Program::KeyService => (
            Some(users.kms_plugin),
            "key-service audit sockets/key-service sockets/kms",
        ),
        Program::KmsPlugin => (None, "kms-plugin sockets/apiserver"),
    };
    let writable: Vec<String> = writable
        .split(' ')
        .map(|folder| format!("{STATE}/{folder}"))
        .collect();
    let body = fill(
        include_str!("templates/unit.service"),
        &[
            ("program", program.name().to_owned()),
            ("uid", settings.uid(program).to_string()),
            (
                "groups",
                group.map_or_else(String::new, |id| format!("SupplementaryGroups={id}\n")),
            ),
            ("writable", writable.join(" ")),
        ],
    );
    let name = format!("{ETC}/systemd/{}.service", program.full_name());
    Entry::text(name, 0o644, &body)
}

/// For nodes whose `/var/lib` does not last.
fn tmpfiles(settings: &Settings) -> Entry {
    let mut body =
        "# Copy it to /etc/tmpfiles.d if the folders below are not on a disk.\n".to_owned();
    for folder in folders(settings) {
        if folder.path.starts_with(STATE) {
            let Entry {
                path,
                owner,
                group,
                mode,
                content: _,
            } = folder;
            body.push_str(&format!(
                "d {} {mode:04o} {owner} {group}\n",
                path.display()
            ));
        }
    }
    Entry::text(format!("{ETC}/systemd/strongroom.conf"), 0o644, &body)
}
