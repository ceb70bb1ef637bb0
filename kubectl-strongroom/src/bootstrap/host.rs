//! What is on the node now. Only looks; links are never followed.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rustix::process::geteuid;

use super::{
    api_server::ApiServer,
    certificate,
    instance::{self, Identity},
    kubeconfig,
    layout::{ADMINISTRATOR, ETC, IDENTITY, KUBECONFIG, Layout, STATE},
    processes,
    settings::{ClusterAccess, Program, Settings},
};

/// Somebody on this machine answers at once.
const KNOCK_LIMIT: Duration = Duration::from_millis(200);

/// A path below another root than `/`, for tests.
#[derive(Debug, Clone)]
pub(super) struct Root(pub(super) PathBuf);

impl Root {
    /// Where a path of the node lies.
    pub(super) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file; `None` when it is not there.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Result<Option<String>, LookError> {
        let path = self.at(path);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LookError { path, source }),
        }
    }
}

/// Something cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
pub(crate) struct LookError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl LookError {
    pub(super) fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self { path, source }
    }
}

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) owner: u32,
    pub(super) group: u32,
    pub(super) mode: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File(Vec<u8>),
    Link,
    Other,
}

/// Everything that the plan depends on beside the settings.
#[derive(Debug, Clone, Default)]
pub(super) struct Host {
    /// Who runs us.
    pub(super) euid: u32,
    pub(super) passwd: String,
    pub(super) group: String,
    pub(super) paths: BTreeMap<PathBuf, Seen>,
    pub(super) api_server: Option<ApiServer>,
    /// Ports that we would listen on and somebody else does.
    pub(super) taken_ports: Vec<u16>,
    /// The cluster's certificate authority has a private key here.
    pub(super) has_ca_key: bool,
    pub(super) instance: Option<Identity>,
    pub(super) kubeconfig_is_good: bool,
    pub(super) administrator_is_good: bool,
    /// The plugin has a certificate for a key service on another node.
    pub(super) is_enrolled: bool,
}

impl Host {
    /// Looks at all that the layout has, and at the folders that lead there.
    pub(super) fn look(
        root: &Root,
        layout: &Layout,
        settings: &Settings,
    ) -> Result<Self, LookError> {
        let (access, now) = (settings.access.as_ref(), settings.started);
        let mut paths = BTreeMap::new();
        for path in layout.paths().chain([ETC.as_ref(), STATE.as_ref()]) {
            for ancestor in path.ancestors() {
                if !paths.contains_key(ancestor)
                    && let Some(seen) = look(root, ancestor)?
                {
                    paths.insert(ancestor.to_owned(), seen);
                }
            }
        }
        let has_ca_key = access.is_some_and(|access| root.at(&access.ca_key).exists());
        let instance = instance::look(root)?;
        let pods = layout.pods.iter().chain([&layout.once.pod]);
        let is_started = pods.into_iter().any(|pod| paths.contains_key(&pod.path));
        // A pod of init that was taken away may still be ending; init waits for that.
        let is_ending = instance.is_none() && is_anybody_of_ours(root, settings)?;
        Ok(Self {
            taken_ports: if is_started || is_ending {
                Vec::new()
            } else {
                taken_ports(settings)
            },
            euid: geteuid().as_raw(),
            passwd: root.read("/etc/passwd")?.unwrap_or_default(),
            group: root.read("/etc/group")?.unwrap_or_default(),
            paths,
            api_server: settings.api_server.clone(),
            has_ca_key,
            instance,
            kubeconfig_is_good: match access {
                Some(access) => kubeconfig_is_good(root, access, now)?,
                None => true,
            },
            administrator_is_good: administrator_is_good(root, now)?,
            is_enrolled: root.at(IDENTITY).exists(),
        })
    }

    /// The text of a file that was looked at.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<&str> {
        match &self.paths.get(path.as_ref())?.kind {
            Kind::File(bytes) => std::str::from_utf8(bytes).ok(),
            Kind::Folder | Kind::Link | Kind::Other => None,
        }
    }
}

fn is_anybody_of_ours(root: &Root, settings: &Settings) -> Result<bool, LookError> {
    let uids = Program::ALL.map(|program| settings.uid(program));
    Ok(processes::one_of(root, &uids)?.is_some())
}

/// Who answers where a program of ours would listen is somebody else, before ours are started.
fn taken_ports(settings: &Settings) -> Vec<u16> {
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let programs = settings.programs().iter();
    let probes = programs.map(|program| loopback(settings.probes(*program)));
    let service = settings.join.is_none().then_some(settings.address);
    let workloads = settings.access.is_some().then_some(settings.workloads);
    let all = service
        .into_iter()
        .chain(workloads)
        .chain(settings.plugins)
        .chain(probes);
    all.filter(|address| TcpStream::connect_timeout(address, KNOCK_LIMIT).is_ok())
        .map(|address| address.port())
        .collect()
}

fn look(root: &Root, path: &Path) -> Result<Option<Seen>, LookError> {
    let at = root.at(path);
    let failed = |source| LookError {
        path: at.clone(),
        source,
    };
    let metadata = match fs::symlink_metadata(&at) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let kind = if metadata.is_symlink() {
        Kind::Link
    } else if metadata.is_dir() {
        Kind::Folder
    } else if metadata.is_file() {
        Kind::File(fs::read(&at).map_err(failed)?)
    } else {
        Kind::Other
    };
    Ok(Some(Seen {
        owner: metadata.uid(),
        group: metadata.gid(),
        mode: metadata.mode() & 0o7777,
        kind,
    }))
}

fn kubeconfig_is_good(
    root: &Root,
    access: &ClusterAccess,
    now: Timestamp,
) -> Result<bool, LookError> {
    let (Some(text), Some(ca)) = (root.read(KUBECONFIG)?, root.read(&access.ca)?) else {
        return Ok(false);
    };
    let soon = now + kubeconfig::RENEW_BEFORE;
    Ok(kubeconfig::is_good(&text, &ca, &access.server, soon))
}

/// Tells whether the plugin got its certificate after a time.
pub(super) fn identity_is_newer(root: &Root, since: Timestamp) -> Result<bool, LookError> {
    let path = root.at(IDENTITY);
    match fs::metadata(&path) {
        Ok(metadata) => Ok(metadata.mtime() >= since.as_second()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(LookError { path, source }),
    }
}

fn administrator_is_good(root: &Root, now: Timestamp) -> Result<bool, LookError> {
    let read = |name: &str| root.read(format!("{ADMINISTRATOR}/{name}"));
    let (key, chain, ca) = (read("key.pem")?, read("certificate.pem")?, read("ca.pem")?);
    let (Some(_), Some(chain), Some(_)) = (key, chain, ca) else {
        return Ok(false);
    };
    let soon = now + SignedDuration::from_hours(1);
    Ok(certificate::ends(&chain).is_some_and(|end| end > soon))
}
