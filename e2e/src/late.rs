//! Things that are late when a node boots, who says so, and what must be as it was when they are there.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use strongroom_hack::cluster::Health;

use crate::{
    control_plane::{ControlPlane, succeeded},
    world::wait,
};

/// The programs of a node, each of which waits for those before it.
pub const PROGRAMS: [&str; 3] = ["hsm-agent", "key-service", "kms-plugin"];
/// Where they keep what they have.
pub const STATE: &str = "/var/lib/strongroom";
/// A Secret that was written before anything was late.
pub const BEFORE: &str = "before";
/// How long what was away may take to be well again, on a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(120);

/// A folder of ours whose content lies on a disk that is not mounted yet.
pub struct LateDisk {
    at: String,
}

impl LateDisk {
    const DISK: &str = "/var/lib/late-disk";

    /// Boots without the disk of a folder.
    ///
    /// # Errors
    /// As the cluster.
    pub fn boot_without(control_plane: &ControlPlane, folder: &str) -> Result<Self> {
        let node = control_plane.node()?;
        let at = format!("{STATE}/{folder}");
        control_plane.cluster.power_off()?;
        fs::rename(node.on_disk(&at), node.on_disk(Self::DISK))?;
        fs::create_dir(node.on_disk(&at))?;
        control_plane.cluster.power_on()?;
        Ok(Self { at })
    }

    /// Mounts it.
    ///
    /// # Errors
    /// As `mount`.
    pub fn mount(&self, control_plane: &ControlPlane) -> Result<()> {
        let node = control_plane.node()?;
        node.output("mount", &["--bind", Self::DISK, &self.at])
            .map(drop)
    }

    /// Makes it an ordinary folder again, with the node off. Below the mount, where only the machine sees it, nothing was
    /// written.
    ///
    /// # Errors
    /// When something was written there.
    pub fn put_back(self, control_plane: &ControlPlane) -> Result<()> {
        let node = control_plane.node()?;
        control_plane.cluster.power_off()?;
        fs::remove_dir(node.on_disk(&self.at)).with_context(|| format!("below {}", self.at))?;
        fs::rename(node.on_disk(Self::DISK), node.on_disk(&self.at))?;
        control_plane.cluster.power_on()
    }
}

/// A program whose pod the kubelet does not know yet.
pub struct LatePod {
    manifest: PathBuf,
    kept: PathBuf,
}

impl LatePod {
    /// Boots without the pod of a program.
    ///
    /// # Errors
    /// As the cluster.
    pub fn boot_without(control_plane: &ControlPlane, program: &str) -> Result<Self> {
        let node = control_plane.node()?;
        let file = format!("strongroom-{program}.yaml");
        let late = Self {
            manifest: node.on_disk(&format!("/etc/kubernetes/manifests/{file}")),
            kept: node.on_disk(&format!("/etc/kubernetes/{file}")),
        };
        control_plane.cluster.power_off()?;
        fs::rename(&late.manifest, &late.kept)?;
        control_plane.cluster.power_on()?;
        Ok(late)
    }

    /// Gives the kubelet its manifest.
    ///
    /// # Errors
    /// When the file cannot be moved.
    pub fn arrive(self) -> Result<()> {
        Ok(fs::rename(self.kept, self.manifest)?)
    }
}

/// Who says what of something that is late.
pub struct Named {
    program: &'static str,
    condition: &'static str,
    sentence: &'static str,
}

impl Named {
    /// A condition of a program's `/readyz`, and what stands there.
    #[must_use]
    pub const fn of(
        program: &'static str,
        condition: &'static str,
        sentence: &'static str,
    ) -> Self {
        Self {
            program,
            condition,
            sentence,
        }
    }

    /// Whether it is said.
    ///
    /// # Errors
    /// When something else is.
    pub fn is_said(&self, control_plane: &ControlPlane) -> Result<bool> {
        let said = control_plane.readyz(port(self.program))?;
        let line = said.lines().find(|line| line.starts_with(self.condition));
        let line = line.with_context(|| said.clone())?;
        ensure!(line.contains(self.sentence), "{line}");
        Ok(true)
    }
}

/// What `init` made, and only `init` may make.
#[derive(Debug, PartialEq, Eq)]
pub struct Made {
    instance: String,
    pins: Vec<u8>,
    origin: Vec<u8>,
    key_id: String,
}

impl Made {
    /// Looks what there is, and writes a Secret with it.
    ///
    /// # Errors
    /// As the API server.
    pub fn begin(control_plane: &ControlPlane) -> Result<Self> {
        control_plane.create_secret(BEFORE)?;
        Self::look(control_plane)
    }

    fn look(control_plane: &ControlPlane) -> Result<Self> {
        let node = control_plane.node()?;
        let status = succeeded(control_plane.strongroom(&["status", "-o", "json"])?)?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let read = |file: &str| fs::read(node.on_disk(&format!("{STATE}/{file}")));
        let state: serde_json::Value = serde_json::from_slice(&read("kms-plugin/state.json")?)?;
        Ok(Self {
            instance: status["instanceID"].to_string(),
            pins: read("key-service/pin.json")?,
            origin: read("audit/origin")?,
            key_id: state["keyId"].to_string(),
        })
    }

    /// All is as it was, and what was written before is read.
    ///
    /// # Errors
    /// With what became of it.
    pub fn check(&self, control_plane: &ControlPlane) -> Result<()> {
        let now = Self::look(control_plane)?;
        ensure!(now == *self, "{self:?} became {now:?}");
        control_plane.check_secret(BEFORE)
    }
}

fn port(program: &str) -> u16 {
    match program {
        "key-service" => 8080,
        "kms-plugin" => 8081,
        _ => 8082,
    }
}

/// Waits until a program is ready.
///
/// # Errors
/// When it is not in time.
pub fn wait_ready(control_plane: &ControlPlane, program: &str) -> Result<()> {
    wait(LIMIT, &format!("{program} is ready"), || {
        let said = control_plane.readyz(port(program))?;
        ensure!(said == "ok\n", "{said}");
        Ok(true)
    })
}

/// Waits until all programs are ready, and the API server that runs as a process beside the kubelet.
///
/// # Errors
/// When one is not in time.
pub fn wait_all_ready(control_plane: &ControlPlane) -> Result<()> {
    for program in PROGRAMS {
        wait_ready(control_plane, program)?;
    }
    control_plane.node()?.wait_for_api_server(Health::Ready)
}
