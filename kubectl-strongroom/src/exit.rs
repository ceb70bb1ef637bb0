//! Exit codes, and the one place where a gRPC code becomes one.

use std::process::ExitCode;

use tonic::Code;

/// How a command ended, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was done, and what was asked for holds.
    Ok,
    /// It was not done, or what was asked for does not hold.
    Failed,
    /// The command line or the configuration is wrong; nothing was asked of anybody.
    Usage,
    /// Done as far as it goes, but not complete: ask again later.
    NotYet,
    /// The key service or the API server does not let this caller do it.
    Denied,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotYet => 3,
            Self::Denied => 4,
        }
    }

    /// The end of a command whose call was answered with `code`.
    pub(crate) const fn of_answer(code: Code) -> Self {
        match code {
            Code::Ok => Self::Ok,
            Code::Unauthenticated | Code::PermissionDenied => Self::Denied,
            Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
