//! Why a volume is not published, or not refreshed. The sentences are what people read in events of pods.

use tonic::Code;

use crate::{
    request::NoToken,
    source::SourceError,
    table::Failure,
    volume::{InvalidFile, MountError, PublishedError, SystemError, WriteError},
};

/// Why a volume is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There is no token of the pod.
    #[error(transparent)]
    NoToken(NoToken),
    /// The key service gave nothing.
    #[error(transparent)]
    Source(SourceError),
    /// The key service says that nothing has changed, and there is nothing.
    #[error("the key service sent no files")]
    Empty,
    /// What it sent is refused.
    #[error("the key service sent a file that no volume can hold")]
    Files(#[source] InvalidFile),
    /// It does not fit.
    #[error(
        "the secrets do not fit: volume.sizeMib and volume.inodes in the driver's configuration"
    )]
    TooLarge,
    /// Another volume is there.
    #[error("another volume is published at target_path")]
    Taken,
    /// kubelet has not made the folder.
    #[error("the folder that should hold target_path does not exist")]
    NoFolder,
    /// The folder cannot be used.
    #[error("the folder that holds target_path cannot be used")]
    Place(#[source] SystemError),
    /// It is not known what is published.
    #[error("it cannot be told what is published at target_path")]
    Published(#[source] PublishedError),
    /// The tmpfs cannot be mounted.
    #[error("the volume cannot be mounted")]
    Mount(#[source] MountError),
    /// The files cannot be written.
    #[error("the files cannot be written")]
    Write(#[source] WriteError),
}

/// Why a volume holds what it held.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// kubelet has not published it again since the driver's start.
    #[error("the driver has restarted, and kubelet has not published the volume again")]
    NoAccess,
    /// The key service gave nothing.
    #[error(transparent)]
    Source(SourceError),
    /// What it sent is refused.
    #[error("the key service sent a file that no volume can hold")]
    Files(#[source] InvalidFile),
    /// It does not fit.
    #[error(
        "the secrets do not fit: volume.sizeMib and volume.inodes in the driver's configuration"
    )]
    TooLarge,
    /// The files cannot be written.
    #[error("the files cannot be written")]
    Write(#[source] WriteError),
}

impl RefreshError {
    /// The key service's word for it, for logs.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::Source(SourceError::Refused { reason, .. }) => reason,
            _ => "",
        }
    }

    /// What the volume's condition says of it.
    pub(super) fn failure(&self) -> Failure {
        let sentence = self.to_string();
        match self {
            Self::Source(SourceError::Refused { code, .. }) if !is_passing(*code) => {
                Failure::Refused(sentence)
            }
            Self::Source(_) | Self::NoAccess => Failure::Away(sentence),
            Self::Files(_) | Self::TooLarge | Self::Write(_) => Failure::Refused(sentence),
        }
    }
}

/// Whether an answer says nothing about the pod.
const fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unknown
    )
}
