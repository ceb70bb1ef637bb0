//! Why the cluster did not answer, or answered no.

use std::error::Error;

use kube::config::KubeconfigError;

use crate::{exit::Exit, output::plain};

/// Why a command learns nothing from the cluster, or changes nothing in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("no kubeconfig is given; give --kubeconfig, set KUBECONFIG, or write ~/.kube/config")]
    NoKubeconfig,
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] KubeconfigError),
    #[error("cannot prepare the connection to the API server: {0}")]
    Prepare(String),
    #[error("cannot {doing}: you may not: {message}")]
    Denied { doing: String, message: String },
    #[error(
        "cannot {doing}: the cluster does not know the kind; install the chart strongroom-crds"
    )]
    NoKind { doing: String },
    #[error("cannot {doing}: {message}")]
    Refused { doing: String, message: String },
    #[error("cannot {doing}: the API server cannot be reached: {cause}")]
    Unreachable { doing: String, cause: String },
    #[error("cannot {doing}: the answer cannot be read (line {line}, column {column})")]
    Unreadable {
        doing: String,
        line: usize,
        column: usize,
    },
}

impl ClusterError {
    pub(super) fn prepare(error: kube::Error) -> Self {
        Self::Prepare(root_cause(&error))
    }

    /// `doing` completes the sentence "cannot …".
    pub(super) fn call(doing: &str, failure: Failure) -> Self {
        let doing = doing.to_owned();
        match failure {
            Failure::Answer {
                code: 401 | 403,
                message,
                ..
            } => Self::Denied { doing, message },
            Failure::Answer {
                code: 404,
                of_object: false,
                ..
            } => Self::NoKind { doing },
            Failure::Answer { message, .. } => Self::Refused { doing, message },
            Failure::Lost(cause) => Self::Unreachable { doing, cause },
            Failure::Unreadable { line, column } => Self::Unreadable {
                doing,
                line,
                column,
            },
        }
    }

    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoKubeconfig | Self::Kubeconfig(_) | Self::Prepare(_) => Exit::Usage,
            Self::Denied { .. } => Exit::Denied,
            Self::NoKind { .. }
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Unreadable { .. } => Exit::Failed,
        }
    }
}

/// What became of one request.
#[derive(Debug)]
pub(super) enum Failure {
    Answer {
        code: u16,
        message: String,
        /// Whether the API server knew the path and named an object: without it, a 404 is about the kind.
        of_object: bool,
    },
    Lost(String),
    /// Where, and not what: the answer may hold a value.
    Unreadable {
        line: usize,
        column: usize,
    },
}

impl Failure {
    pub(super) fn request(error: tonic::codegen::http::Error) -> Self {
        Self::Lost(error.to_string())
    }

    pub(super) const fn is_missing_object(&self) -> bool {
        matches!(
            self,
            Self::Answer {
                code: 404,
                of_object: true,
                ..
            }
        )
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Answer {
                code: status.code,
                message: plain(&status.message),
                of_object: status
                    .details
                    .is_some_and(|details| !details.name.is_empty()),
            },
            kube::Error::SerdeError(error) => Self::Unreadable {
                line: error.line(),
                column: error.column(),
            },
            error => Self::Lost(root_cause(&error)),
        }
    }
}

/// The innermost reason; what stands around it repeats it.
fn root_cause(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    plain(&cause.to_string())
}
