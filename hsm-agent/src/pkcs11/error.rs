//! What a module answers when a call failed, and what to do about it.
#![forbid(unsafe_code)]

use cryptoki_sys as sys;

/// A call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// The module does not have the function.
    #[error("the module has no function {call}")]
    Missing {
        /// The function.
        call: &'static str,
    },
    /// The module answered with something else than success.
    #[error("{call} failed with {}", name(*rv))]
    Failed {
        /// The function.
        call: &'static str,
        /// The code.
        rv: sys::CK_RV,
    },
    /// The module said success and gave a length that cannot be.
    #[error("{call} gave {len} bytes where {expected} fit")]
    Length {
        /// The function.
        call: &'static str,
        /// What it said.
        len: usize,
        /// What there is room for.
        expected: usize,
    },
}

/// What a failed call says about the connection to the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultClass {
    /// The call was refused; nothing else is wrong.
    Operation,
    /// The session is gone or stuck: open another and try once more.
    Session,
    /// The login is gone: log in and try once more.
    Login,
    /// Handles are stale: find the objects again and try once more.
    Object,
    /// Module or token is broken: a new process is the only reliable way back.
    Device,
}

impl CallError {
    /// Passes success and wraps everything else.
    pub(super) const fn check(call: &'static str, rv: sys::CK_RV) -> Result<(), Self> {
        match rv {
            sys::CKR_OK => Ok(()),
            rv => Err(Self::Failed { call, rv }),
        }
    }

    /// Tells what to do about the failure.
    pub(crate) const fn class(&self) -> FaultClass {
        match self {
            Self::Missing { .. } => FaultClass::Operation,
            Self::Length { .. } => FaultClass::Device,
            Self::Failed { rv, .. } => classify(*rv),
        }
    }

    /// Tells whether the token refused the PIN, or has none or a locked one.
    pub(crate) const fn is_pin_refused(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                rv: sys::CKR_PIN_INCORRECT
                    | sys::CKR_PIN_INVALID
                    | sys::CKR_PIN_LEN_RANGE
                    | sys::CKR_PIN_EXPIRED
                    | sys::CKR_PIN_LOCKED
                    | sys::CKR_USER_PIN_NOT_INITIALIZED,
                ..
            }
        )
    }

    /// Tells whether somebody logged in before, which is as good: a login belongs to the process, not the session.
    pub(crate) const fn is_logged_in_already(&self) -> bool {
        matches!(
            self,
            Self::Failed {
                rv: sys::CKR_USER_ALREADY_LOGGED_IN,
                ..
            }
        )
    }
}

const fn classify(rv: sys::CK_RV) -> FaultClass {
    match rv {
        sys::CKR_SESSION_HANDLE_INVALID | sys::CKR_SESSION_CLOSED | sys::CKR_OPERATION_ACTIVE => {
            FaultClass::Session
        }
        sys::CKR_USER_NOT_LOGGED_IN => FaultClass::Login,
        sys::CKR_KEY_HANDLE_INVALID | sys::CKR_OBJECT_HANDLE_INVALID => FaultClass::Object,
        sys::CKR_DEVICE_ERROR
        | sys::CKR_DEVICE_MEMORY
        | sys::CKR_DEVICE_REMOVED
        | sys::CKR_TOKEN_NOT_PRESENT
        | sys::CKR_TOKEN_NOT_RECOGNIZED
        | sys::CKR_CRYPTOKI_NOT_INITIALIZED
        | sys::CKR_SLOT_ID_INVALID
        | sys::CKR_HOST_MEMORY => FaultClass::Device,
        _ => FaultClass::Operation,
    }
}

/// Names the codes that people meet; the others are found by number in the standard.
fn name(rv: sys::CK_RV) -> String {
    let name = match rv {
        sys::CKR_GENERAL_ERROR => "CKR_GENERAL_ERROR",
        sys::CKR_FUNCTION_FAILED => "CKR_FUNCTION_FAILED",
        sys::CKR_ARGUMENTS_BAD => "CKR_ARGUMENTS_BAD",
        sys::CKR_DEVICE_ERROR => "CKR_DEVICE_ERROR",
        sys::CKR_DEVICE_REMOVED => "CKR_DEVICE_REMOVED",
        sys::CKR_ENCRYPTED_DATA_INVALID => "CKR_ENCRYPTED_DATA_INVALID",
        sys::CKR_KEY_HANDLE_INVALID => "CKR_KEY_HANDLE_INVALID",
        sys::CKR_MECHANISM_INVALID => "CKR_MECHANISM_INVALID",
        sys::CKR_OBJECT_HANDLE_INVALID => "CKR_OBJECT_HANDLE_INVALID",
        sys::CKR_PIN_INCORRECT => "CKR_PIN_INCORRECT",
        sys::CKR_PIN_LEN_RANGE => "CKR_PIN_LEN_RANGE",
        sys::CKR_PIN_LOCKED => "CKR_PIN_LOCKED",
        sys::CKR_SESSION_CLOSED => "CKR_SESSION_CLOSED",
        sys::CKR_SESSION_COUNT => "CKR_SESSION_COUNT",
        sys::CKR_SESSION_HANDLE_INVALID => "CKR_SESSION_HANDLE_INVALID",
        sys::CKR_TOKEN_NOT_PRESENT => "CKR_TOKEN_NOT_PRESENT",
        sys::CKR_TOKEN_WRITE_PROTECTED => "CKR_TOKEN_WRITE_PROTECTED",
        sys::CKR_USER_NOT_LOGGED_IN => "CKR_USER_NOT_LOGGED_IN",
        sys::CKR_USER_PIN_NOT_INITIALIZED => "CKR_USER_PIN_NOT_INITIALIZED",
        sys::CKR_CRYPTOKI_NOT_INITIALIZED => "CKR_CRYPTOKI_NOT_INITIALIZED",
        rv => return format!("code 0x{rv:08x}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(rv: sys::CK_RV) -> CallError {
        CallError::Failed { call: "C_Sign", rv }
    }

    #[test]
    fn a_lost_device_is_not_a_lost_session() {
        for (rv, class) in [
            (sys::CKR_SESSION_HANDLE_INVALID, FaultClass::Session),
            (sys::CKR_OPERATION_ACTIVE, FaultClass::Session),
            (sys::CKR_USER_NOT_LOGGED_IN, FaultClass::Login),
            (sys::CKR_KEY_HANDLE_INVALID, FaultClass::Object),
            (sys::CKR_DEVICE_ERROR, FaultClass::Device),
            (sys::CKR_CRYPTOKI_NOT_INITIALIZED, FaultClass::Device),
            (sys::CKR_ENCRYPTED_DATA_INVALID, FaultClass::Operation),
        ] {
            assert_eq!(failed(rv).class(), class, "{rv:#x}");
        }
    }

    #[test]
    fn every_refusal_of_a_pin_counts() {
        for rv in [
            sys::CKR_PIN_INCORRECT,
            sys::CKR_PIN_LOCKED,
            sys::CKR_PIN_LEN_RANGE,
        ] {
            assert!(failed(rv).is_pin_refused(), "{rv:#x}");
        }
        assert!(!failed(sys::CKR_DEVICE_ERROR).is_pin_refused());
    }

    #[test]
    fn a_code_without_a_name_shows_its_number() {
        assert_eq!(
            failed(sys::CKR_PIN_LOCKED).to_string(),
            "C_Sign failed with CKR_PIN_LOCKED"
        );
        assert_eq!(
            failed(0x8000_0001).to_string(),
            "C_Sign failed with code 0x80000001"
        );
    }
}
