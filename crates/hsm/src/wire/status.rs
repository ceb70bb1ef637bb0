//! Errors as gRPC statuses: the code groups them, the metadata names the reason, the message is the sentence.

use std::{error::Error, io::ErrorKind};

use strongroom_runtime::{
    Chain,
    socket::{ConnectError, PathError},
};
use tonic::{Code, Status};

use super::MalformedField;
use crate::{HsmError, Reason};

/// The metadata key of the reason.
pub const REASON_METADATA: &str = "strongroom-reason";

/// Makes the status of an error.
pub fn into_status(error: &HsmError) -> Status {
    let code = match error {
        HsmError::Unavailable { .. } => Code::Unavailable,
        HsmError::NotReady { .. } => Code::FailedPrecondition,
        HsmError::Refused {
            reason: Reason::PeerNotAllowed,
            ..
        } => Code::PermissionDenied,
        HsmError::Refused { .. } => Code::InvalidArgument,
        HsmError::Corrupt { .. } => Code::DataLoss,
    };
    let mut status = Status::new(code, error.to_string());
    let reason = error
        .reason()
        .name()
        .parse()
        .expect("reasons are ASCII words");
    status.metadata_mut().insert(REASON_METADATA, reason);
    status
}

/// Reads the status of an error. One without a reason did not come from the agent: the connection failed.
pub fn from_status(status: &Status) -> HsmError {
    let named = status
        .metadata()
        .get(REASON_METADATA)
        .and_then(|reason| reason.to_str().ok());
    let reason = match named.map(str::parse) {
        Some(Ok(reason)) => reason,
        // A newer agent knows more reasons; its codes still group them.
        Some(Err(_)) => fallback(status.code()),
        None if matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled) => {
            Reason::DeadlineExceeded
        }
        None => return unconnected(status),
    };
    HsmError::new(reason, status.message())
}

/// Finds out why there is no connection; the status itself only says that there is none.
fn unconnected(status: &Status) -> HsmError {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return HsmError::new(reason_of(error), Chain(error).to_string());
        }
        source = error.source();
    }
    HsmError::new(Reason::Unreachable, status.message())
}

/// A socket that is not there may come; one that is not the agent's was put there by somebody.
fn reason_of(error: &ConnectError) -> Reason {
    match error {
        ConnectError::Path(PathError::Examine { source, .. })
            if source.kind() == ErrorKind::NotFound =>
        {
            Reason::Unreachable
        }
        ConnectError::Path(_) | ConnectError::Listener { .. } => Reason::SocketUntrusted,
        ConnectError::Connect { .. } => Reason::Unreachable,
    }
}

fn fallback(code: Code) -> Reason {
    match code {
        Code::FailedPrecondition => Reason::TokenDamaged,
        Code::PermissionDenied => Reason::PeerNotAllowed,
        Code::InvalidArgument => Reason::InvalidRequest,
        Code::DataLoss => Reason::EnvelopeInvalid,
        _ => Reason::TokenFailed,
    }
}

impl From<MalformedField> for HsmError {
    fn from(field: MalformedField) -> Self {
        Self::new(Reason::InvalidRequest, field.to_string())
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    #[test]
    fn every_error_arrives_as_it_was_sent() {
        for reason in Reason::iter() {
            let error = HsmError::new(reason, "a sentence");
            assert_eq!(from_status(&into_status(&error)), error);
        }
    }

    #[test]
    fn a_status_that_the_agent_did_not_make_is_worth_another_try() {
        let error = from_status(&Status::unknown("transport error"));
        assert_eq!(error, HsmError::new(Reason::Unreachable, "transport error"));
    }

    #[test]
    fn an_unknown_reason_keeps_its_group() {
        let mut status = into_status(&HsmError::new(Reason::CheckValueMismatch, "changed"));
        status
            .metadata_mut()
            .insert(REASON_METADATA, "LaterReason".parse().unwrap());
        assert!(matches!(from_status(&status), HsmError::Corrupt { .. }));
    }
}
