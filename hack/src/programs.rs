//! Our own programs, built for the stories: once as users get them, once with fault points, once for images. Several
//! come from the same cargo target folder, where one would overwrite the other, so each gets a folder of links.

mod portable;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use self::portable::Linking;
use crate::run::cargo;
use crate::tools;

/// How the programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// As users get them.
    Plain,
    /// With named places at which a test ends them.
    FaultPoints,
    /// Optimised, for benchmarks.
    Release,
    /// For images: the same bytes wherever they are built, and static but for the one that loads a module.
    Image,
    /// As `Image`, optimised.
    ReleaseImage,
}

const PACKAGES: [&str; 6] = [
    "strongroom-key-service",
    "strongroom-hsm-agent",
    "strongroom-kms-plugin",
    "strongroom-kubectl-strongroom",
    "strongroom-csi-driver",
    "strongroom-operator",
];

/// The package that loads a PKCS#11 module, which a static program cannot do.
const HSM_AGENT: &str = PACKAGES[1];

/// The others.
const STATIC: [&str; 5] = [
    PACKAGES[0],
    PACKAGES[2],
    PACKAGES[3],
    PACKAGES[4],
    PACKAGES[5],
];

/// The packages that have fault points.
const FAULTY: [&str; 4] = [PACKAGES[0], PACKAGES[1], PACKAGES[2], PACKAGES[4]];

/// The programs of one build.
#[derive(Clone, Debug)]
pub struct Programs {
    folder: PathBuf,
}

impl Programs {
    /// Builds the programs; quick when nothing changed.
    ///
    /// # Errors
    /// Fails when they do not compile; the reason is on standard error.
    pub fn ensure_built(build: Build) -> Result<Self> {
        let built = compile(build)?;
        let target = built
            .first()
            .and_then(|program| program.parent())
            .context("nothing was built")?;
        let folder = target.join("strongroom-programs").join(build.folder());
        fs::create_dir_all(&folder)?;
        let _lock = tools::lock(&folder.with_extension("lock"))?;
        for program in &built {
            link(program, &folder)?;
        }
        Ok(Self { folder })
    }

    /// Returns the folder of the programs, fit for `PATH`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the program that serves keys.
    pub fn key_service(&self) -> PathBuf {
        self.folder.join("key-service")
    }

    /// Returns the program that talks to the token.
    pub fn hsm_agent(&self) -> PathBuf {
        self.folder.join("hsm-agent")
    }

    /// Returns the program that the API server talks to.
    pub fn kms_plugin(&self) -> PathBuf {
        self.folder.join("kms-plugin")
    }

    /// Returns the program that puts secrets into pods.
    pub fn csi_driver(&self) -> PathBuf {
        self.folder.join("csi-driver")
    }

    /// Returns the program that follows custom resources.
    pub fn operator(&self) -> PathBuf {
        self.folder.join("operator")
    }

    /// Returns the program that people type.
    pub fn kubectl_strongroom(&self) -> PathBuf {
        self.folder.join("kubectl-strongroom")
    }
}

impl Build {
    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::FaultPoints => "fault-points",
            Self::Release => "release",
            Self::Image => "image",
            Self::ReleaseImage => "release-image",
        }
    }

    fn features(self) -> Vec<String> {
        match self {
            Self::Plain | Self::Release | Self::Image | Self::ReleaseImage => Vec::new(),
            Self::FaultPoints => FAULTY
                .map(|package| format!("{package}/fault-points"))
                .to_vec(),
        }
    }

    /// The cargo profile.
    fn profile(self) -> &'static str {
        match self {
            Self::Plain | Self::FaultPoints | Self::Image => "dev",
            Self::Release => "release",
            Self::ReleaseImage => "dist",
        }
    }
}

/// One message of `cargo build --message-format=json`.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

fn compile(build: Build) -> Result<Vec<PathBuf>> {
    match build {
        Build::Plain | Build::FaultPoints | Build::Release => {
            executables(&mut cargo_build(build, &PACKAGES))
        }
        Build::Image | Build::ReleaseImage => {
            let of = |packages: &[&str], linking| {
                portable::cargo_build(packages, build.profile(), linking)
                    .and_then(|mut command| executables(&mut command))
            };
            let mut programs = of(&STATIC, Linking::Static)?;
            programs.extend(of(&[HSM_AGENT], Linking::Dynamic)?);
            Ok(programs)
        }
    }
}

fn cargo_build(build: Build, packages: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["build", "--quiet", "--locked", "--bins"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(["--profile", build.profile()]);
    for package in packages {
        command.args(["--package", package]);
    }
    let features = build.features();
    if !features.is_empty() {
        command.arg("--features").arg(features.join(","));
    }
    command
}

/// Runs a build and returns the programs that it made.
fn executables(command: &mut Command) -> Result<Vec<PathBuf>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the programs do not compile");
    let mut executables = Vec::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        executables.extend(serde_json::from_str::<Message>(line)?.executable);
    }
    Ok(executables)
}

/// Puts a second name of the file into the folder in one step; a running program keeps what it runs.
fn link(program: &Path, folder: &Path) -> Result<()> {
    let name = program.file_name().context("a program has a name")?;
    let next = folder.join("next");
    // Left by a process that was killed in between.
    let _ = fs::remove_file(&next);
    fs::hard_link(program, &next)
        .and_then(|()| fs::rename(&next, folder.join(name)))
        .and_then(|()| remove_if_there(&next))
        .with_context(|| {
            format!(
                "cannot link {} into {}",
                program.display(),
                folder.display()
            )
        })
}

/// Renaming one name of a file onto another name of it does nothing at all.
fn remove_if_there(path: &Path) -> std::io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_is_replaced_by_the_newer_program() {
        let folder = tempfile::tempdir().unwrap();
        let programs = folder.path().join("programs");
        fs::create_dir(&programs).unwrap();
        let program = folder.path().join("tool");
        for content in ["old", "old", "new"] {
            fs::remove_file(&program).ok();
            fs::write(&program, content).unwrap();
            link(&program, &programs).unwrap();
            link(&program, &programs).unwrap();
            assert_eq!(fs::read_to_string(programs.join("tool")).unwrap(), content);
            assert_eq!(fs::read_dir(&programs).unwrap().count(), 1);
        }
    }
}
