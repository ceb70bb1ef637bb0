//! Why a rotation was not made, or is not complete.

use strongroom_core::VersionId;

use super::{servers::Missing, wait::ObserveError, wait::Timeout};
use crate::{exit::Exit, rpc::CallError};

/// Why a rotation was not made, or is not complete.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    #[error("cannot see which key id is in use, so nothing was rotated")]
    Observe(#[source] ObserveError),
    #[error(
        "this key service does not tell the hash of its key id, so --wait could never end; nothing \
         was rotated; run it without --wait"
    )]
    NoHash,
    #[error(
        "the etcd key never had a version {from}, so nothing was rotated; its primary is {primary}"
    )]
    UnknownVersion { from: VersionId, primary: String },
    #[error(
        "somebody else changed the etcd key in between, so nothing was rotated; look at what was \
         done, then run it again"
    )]
    Changed,
    #[error(
        "it is not known whether the etcd key was rotated (run the same command with --from \
         {primary}, which rotates only if it was not)"
    )]
    Unknown {
        primary: String,
        #[source]
        source: CallError,
    },
    #[error(
        "not yet: after {timeout} {missing}; run the same command with --from {from} to go on waiting"
    )]
    NotYet {
        missing: Missing,
        timeout: Timeout,
        from: String,
    },
}

impl RotateError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Observe(_)
            | Self::NoHash
            | Self::UnknownVersion { .. }
            | Self::Changed
            | Self::Unknown { .. } => Exit::Failed,
            Self::NotYet { .. } => Exit::NotYet,
        }
    }
}
