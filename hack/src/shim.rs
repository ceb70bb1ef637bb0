//! The PKCS#11 module of the tests, which stands in front of SoftHSM: built, and put where hsm-agent loads it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
pub use strongroom_pkcs11_shim::{Call, Steering};

use crate::{installation::AGENT_UID, run::cargo};

/// Where Debian's package puts SoftHSM.
pub const SOFTHSM: &str = "/usr/lib/softhsm/libsofthsm2.so";

/// A copy of the module and what steers it.
#[derive(Debug)]
pub struct Shim {
    /// What `token.module` names.
    pub module: PathBuf,
    /// Counts calls, delays and fails them.
    pub steering: Steering,
}

impl Shim {
    /// Puts a copy of the module into a folder. Each copy is steered by itself.
    ///
    /// # Errors
    /// When it does not compile, or the folder has one already.
    pub fn place(folder: &Path) -> Result<Self> {
        let module = folder.join("pkcs11-shim.so");
        fs::copy(built()?, &module)
            .with_context(|| format!("cannot copy the shim to {}", module.display()))?;
        let steering = Steering::make(&module, Path::new(SOFTHSM), AGENT_UID)
            .with_context(|| format!("cannot steer {}", module.display()))?;
        Ok(Self { module, steering })
    }
}

/// One message of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

fn built() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--lib"]);
    command.args(["--package", "strongroom-pkcs11-shim-module"]);
    command.arg("--message-format=json-render-diagnostics");
    let output = command.stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the PKCS#11 shim does not compile");
    let name = "libstrongroom_pkcs11_shim_module.so";
    for line in String::from_utf8(output.stdout)?.lines() {
        let files = serde_json::from_str::<Message>(line)?.filenames;
        if let Some(module) = files.into_iter().find(|file| file.ends_with(name)) {
            return Ok(module);
        }
    }
    anyhow::bail!("cargo built no {name}")
}
