//! Calls to the key service, and what became of them.

use std::error::Error;

use tonic::Status;

use crate::{exit::Exit, output::plain};

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// The key service answered, and the answer is no.
    #[error("cannot {doing}: {}", answer(.status))]
    Answer {
        doing: &'static str,
        status: Box<Status>,
    },
    /// Nobody answered.
    #[error("cannot {doing}: the connection to the key service ended without an answer: {cause}")]
    Lost { doing: &'static str, cause: String },
}

impl CallError {
    /// Tells an answer from a connection that ended. `doing` completes the sentence "cannot …".
    pub(crate) fn new(doing: &'static str, status: Status) -> Self {
        match root_cause(&status) {
            Some(cause) => Self::Lost { doing, cause },
            None => Self::Answer {
                doing,
                status: Box::new(status),
            },
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Answer { status, .. } => Exit::of_answer(status.code()),
            Self::Lost { .. } => Exit::Failed,
        }
    }
}

/// The server's sentence; the code's where it sent none.
fn answer(status: &Status) -> String {
    match status.message() {
        "" => status.code().description().to_owned(),
        message => plain(message),
    }
}

/// The innermost error of a status that was made on this side; what came over the wire has none.
fn root_cause(status: &Status) -> Option<String> {
    let mut cause = status.source()?;
    while let Some(source) = cause.source() {
        cause = source;
    }
    Some(cause.to_string())
}
