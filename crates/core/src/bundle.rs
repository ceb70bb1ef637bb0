//! A bundle: which secrets become which files of a volume. It holds names and no value, and whoever reads through it needs
//! his own role on each secret that it names.
//!
//! What can be told without looking at a secret is refused here, before anything is written: paths, modes, owners, sizes.

mod error;
mod path;

use std::collections::BTreeSet;

pub use error::BundleError;
pub use path::{InvalidVolumePath, VolumePath};

use crate::{FieldName, Name, RingId, SecretStage, Uid, UnixMillis};

/// Most files of a bundle.
pub const BUNDLE_FILES_MAX: usize = 128;
/// Most secrets that one volume reads.
pub const VOLUME_SECRETS_MAX: usize = 64;
/// Most bytes that all files of one volume hold together: 64 secrets of 64 KiB.
pub const VOLUME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most secrets that one template names.
pub const TEMPLATE_SECRETS_MAX: usize = 16;
/// Longest text of a template.
pub const TEMPLATE_BYTES_MAX: usize = 16 * 1024;
/// Longest texts of all templates of a bundle together, so that its record fits into the store.
pub const TEMPLATES_BYTES_MAX: usize = 256 * 1024;

/// Everything about a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle {
    /// The ring under which it is kept.
    pub ring: RingId,
    /// Its name, unique among the bundles of the ring's owner.
    pub name: Name,
    /// The custom resource that it was made from.
    pub object: Uid,
    /// When it was made.
    pub created: UnixMillis,
    /// Its files.
    pub files: BundleFiles,
}

/// Bits for reading and writing a file: nothing in a volume is to be executed. The mount says so too, but container runtimes
/// drop that from a read-only bind of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileMode(u32);

impl FileMode {
    /// What files have that say nothing: their owner and group read them.
    pub const DEFAULT: Self = Self(0o440);

    /// Takes permission bits.
    ///
    /// # Errors
    /// When there are other bits.
    pub const fn new(bits: u32) -> Result<Self, BundleError> {
        if bits & !0o666 == 0 {
            Ok(Self(bits))
        } else {
            Err(BundleError::Mode(bits))
        }
    }

    /// The bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// One file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFile {
    /// Where it is in the volume.
    pub path: VolumePath,
    /// Who may do what with it.
    pub mode: FileMode,
    /// Its owner; none stands for root.
    pub uid: Option<u32>,
    /// Its group; none stands for the pod's.
    pub gid: Option<u32>,
    /// What it holds.
    pub content: FileContent,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileContent {
    /// The bytes of one field.
    Field(FieldFile),
    /// What a template makes of secrets.
    Template(Template),
}

/// The bytes of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFile {
    /// The secret.
    pub secret: Name,
    /// Its field.
    pub field: FieldName,
    /// Which version.
    pub stage: SecretStage,
    /// Whether there is just no file when there is no such value.
    pub optional: bool,
}

/// A text with the places where values go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    secrets: BTreeSet<Name>,
    text: String,
}

impl Template {
    /// A template over the current values of secrets. Whether the text is one is for its engine to say.
    ///
    /// # Errors
    /// Too few or too many secrets, or too long a text.
    pub fn new(secrets: BTreeSet<Name>, text: String) -> Result<Self, BundleError> {
        if !(1..=TEMPLATE_SECRETS_MAX).contains(&secrets.len()) {
            return Err(BundleError::TemplateSecrets);
        }
        if !(1..=TEMPLATE_BYTES_MAX).contains(&text.len()) {
            return Err(BundleError::TemplateText);
        }
        Ok(Self { secrets, text })
    }

    /// The secrets that the text may name.
    #[must_use]
    pub const fn secrets(&self) -> &BTreeSet<Name> {
        &self.secrets
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The files of a bundle, ordered by path: a volume can hold them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFiles(Vec<BundleFile>);

impl BundleFiles {
    /// Takes files in any order.
    ///
    /// # Errors
    /// See `BundleError`.
    pub fn new(mut files: Vec<BundleFile>) -> Result<Self, BundleError> {
        if !(1..=BUNDLE_FILES_MAX).contains(&files.len()) {
            return Err(BundleError::Files);
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        check_paths(&files)?;
        let mut texts = 0;
        for file in &files {
            // The kernel takes the highest number for "none".
            if file.uid == Some(u32::MAX) || file.gid == Some(u32::MAX) {
                return Err(BundleError::Owner(file.path.clone()));
            }
            if let FileContent::Template(template) = &file.content {
                texts += template.text.len();
            }
        }
        if texts > TEMPLATES_BYTES_MAX {
            return Err(BundleError::Templates);
        }
        let files = Self(files);
        if files.secrets().len() > VOLUME_SECRETS_MAX {
            return Err(BundleError::Secrets);
        }
        Ok(files)
    }

    /// The files in the order of their paths.
    pub fn iter(&self) -> impl Iterator<Item = &BundleFile> {
        self.0.iter()
    }

    /// Every secret that is named, each once.
    #[must_use]
    pub fn secrets(&self) -> BTreeSet<&Name> {
        let mut secrets = BTreeSet::new();
        for file in &self.0 {
            match &file.content {
                FileContent::Field(field) => {
                    secrets.insert(&field.secret);
                }
                FileContent::Template(template) => secrets.extend(&template.secrets),
            }
        }
        secrets
    }
}

/// No path twice, and none that is a folder of another. In their order what lies below a path need not follow it at once:
/// `a-b` stands between `a` and `a/b`.
fn check_paths(files: &[BundleFile]) -> Result<(), BundleError> {
    let mut paths = BTreeSet::new();
    for file in files {
        if !paths.insert(file.path.as_str()) {
            return Err(BundleError::Twice(file.path.clone()));
        }
    }
    for file in files {
        if let Some(folder) = file.path.folders().find(|it| paths.contains(it)) {
            return Err(BundleError::Folder {
                path: file.path.clone(),
                folder: folder.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
