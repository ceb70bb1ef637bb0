//! Why files cannot be those of a bundle. The author's to mend, so each says where and what is possible.

use super::{
    BUNDLE_FILES_MAX, InvalidVolumePath, TEMPLATE_BYTES_MAX, TEMPLATE_SECRETS_MAX,
    TEMPLATES_BYTES_MAX, VOLUME_SECRETS_MAX, VolumePath,
};

/// Why files cannot be those of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// None, or too many.
    #[error("a bundle has 1 to {BUNDLE_FILES_MAX} files")]
    Files,
    /// A path that no volume can hold.
    #[error("{path:?}: {source}")]
    Path {
        /// The text that was given.
        path: String,
        /// What a path is.
        source: InvalidVolumePath,
    },
    /// The same path twice.
    #[error("the path {0} is there twice")]
    Twice(VolumePath),
    /// A file where another file needs a folder.
    #[error("{folder} cannot be a file, since {path} lies below it")]
    Folder {
        /// The file below.
        path: VolumePath,
        /// The file that would have to be a folder.
        folder: String,
    },
    /// Bits beyond those.
    #[error("mode {0:o} has other bits than those for reading and writing, which are at most 666")]
    Mode(u32),
    /// The number that stands for nobody.
    #[error("the owner or group of {0} is the number that stands for none")]
    Owner(VolumePath),
    /// Too many secrets.
    #[error("the files name more than {VOLUME_SECRETS_MAX} secrets")]
    Secrets,
    /// A template over none or too many.
    #[error("a template names 1 to {TEMPLATE_SECRETS_MAX} secrets")]
    TemplateSecrets,
    /// An empty or long template.
    #[error("the text of a template has 1 to {TEMPLATE_BYTES_MAX} bytes")]
    TemplateText,
    /// All texts together are too long.
    #[error("the texts of all templates together have more than {TEMPLATES_BYTES_MAX} bytes")]
    Templates,
}
