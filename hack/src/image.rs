//! Container images of our programs, made out of files: no registry, no container runtime, no Dockerfile. The same
//! programs are always the same bytes.

mod archive;
mod debian;
mod layer;
mod tar;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::installation::Program;
use crate::programs::{Build, Programs};
use crate::{paths, progress};

pub use archive::{Archive, Description, pack};
pub use layer::Layer;

/// The folder in the driver's image on which it tries mounts at its start.
const SELF_TEST_FOLDER: &str = "run/strongroom-csi";

/// A program that runs in a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One of an installation.
    Installed(Program),
    /// The driver that runs on each node, as root: it mounts.
    CsiDriver,
    /// What tells the key service of custom resources.
    Operator,
}

/// User id of the operator.
pub const OPERATOR_UID: u32 = 2004;

impl Subject {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Installed(Program::HsmAgent),
        Self::Installed(Program::KeyService),
        Self::Installed(Program::KmsPlugin),
        Self::CsiDriver,
        Self::Operator,
    ];

    /// The name of its binary.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Installed(program) => program.name(),
            Self::CsiDriver => "csi-driver",
            Self::Operator => "operator",
        }
    }

    const fn uid(self) -> u32 {
        match self {
            Self::Installed(program) => program.uid(),
            Self::CsiDriver => 0,
            Self::Operator => OPERATOR_UID,
        }
    }
}

impl From<Program> for Subject {
    fn from(program: Program) -> Self {
        Self::Installed(program)
    }
}

/// What all our images are called by: a name of our own, which no runtime completes with somebody's registry.
pub const PREFIX: &str = "strongroom.dev";

/// An image that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// The program.
    pub name: &'static str,
    /// Name and tag, as a pod's specification has it.
    pub reference: String,
    /// The digest by which a runtime knows it.
    pub image_id: String,
    /// The file.
    pub archive: PathBuf,
    /// The file's digest.
    pub archive_digest: String,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Written {
    /// The images.
    pub images: Vec<Image>,
    /// The command line for nodes, a static program.
    pub kubectl_strongroom: PathBuf,
    /// The command line's digest.
    pub kubectl_strongroom_digest: String,
}

/// Builds the programs and writes an archive of each that runs in a pod, and the command line as it is.
///
/// # Errors
/// When a program does not compile, a Debian package is not to be had, or a file cannot be written.
pub fn write(folder: &Path, build: Build) -> Result<Written> {
    let programs = progress::step("programs for images", || Programs::ensure_built(build))?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {folder:?}"))?;
    let revision = revision();
    let mut images = Vec::new();
    for subject in Subject::ALL {
        let layers = layers(subject, &programs)?;
        let archive = pack(&describe(subject, revision.as_deref()), &layers)?;
        images.push(save(folder, subject, &archive)?);
    }
    let source = programs.kubectl_strongroom();
    let kubectl_strongroom = folder.join("kubectl-strongroom");
    let bytes = fs::read(&source).with_context(|| format!("cannot read {source:?}"))?;
    replace(&kubectl_strongroom, &bytes, 0o755)?;
    Ok(Written {
        images,
        kubectl_strongroom,
        kubectl_strongroom_digest: format!("sha256:{}", archive::sha256(&bytes)),
    })
}

/// The layers of a program's image, the lowest first.
///
/// # Errors
/// When a Debian package is not to be had, or the program cannot be read.
pub fn layers(subject: impl Into<Subject>, programs: &Programs) -> Result<Vec<Layer>> {
    let subject = subject.into();
    let path = programs.folder().join(subject.name());
    let bytes = fs::read(&path).with_context(|| format!("cannot read {path:?}"))?;
    let license = fs::read(paths::checkout().join("LICENSE"))?;
    let own = Layer::default()
        .file(entrypoint(subject).trim_start_matches('/'), 0o755, bytes)
        .file("usr/share/doc/strongroom/LICENSE", 0o644, license);
    match subject {
        Subject::Installed(Program::HsmAgent) => Ok(vec![debian::base()?, own]),
        Subject::Installed(Program::KeyService | Program::KmsPlugin) | Subject::Operator => {
            Ok(vec![own])
        }
        Subject::CsiDriver => Ok(vec![own.folder(SELF_TEST_FOLDER, 0o700)]),
    }
}

fn entrypoint(subject: Subject) -> String {
    format!("/usr/bin/{}", subject.name())
}

/// Name and tag of a program's image.
#[must_use]
pub fn reference(subject: impl Into<Subject>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{PREFIX}/{}:{version}", subject.into().name())
}

fn describe(subject: Subject, revision: Option<&str>) -> Description {
    let label =
        |name: &str, value: &str| (format!("org.opencontainers.image.{name}"), value.to_owned());
    let mut labels = BTreeMap::from([
        label("title", &format!("Strongroom {}", subject.name())),
        label("version", env!("CARGO_PKG_VERSION")),
        label("licenses", "Apache-2.0"),
    ]);
    labels.extend(revision.map(|revision| label("revision", revision)));
    Description {
        reference: reference(subject),
        user: subject.uid(),
        entrypoint: entrypoint(subject),
        labels,
    }
}

/// The commit that the checkout is at; a source tree without history has none.
fn revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .current_dir(paths::checkout())
            .args(arguments)
            .output()
            .ok()
            .filter(|output| output.status.success())?;
        String::from_utf8(output.stdout).ok()
    };
    let commit = git(&["rev-parse", "HEAD"])?.trim().to_owned();
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if changed {
        format!("{commit}-dirty")
    } else {
        commit
    })
}

fn save(folder: &Path, subject: Subject, archive: &Archive) -> Result<Image> {
    let path = folder.join(format!("{}.tar", subject.name()));
    replace(&path, &archive.bytes, 0o644)?;
    Ok(Image {
        name: subject.name(),
        reference: reference(subject),
        image_id: archive.image_id.clone(),
        archive: path,
        archive_digest: format!("sha256:{}", archive::sha256(&archive.bytes)),
    })
}

/// Writes a file in one step, so that nobody loads half of one.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let next = path.with_extension("next");
    fs::write(&next, bytes)
        .and_then(|()| fs::set_permissions(&next, fs::Permissions::from_mode(mode)))
        .and_then(|()| fs::rename(&next, path))
        .with_context(|| format!("cannot write {path:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_says_who_runs_what() {
        let description = describe(Program::KmsPlugin.into(), Some("abc-dirty"));
        assert_eq!(description.user, 2002);
        assert_eq!(description.entrypoint, "/usr/bin/kms-plugin");
        let reference = description.reference;
        assert!(
            reference.starts_with("strongroom.dev/kms-plugin:"),
            "{reference}"
        );
        assert_eq!(
            description.labels["org.opencontainers.image.revision"],
            "abc-dirty"
        );
    }
}
