//! Why a command ended early: one sentence on stderr, and the exit code that goes with it.

use std::{error::Error, io};

use crate::{
    admin_certificate::AdminCertificateError,
    audit::AuditError,
    bootstrap::BootstrapError,
    cluster::ClusterError,
    connect::{ConnectError, SettingsError},
    enrol::EnrolError,
    exit::Exit,
    ring::RingError,
    rotate::{ObjectError, RotateError},
    rpc::CallError,
    secret::{ImportError, SecretError},
    why::WhyError,
};

/// Any reason, with the sentence of the layer that knows it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Why(#[from] WhyError),
    #[error(transparent)]
    Rotate(#[from] RotateError),
    #[error(transparent)]
    RotateObject(#[from] ObjectError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    AdminCertificate(#[from] AdminCertificateError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl CommandError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            // Of an unreadable log nothing can be said: neither that it is sound nor that it is not.
            Self::Settings(_) | Self::Audit(_) => Exit::Usage,
            Self::Connect(error) => error.exit(),
            Self::Call(error) => error.exit(),
            Self::Cluster(error) => error.exit(),
            Self::Rotate(error) => error.exit(),
            Self::RotateObject(error) => error.exit(),
            Self::Ring(error) => error.exit(),
            Self::Import(error) => error.exit(),
            Self::AdminCertificate(error) => error.exit(),
            Self::Secret(error) => error.exit(),
            Self::Bootstrap(error) => error.exit(),
            Self::Enrol(_) | Self::Why(_) | Self::Write(_) => Exit::Failed,
        }
    }

    /// The sentence: this error and its sources, each of which says only its own part.
    pub(crate) fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            let part = error.to_string();
            // Some libraries repeat their source's text in their own.
            if !sentence.contains(&part) {
                sentence.push_str(": ");
                sentence.push_str(&part);
            }
            source = error.source();
        }
        crate::output::plain(&sentence)
    }
}
