//! `admin-certificate`: an administrator's certificate from the key service's own pod.
//!
//! The key service issues it over a socket that only its own user may use; whoever may run a process in that pod may ask.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
};

use strongroom_core::Name;
use tokio::io::AsyncWriteExt;

use crate::{
    args::AdminCertificateArgs,
    bootstrap::certificate::{CertificateError, ends, make_request},
    cluster::{Cluster, Kubeconfig},
    connect::{Kubectl, root_of},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::plain,
};

const POD: &str = "statefulset/strongroom-key-service";
const CONTAINER: &str = "--container=key-service";
const PROGRAM: &str = "/usr/bin/key-service";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminCertificateError {
    #[error("it is not known where to write; give --folder")]
    NoFolder,
    #[error(transparent)]
    Make(#[from] CertificateError),
    #[error(
        "the key service published no root in ConfigMap {0}/strongroom-ca; it does so once it is initialised"
    )]
    NoRoot(String),
    #[error(
        "{0:?} is another root than the one that the key service published: this is another instance, or somebody is in \
         between; give another --folder, or remove the file if you know why"
    )]
    OtherRoot(PathBuf),
    #[error("cannot run {program:?}; install kubectl")]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the key service's pod gives no certificate: {0}")]
    Refused(String),
    #[error("the key service's pod answered, but not with a certificate")]
    Answer,
    #[error("cannot write {path:?}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl AdminCertificateError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoFolder => Exit::Usage,
            Self::NoRoot(_) => Exit::NotYet,
            Self::Make(_)
            | Self::OtherRoot(_)
            | Self::Start { .. }
            | Self::Refused(_)
            | Self::Answer
            | Self::Write { .. } => Exit::Failed,
        }
    }
}

/// Makes a key, has a certificate issued for it, and writes both.
pub(crate) async fn run(
    args: AdminCertificateArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let AdminCertificateArgs {
        name,
        lifetime,
        folder,
        system,
        cluster,
    } = args;
    let home = environment.home.as_ref();
    let folder = folder
        .or_else(|| home.map(|home| home.join(".config/strongroom")))
        .ok_or(AdminCertificateError::NoFolder)?;
    let kubeconfig = Kubeconfig::require(&cluster, environment)?;
    let api = Cluster::open(kubeconfig).await?;
    let system_namespace = system.system_namespace.to_string();
    let root = root_of(&api, &system_namespace).await?;
    let root = root.ok_or(AdminCertificateError::NoRoot(system_namespace))?;
    let files = Files::new(folder, &name);
    files.check_root(&root)?;

    let (key, request) = make_request(name.as_str())
        .map_err(CertificateError::from)
        .map_err(AdminCertificateError::from)?;
    let kubectl = Kubectl::new(&cluster, &system, environment);
    let lifetime = format!("--lifetime={lifetime:#}");
    let chain = issue(&kubectl, &name, &lifetime, &request).await?;
    let until = ends(&chain).ok_or(AdminCertificateError::Answer)?;
    let made_configuration = files.write(&key.serialize_pem(), &chain, &root)?;
    writeln!(
        out,
        "certificate of {name} until {until} in {}",
        plain(&files.certificate.display().to_string())
    )?;
    if made_configuration {
        let path = files.configuration.display().to_string();
        writeln!(out, "configuration that uses it in {}", plain(&path))?;
    }
    Ok(Exit::Ok)
}

/// Hands the request in through the pod, and gives what came back.
async fn issue(
    kubectl: &Kubectl,
    name: &Name,
    lifetime: &str,
    request: &str,
) -> Result<String, AdminCertificateError> {
    let start = |source| AdminCertificateError::Start {
        program: kubectl.program().clone(),
        source,
    };
    let mut child = kubectl
        .command()
        .args(["exec", "--stdin", CONTAINER, POD, "--", PROGRAM])
        .args([
            "admin-certificate",
            "--name",
            name.as_str(),
            lifetime,
            "--request=-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ends early says why on standard error.
        let _ = stdin.write_all(request.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(start)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().rfind(|line| !is_kubectls(line));
        let last = last.unwrap_or("it failed without a word");
        return Err(AdminCertificateError::Refused(plain(
            last.trim_start_matches("error: "),
        )));
    }
    String::from_utf8(output.stdout).map_err(|_| AdminCertificateError::Answer)
}

/// kubectl's own last line says only that the process failed.
fn is_kubectls(line: &str) -> bool {
    line.starts_with("command terminated with exit code")
}

struct Files {
    folder: PathBuf,
    key: PathBuf,
    certificate: PathBuf,
    root: PathBuf,
    configuration: PathBuf,
    name: String,
}

impl Files {
    fn new(folder: PathBuf, name: &Name) -> Self {
        Self {
            key: folder.join(format!("{name}-key.pem")),
            certificate: folder.join(format!("{name}.pem")),
            root: folder.join("ca.pem"),
            configuration: folder.join("config.yaml"),
            name: name.to_string(),
            folder,
        }
    }

    /// The first root counts; another one is not taken over silently.
    fn check_root(&self, published: &str) -> Result<(), AdminCertificateError> {
        match fs::read_to_string(&self.root) {
            Ok(kept) if kept.trim() == published.trim() => Ok(()),
            Ok(_) => Err(AdminCertificateError::OtherRoot(self.root.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(at(&self.root)(error)),
        }
    }

    /// Whether a configuration was made, too.
    fn write(&self, key: &str, chain: &str, root: &str) -> Result<bool, AdminCertificateError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(at(&self.folder))?;
        replace(&self.key, key, 0o600)?;
        replace(&self.certificate, chain, 0o644)?;
        replace(&self.root, root, 0o644)?;
        if self.configuration.exists() {
            return Ok(false);
        }
        let name = &self.name;
        let text = format!(
            "# Made by `kubectl strongroom admin-certificate`. Without `server` the key service is reached through the API\n\
             # server of the kubeconfig.\nca: ca.pem\ncertificate: {name}.pem\nkey: {name}-key.pem\n"
        );
        replace(&self.configuration, &text, 0o644)?;
        Ok(true)
    }
}

/// A reader sees the old file or the new one.
fn replace(path: &Path, text: &str, mode: u32) -> Result<(), AdminCertificateError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(at(path))
}

fn at(path: &Path) -> impl Fn(io::Error) -> AdminCertificateError {
    let path = path.to_owned();
    move |source| AdminCertificateError::Write {
        path: path.clone(),
        source,
    }
}
