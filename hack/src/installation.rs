//! The three programs on this machine, each under its own user id, with folders as an administrator would lay them out.
//!
//! Demo and stories start it beside a cluster: sockets have paths, so the API server reaches the plugin from its
//! own network namespace.

mod config;
mod credentials;
mod probe;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cluster::{Process, Records},
    shim::SOFTHSM,
};

pub use probe::{Answer, get as probe};

/// User id of the key service.
pub const KEY_SERVICE_UID: u32 = 2001;
/// User id of the plugin.
pub const PLUGIN_UID: u32 = 2002;
/// User id of the agent.
pub const AGENT_UID: u32 = 2003;

/// How long a program may take to be ready on a machine that also compiles.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// One of the three programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Loads the PKCS#11 module.
    HsmAgent,
    /// Uses the keys.
    KeyService,
    /// Answers the API server.
    KmsPlugin,
}

impl Program {
    /// All of them, in the order of a quick start.
    pub const ALL: [Self; 3] = [Self::HsmAgent, Self::KeyService, Self::KmsPlugin];

    /// The name of its binary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HsmAgent => "hsm-agent",
            Self::KeyService => "key-service",
            Self::KmsPlugin => "kms-plugin",
        }
    }

    /// The user id that it runs as.
    #[must_use]
    pub const fn uid(self) -> u32 {
        match self {
            Self::HsmAgent => AGENT_UID,
            Self::KeyService => KEY_SERVICE_UID,
            Self::KmsPlugin => PLUGIN_UID,
        }
    }

    /// A program gives its socket to the group of its client, so it must be in that group.
    const fn groups(self) -> &'static str {
        match self {
            Self::HsmAgent => "--groups=2001",
            Self::KeyService => "--groups=2002",
            Self::KmsPlugin => "--clear-groups",
        }
    }
}

/// What differs between installations.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Folder that holds everything; on a disk, and no folder above it writable by others.
    pub root: PathBuf,
    /// Folder of the programs.
    pub binaries: PathBuf,
    /// The first of ten ports on loopback.
    pub first_port: u16,
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// How long a KEK is used without the token, as the configuration writes it.
    pub kek_cache_ttl: String,
    /// The folder of the audit log, when it is not below `root`.
    pub audit_dir: Option<PathBuf>,
    /// Capacity of the audit log in MiB.
    pub audit_capacity_mib: u64,
    /// Entries of `access` as the key service's configuration writes them.
    pub access: Vec<String>,
    /// Whether the key service has a port for plugins of other nodes, the fifth of the ten.
    pub plugins: bool,
    /// Entries of `clusters` as the key service's configuration writes them; with one it has a port for their service
    /// accounts, the sixth of the ten.
    pub clusters: Vec<String>,
    /// The field `kubernetes` as the key service's configuration writes it. With `init: Request` in it the agent makes its token
    /// when it is asked.
    pub kubernetes: Option<String>,
    /// Variables that every program gets.
    pub environment: Vec<(String, String)>,
    /// Whether the programs go on when this process ends; [`remove`] ends them then.
    pub outlives: bool,
}

impl Settings {
    /// Settings as the samples have them.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, binaries: impl Into<PathBuf>, first_port: u16) -> Self {
        Self {
            root: root.into(),
            binaries: binaries.into(),
            first_port,
            module: PathBuf::from(SOFTHSM),
            kek_cache_ttl: "12h".to_owned(),
            audit_dir: None,
            audit_capacity_mib: 64,
            access: Vec::new(),
            plugins: false,
            clusters: Vec::new(),
            kubernetes: None,
            environment: Vec::new(),
            outlives: false,
        }
    }
}

/// Folders, configuration files and running programs.
#[derive(Debug)]
pub struct Installation {
    settings: Settings,
    running: Vec<(Program, Process)>,
}

impl Installation {
    /// Lays out folders and configuration files; starts and initialises nothing.
    ///
    /// # Errors
    /// Without root, or when the root folder exists.
    pub fn lay_out(settings: Settings) -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "user ids can be given to programs as root only"
        );
        let installation = Self {
            settings,
            running: Vec::new(),
        };
        fs::create_dir_all(&installation.settings.root)?;
        for (folder, owner, group, mode) in installation.folders() {
            fs::create_dir_all(&folder)?;
            chown(&folder, Some(owner), Some(group))?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode))?;
        }
        installation.write_configuration()?;
        Ok(installation)
    }

    fn folders(&self) -> Vec<(PathBuf, u32, u32, u32)> {
        vec![
            (self.path("etc"), 0, 0, 0o755),
            (self.path("log"), 0, 0, 0o755),
            (self.path("run"), 0, 0, 0o755),
            (self.path("processes"), 0, 0, 0o755),
            (self.path("agent"), AGENT_UID, AGENT_UID, 0o700),
            (self.path("run/hsm"), AGENT_UID, KEY_SERVICE_UID, 0o750),
            (
                self.path("service"),
                KEY_SERVICE_UID,
                KEY_SERVICE_UID,
                0o700,
            ),
            (self.audit_dir(), KEY_SERVICE_UID, KEY_SERVICE_UID, 0o700),
            (
                self.path("run/service"),
                KEY_SERVICE_UID,
                KEY_SERVICE_UID,
                0o700,
            ),
            (self.path("run/kms"), KEY_SERVICE_UID, PLUGIN_UID, 0o750),
            (self.path("plugin"), PLUGIN_UID, PLUGIN_UID, 0o700),
            (self.path("run/plugin"), PLUGIN_UID, PLUGIN_UID, 0o750),
        ]
    }

    /// Writes the configuration files anew, after the settings were changed.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_configuration(&self) -> Result<()> {
        for program in Program::ALL {
            fs::write(self.config(program), config::text(self, program))?;
        }
        Ok(())
    }

    /// The settings; write the configuration after a change.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// A path below the root.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.settings.root.join(relative)
    }

    /// The folder of the audit log.
    #[must_use]
    pub fn audit_dir(&self) -> PathBuf {
        self.settings
            .audit_dir
            .clone()
            .unwrap_or_else(|| self.path("audit"))
    }

    /// The configuration file of a program.
    #[must_use]
    pub fn config(&self, program: Program) -> PathBuf {
        self.path("etc").join(format!("{}.yaml", program.name()))
    }

    /// The output of a program.
    #[must_use]
    pub fn log(&self, program: Program) -> PathBuf {
        self.path("log").join(format!("{}.log", program.name()))
    }

    /// The socket for kube-apiserver.
    #[must_use]
    pub fn plugin_socket(&self) -> PathBuf {
        self.path("run/plugin/kms.sock")
    }

    /// The address for plugins of other nodes.
    #[must_use]
    pub fn plugins_address(&self) -> String {
        format!("127.0.0.1:{}", self.settings.first_port + 4)
    }

    /// The address for service accounts of clusters.
    #[must_use]
    pub fn workloads_address(&self) -> String {
        format!("127.0.0.1:{}", self.settings.first_port + 5)
    }

    /// The address of native gRPC.
    #[must_use]
    pub fn server(&self) -> String {
        format!("127.0.0.1:{}", self.settings.first_port)
    }

    fn probe_port(&self, program: Program) -> u16 {
        self.settings.first_port
            + match program {
                Program::KeyService => 1,
                Program::HsmAgent => 2,
                Program::KmsPlugin => 3,
            }
    }

    /// The text of an `EncryptionConfiguration` that encrypts Secrets, still reading plain ones.
    #[must_use]
    pub fn encryption_configuration(&self, resources: &[&str]) -> String {
        config::encryption(self, resources)
    }

    /// A command of a program, under its user id.
    #[must_use]
    pub fn command(&self, program: Program, subcommand: &str) -> Command {
        self.command_with(program, subcommand, &self.config(program))
    }

    /// The same with another configuration, as on another node.
    #[must_use]
    pub fn command_with(&self, program: Program, subcommand: &str, config: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--reuid={}", program.uid()))
            .arg(format!("--regid={}", program.uid()));
        command.args([program.groups(), "--inh-caps=-all", "--no-new-privs"]);
        command.arg(self.settings.binaries.join(program.name()));
        command.args([subcommand, "--config"]).arg(config);
        let environment = self.settings.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Runs `init` of a program to its end.
    ///
    /// # Errors
    /// With what it said.
    pub fn init(&self, program: Program) -> Result<String> {
        let output = self.command(program, "init").output()?;
        ensure!(
            output.status.success(),
            "{} init: {}",
            program.name(),
            said(&output)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Initialises token and instance and starts everything; returns the fingerprint for `audit verify`.
    ///
    /// # Errors
    /// Names the program and shows the end of its log.
    pub fn bring_up(&mut self) -> Result<String> {
        self.init(Program::HsmAgent)?;
        self.start(Program::HsmAgent, &[])?;
        self.wait_answering(Program::HsmAgent)?;
        let summary = self.init(Program::KeyService)?;
        self.start(Program::KeyService, &[])?;
        self.start(Program::KmsPlugin, &[])?;
        for program in Program::ALL {
            self.wait_ready(program)?;
        }
        let fingerprint = summary
            .lines()
            .find_map(|line| line.strip_prefix("audit fingerprint: "));
        Ok(fingerprint
            .context("init printed no fingerprint")?
            .trim()
            .to_owned())
    }

    /// Starts a program, with variables in its environment.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, program: Program, environment: &[(&str, &str)]) -> Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(program))?;
        let mut command = self.command(program, "serve");
        command
            .envs(environment.iter().copied())
            .stdout(log.try_clone()?)
            .stderr(log);
        if self.settings.outlives {
            // An interrupt of the terminal is for the processes in front of it.
            command.process_group(0);
        }
        let process = Process::spawn(&mut command)?;
        records(&self.settings.root).record(program.name(), process)?;
        self.running.retain(|(running, _)| *running != program);
        self.running.push((program, process));
        Ok(())
    }

    /// The running process of a program.
    ///
    /// # Errors
    /// When it was not started.
    pub fn process(&self, program: Program) -> Result<Process> {
        let found = self.running.iter().find(|(running, _)| *running == program);
        found
            .map(|(_, process)| *process)
            .with_context(|| format!("{} was not started", program.name()))
    }

    /// Ends a program in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, program: Program) -> Result<()> {
        self.process(program)?.stop()?;
        self.running.retain(|(running, _)| *running != program);
        Ok(())
    }

    /// Kills a program with SIGKILL.
    ///
    /// # Errors
    /// When it outlives that.
    pub fn kill(&mut self, program: Program) -> Result<()> {
        self.process(program)?.kill()?;
        self.running.retain(|(running, _)| *running != program);
        Ok(())
    }

    /// Asks the probe address of a program.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn probe(&self, program: Program, path: &str) -> Result<Answer> {
        probe::get(self.probe_port(program), path)
    }

    /// Waits until a program's `/readyz` says yes.
    ///
    /// # Errors
    /// When it ends or takes too long, with the end of its log.
    pub fn wait_ready(&self, program: Program) -> Result<()> {
        self.wait_until(program, "ready", |answer| answer.status == 200)
    }

    /// Waits until a program answers its probes, ready or not.
    ///
    /// # Errors
    /// As `wait_ready`.
    pub fn wait_answering(&self, program: Program) -> Result<()> {
        self.wait_until(program, "answering", |_| true)
    }

    fn wait_until(
        &self,
        program: Program,
        what: &str,
        enough: impl Fn(&Answer) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        let mut last = String::from("nothing");
        while start.elapsed() < READY_LIMIT {
            if let Ok(answer) = self.probe(program, "/readyz") {
                if enough(&answer) {
                    return Ok(());
                }
                last = answer.body;
            }
            if !self.process(program)?.is_alive() {
                bail!("{} ended; {}", program.name(), self.log_words(program));
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!(
            "{} is not {what} after {READY_LIMIT:?}: {last}; {}",
            program.name(),
            self.log_words(program)
        )
    }

    fn log_words(&self, program: Program) -> String {
        let log = self.log(program);
        format!(
            "the last lines of {}:\n{}",
            log.display(),
            self.log_end(program)
        )
    }

    /// The last lines of a program's log.
    #[must_use]
    pub fn log_end(&self, program: Program) -> String {
        let text = fs::read_to_string(self.log(program)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Gets a certificate for an administrator and writes the command line's configuration, which it returns.
    ///
    /// # Errors
    /// With what the command said.
    pub fn administrator(&self, name: &str) -> Result<PathBuf> {
        let (key, request) = credentials::certificate_request(name)?;
        let folder = self.path("etc");
        let at = |suffix: &str| folder.join(format!("{name}{suffix}"));
        write_private(&at(".key"), key.as_bytes())?;
        fs::write(at(".csr"), request)?;
        let scratch = self.path("run/service");
        let (chain, root) = (
            scratch.join(format!("{name}.crt")),
            scratch.join("root.crt"),
        );
        let mut command = self.command(Program::KeyService, "admin-certificate");
        command.args(["--name", name, "--request"]).arg(at(".csr"));
        command
            .arg("--out")
            .arg(&chain)
            .arg("--root-out")
            .arg(&root);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "admin-certificate: {}",
            said(&output)
        );
        fs::copy(&chain, at(".crt"))?;
        fs::copy(&root, at("-root.crt"))?;
        fs::write(at(".yaml"), config::command_line(self, name))?;
        Ok(at(".yaml"))
    }

    /// A command of the command line, with an administrator's configuration.
    #[must_use]
    pub fn kubectl_strongroom(&self, configuration: &Path) -> Command {
        let mut command = Command::new(self.settings.binaries.join("kubectl-strongroom"));
        command
            .env("STRONGROOM_CONFIG", configuration)
            .stdin(Stdio::null());
        command
    }

    /// Ends all programs.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop_all(&mut self) -> Result<()> {
        for (_, process) in self.running.drain(..).rev() {
            process.stop()?;
        }
        Ok(())
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if self.settings.outlives {
            return;
        }
        // What does not end now is reported by whoever looks for leftovers; a drop has nobody to tell.
        let _ = self.stop_all();
    }
}

/// Returns the records of the processes below the root folder of an installation.
#[must_use]
pub fn records(root: &Path) -> Records {
    Records::new(root.join("processes"))
}

/// Ends the programs of an installation that another process started, and removes its folder.
///
/// # Errors
/// When a process or file cannot be removed.
pub fn remove(root: &Path) -> Result<()> {
    let records = records(root);
    for name in records.names()? {
        records.stop(&name)?;
    }
    fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
}

fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let _ = File::create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, bytes)?;
    Ok(())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
