//! A plugin as it runs on another control-plane node: without the key service's socket, with a certificate of the node.

use std::{
    fs::{self, OpenOptions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use strongroom_hack::installation::{
    Answer, Installation, KEY_SERVICE_UID, PLUGIN_UID, Program, probe,
};

use crate::plugin::Plugin;

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// The fault points at which a story kills the plugin of a node, or the key service under it, while it gets its
/// certificates.
pub const POINTS: &[&str] = &[
    "key-service.enrol.before-reply",
    "key-service.renew.before-reply",
    "plugin.enrol.answered",
    "plugin.identity.after-rename",
    "plugin.identity.before-rename",
    "plugin.renew.answered",
    "plugin.renew.before-show",
    "plugin.renew.key-written",
];

/// One such plugin, below the folder of the installation. It is killed when it is dropped.
#[derive(Debug)]
pub struct Remote {
    /// The API server's place on that node.
    pub plugin: Plugin,
    node: String,
    folder: PathBuf,
    probes: u16,
    child: Option<Child>,
}

/// What a plugin tries before the key service's port for plugins.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways<'a> {
    /// The key service's socket.
    pub socket: Option<&'a Path>,
    /// Other endpoints.
    pub endpoints: &'a [&'a str],
}

impl Remote {
    /// Makes folders and the configuration.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn lay_out(
        installation: &Installation,
        node: &str,
        probes: u16,
        first: Ways<'_>,
    ) -> Result<Self> {
        let folder = installation.path(node);
        for (part, mode) in [
            ("", 0o755),
            ("run", 0o750),
            ("state", 0o700),
            ("identity", 0o700),
        ] {
            let part = folder.join(part);
            fs::create_dir_all(&part)?;
            chown(&part, Some(PLUGIN_UID), Some(PLUGIN_UID))?;
            fs::set_permissions(&part, fs::Permissions::from_mode(mode))?;
        }
        chown(&folder, Some(0), Some(0))?;
        let address = installation.plugins_address();
        let more = first.endpoints.iter().copied();
        let endpoints: Vec<&str> = more.chain([address.as_str()]).collect();
        let socket = first
            .socket
            .map(|path| format!("socket: {}, uid: {KEY_SERVICE_UID}, ", path.display()))
            .unwrap_or_default();
        let at = |part: &str| folder.join(part).display().to_string();
        let text = format!(
            "listen: {{path: {listen}, peers: [0]}}\n\
             keyService: {{{socket}endpoints: ['{endpoints}'], identityDir: {identity}}}\n\
             state: {state}\n\
             probes: 127.0.0.1:{probes}\n\
             status: {{interval: 200ms, retryInterval: 200ms, maxAge: 8s}}\n",
            listen = at("run/kms.sock"),
            endpoints = endpoints.join("', '"),
            identity = at("identity"),
            state = at("state/state.json"),
        );
        fs::write(folder.join("config.yaml"), text)?;
        Ok(Self {
            plugin: Plugin::at(&folder.join("run/kms.sock"))?,
            node: node.to_owned(),
            folder,
            probes,
            child: None,
        })
    }

    /// The file with certificate and keys.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.folder.join("identity/identity.json")
    }

    /// The serial number of the certificate on the disk.
    ///
    /// # Errors
    /// When there is none.
    pub fn serial(&self) -> Result<String> {
        let identity: serde_json::Value = serde_json::from_slice(&fs::read(self.identity())?)?;
        let serial = identity["certificate"]["serial"].as_str();
        Ok(serial.context("there is a serial number")?.to_owned())
    }

    /// Runs `kms-plugin enrol` with a file of which it gets a copy.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn enrol(&self, installation: &Installation, file: &Path, faults: &str) -> Result<Output> {
        let copy = self.folder.join("enrolment.yaml");
        fs::copy(file, &copy)?;
        chown(&copy, Some(PLUGIN_UID), Some(PLUGIN_UID))?;
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600))?;
        let config = self.folder.join("config.yaml");
        let mut command = installation.command_with(Program::KmsPlugin, "enrol", &config);
        command.env("FAILPOINTS", faults);
        Ok(command.arg("--enrolment").arg(&copy).output()?)
    }

    /// Starts the plugin with fault points; an empty text sets none.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, installation: &Installation, faults: &str) -> Result<()> {
        self.kill();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log())?;
        let config = self.folder.join("config.yaml");
        let mut command = installation.command_with(Program::KmsPlugin, "serve", &config);
        command
            .env("FAILPOINTS", faults)
            .stdout(log.try_clone()?)
            .stderr(Stdio::from(log));
        self.child = Some(command.spawn()?);
        Ok(())
    }

    /// Ends it with SIGKILL, if it runs.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Waits until a fault point has killed it.
    ///
    /// # Errors
    /// When it lives on, or ended otherwise.
    pub fn wait_killed(&mut self) -> Result<()> {
        let mut child = self.child.take().context("it was not started")?;
        let start = Instant::now();
        while start.elapsed() < LIMIT {
            if let Some(status) = child.try_wait()? {
                let killed = status.signal() == Some(Signal::KILL.as_raw());
                ensure!(killed, "it ended with {status}: {}", self.log_end());
                return Ok(());
            }
            thread::sleep(PAUSE);
        }
        let _ = child.kill();
        let _ = child.wait();
        bail!("it was not killed: {}", self.log_end())
    }

    /// Asks its probe address.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn probe(&self, path: &str) -> Result<Answer> {
        probe(self.probes, path)
    }

    /// Waits until `/readyz` says yes.
    ///
    /// # Errors
    /// When it takes too long, with what is missing and the end of its log.
    pub fn wait_ready(&self) -> Result<()> {
        self.wait(|answer| answer.status == 200)
    }

    /// Waits until `/readyz` names something that is missing.
    ///
    /// # Errors
    /// As `wait_ready`.
    pub fn wait_missing(&self, text: &str) -> Result<()> {
        self.wait(|answer| answer.body.contains(text))
    }

    fn wait(&self, enough: impl Fn(&Answer) -> bool) -> Result<()> {
        let start = Instant::now();
        let mut last = "nothing".to_owned();
        while start.elapsed() < LIMIT {
            if let Ok(answer) = self.probe("/readyz") {
                if enough(&answer) {
                    return Ok(());
                }
                last = answer.body;
            }
            thread::sleep(PAUSE);
        }
        bail!(
            "the plugin of {} says {last}; its log: {}",
            self.node,
            self.log_end()
        )
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.kill();
    }
}
