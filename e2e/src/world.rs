//! A cluster and an installation beside it, for one story.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use strongroom_hack::{
    cluster::{Health, Name, Options, Release, ScopedCluster},
    installation::{Installation, Settings},
    programs::{Build, Programs},
};

/// Everything that one story needs. It leaves nothing behind unless the story fails.
#[derive(Debug)]
pub struct World {
    /// The three programs.
    pub installation: Installation,
    /// The control plane.
    pub cluster: ScopedCluster,
    /// The command line's configuration of the administrator.
    pub administrator: PathBuf,
    /// What `audit verify` trusts.
    pub fingerprint: String,
    root: PathBuf,
}

/// An installation of its own for a test, below a folder that nobody else can write.
///
/// # Errors
/// When it cannot be laid out.
pub fn installation(name: &str, first_port: u16) -> Result<Installation> {
    Installation::lay_out(settings(name, first_port)?)
}

fn settings(name: &str, first_port: u16) -> Result<Settings> {
    let root =
        PathBuf::from("/var/lib/strongroom-test").join(format!("{name}-{}", std::process::id()));
    let programs = Programs::ensure_built(Build::Plain)?;
    Ok(Settings::new(root, programs.folder(), first_port))
}

impl World {
    /// Starts a cluster that stores plainly, and an initialised installation.
    ///
    /// # Errors
    /// With the log of whatever did not come up.
    pub fn start(name: &str, first_port: u16, kubernetes: Release) -> Result<Self> {
        Self::start_with(name, first_port, kubernetes, |_| {})
    }

    /// The same with other settings of the installation.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_with(
        name: &str,
        first_port: u16,
        kubernetes: Release,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self> {
        let mut settings = settings(name, first_port)?;
        change(&mut settings);
        let mut installation = Installation::lay_out(settings)?;
        let fingerprint = installation.bring_up()?;
        let administrator = installation.administrator("administrator")?;
        let mut options = Options::new(format!("e2e-{name}").parse::<Name>()?);
        options.kubernetes = kubernetes;
        let cluster = ScopedCluster::up(options)?;
        let root = installation.path("");
        Ok(Self {
            installation,
            cluster,
            administrator,
            fingerprint,
            root,
        })
    }

    /// Switches encryption of Secrets on and waits until the API server uses it.
    ///
    /// # Errors
    /// When the API server does not become ready.
    pub fn encrypt_secrets(&self) -> Result<()> {
        self.cluster
            .replace_encryption(&self.installation.encryption_configuration(&["secrets"]))?;
        // A restart is quicker than the reload, which looks at the file once a minute.
        self.cluster.restart_api_server(Health::Ready)
    }

    /// Makes a Secret with one value.
    ///
    /// # Errors
    /// As kubectl.
    pub fn create_secret(&self, name: &str, value: &str) -> Result<()> {
        let literal = format!("--from-literal=password={value}");
        self.cluster
            .kubectl(&["create", "secret", "generic", name, &literal])
            .map(drop)
    }

    /// The value of a Secret, as the API server gives it.
    ///
    /// # Errors
    /// As kubectl.
    pub fn secret(&self, name: &str) -> Result<String> {
        let shown = self.cluster.kubectl(&[
            "get",
            "secret",
            name,
            "-o",
            "go-template={{.data.password | base64decode}}",
        ])?;
        Ok(shown.trim().to_owned())
    }

    /// The raw bytes of a Secret in etcd.
    ///
    /// # Errors
    /// When it is not there.
    pub fn raw_secret(&self, name: &str) -> Result<Vec<u8>> {
        let entry = self.cluster.etcd_get(&secret_path(name))?;
        Ok(entry
            .with_context(|| format!("no secret {name} in etcd"))?
            .value)
    }

    /// The resource version of a Secret.
    ///
    /// # Errors
    /// As kubectl.
    pub fn resource_version(&self, name: &str) -> Result<String> {
        let shown = self.cluster.kubectl(&[
            "get",
            "secret",
            name,
            "-o",
            "jsonpath={.metadata.resourceVersion}",
        ])?;
        Ok(shown.trim().to_owned())
    }

    /// Writes a Secret back as it is.
    ///
    /// # Errors
    /// As kubectl.
    pub fn write_unchanged(&self, name: &str) -> Result<()> {
        let object = self
            .cluster
            .kubectl(&["get", "secret", name, "-o", "json"])?;
        self.cluster
            .kubectl_with_input(&["replace", "-f", "-"], &object)
            .map(drop)
    }

    /// Runs the command line.
    ///
    /// # Errors
    /// When it does not exit with 0, with what it said.
    pub fn strongroom(&self, arguments: &[&str]) -> Result<String> {
        run(self
            .installation
            .kubectl_strongroom(&self.administrator)
            .args(arguments))
    }

    /// The API server's counter of calls of one method of our plugin.
    ///
    /// # Errors
    /// When it has no metrics.
    pub fn plugin_calls(&self, method: &str) -> Result<u64> {
        let name = "apiserver_envelope_encryption_kms_operations_latency_seconds_count";
        let label = format!("{method}\"");
        let metrics = self.cluster.metrics()?;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(&label));
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
        Ok(counts.sum())
    }

    /// Waits until the API server reports this key id hash as the one in force.
    ///
    /// # Errors
    /// After three minutes.
    pub fn wait_for_key_id(&self, hash: &str) -> Result<()> {
        let metric = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";
        wait(
            Duration::from_secs(180),
            "the API server reports the new key id",
            || {
                // The probe makes the API server ask for the status at once, not at its next minute.
                let _ = self.cluster.get("/readyz/kms-providers");
                let metrics = self.cluster.metrics()?;
                let newest = metrics
                    .lines()
                    .filter(|line| line.starts_with(metric))
                    .max_by(|one, other| value(one).total_cmp(&value(other)));
                Ok(newest.is_some_and(|line| line.contains(hash)))
            },
        )
    }

    /// Removes everything; a story calls it as its last step, so that a failed one leaves its debris.
    ///
    /// # Errors
    /// When a program does not end.
    pub fn clean_up(mut self) -> Result<()> {
        self.installation.stop_all()?;
        std::fs::remove_dir_all(&self.root)?;
        Ok(())
    }
}

fn value(line: &str) -> f64 {
    line.rsplit(' ')
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0.0)
}

/// Where the API server keeps a Secret of the default namespace.
#[must_use]
pub fn secret_path(name: &str) -> String {
    format!("/registry/secrets/default/{name}")
}

/// Runs a command to its end.
///
/// # Errors
/// When it does not exit with 0, with what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {said}",
        output.status
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until something holds; an error counts as "not yet".
///
/// # Errors
/// After `limit`.
pub fn wait(limit: Duration, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    loop {
        let last = match holds() {
            Ok(true) => return Ok(()),
            Ok(false) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > limit {
            bail!("after {limit:?} still not: {what}: {last}");
        }
        thread::sleep(Duration::from_millis(500));
    }
}
