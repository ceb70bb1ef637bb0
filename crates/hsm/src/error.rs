//! Why the HSM did not do what was asked: a closed list of words, grouped by what the caller should do.

/// One word for one cause. It travels beside the sentence and is a label of metrics.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    strum::EnumIter,
    strum::EnumString,
    strum::IntoStaticStr,
)]
pub enum Reason {
    /// Nobody answers at the socket.
    Unreachable,
    /// The socket or whoever listens there is not the agent that was configured.
    SocketUntrusted,
    /// The queue is full.
    Overloaded,
    /// No answer in time.
    DeadlineExceeded,
    /// The worker ended and is being restarted.
    WorkerRestarting,
    /// No token has the configured label.
    TokenMissing,
    /// The token failed.
    TokenFailed,
    /// The token has none of our objects.
    Uninitialized,
    /// Initialising was begun and not finished.
    Incomplete,
    /// The token refused the PIN.
    WrongPin,
    /// The PIN file cannot be read.
    PinMissing,
    /// The module cannot be loaded or initialised.
    ModuleFailed,
    /// No wrap profile passed its self-test.
    NoWrapProfile,
    /// Our objects in the token are not as they were made.
    TokenDamaged,
    /// The request is not well formed.
    InvalidRequest,
    /// This peer may not make this call.
    PeerNotAllowed,
    /// The request or record is of another instance than the token.
    ForeignInstance,
    /// The record has no envelope of the token's root.
    ForeignRoot,
    /// The signature of the record is not by the token's key over this record.
    RecordSignatureInvalid,
    /// The envelope does not open at this place: it was changed or belongs elsewhere.
    EnvelopeInvalid,
    /// The envelope holds another KEK than the check value says.
    CheckValueMismatch,
}

impl Reason {
    /// Gives the word.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Why a call failed. The variant says what to do, the reason says why, the sentence says it to people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HsmError {
    /// Try again later: nothing is known to be wrong with the request.
    #[error("{sentence}")]
    Unavailable {
        /// The cause.
        reason: Reason,
        /// For people.
        sentence: String,
    },
    /// The token must be initialised, unlocked or repaired first. Trying again is harmless and useless.
    #[error("{sentence}")]
    NotReady {
        /// The cause.
        reason: Reason,
        /// For people.
        sentence: String,
    },
    /// The request is at fault; it is refused for ever.
    #[error("{sentence}")]
    Refused {
        /// The cause.
        reason: Reason,
        /// For people.
        sentence: String,
    },
    /// What was to be opened or signed is not what the token made: the store was changed.
    #[error("{sentence}")]
    Corrupt {
        /// The cause.
        reason: Reason,
        /// For people.
        sentence: String,
    },
}

impl HsmError {
    /// Makes the error that belongs to a reason.
    pub fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        match reason {
            Reason::Unreachable
            | Reason::SocketUntrusted
            | Reason::Overloaded
            | Reason::DeadlineExceeded
            | Reason::WorkerRestarting
            | Reason::TokenMissing
            | Reason::TokenFailed => Self::Unavailable { reason, sentence },
            Reason::Uninitialized
            | Reason::Incomplete
            | Reason::WrongPin
            | Reason::PinMissing
            | Reason::ModuleFailed
            | Reason::NoWrapProfile
            | Reason::TokenDamaged => Self::NotReady { reason, sentence },
            Reason::InvalidRequest
            | Reason::PeerNotAllowed
            | Reason::ForeignInstance
            | Reason::ForeignRoot => Self::Refused { reason, sentence },
            Reason::RecordSignatureInvalid
            | Reason::EnvelopeInvalid
            | Reason::CheckValueMismatch => Self::Corrupt { reason, sentence },
        }
    }

    /// Tells the cause.
    pub const fn reason(&self) -> Reason {
        let (Self::Unavailable { reason, .. }
        | Self::NotReady { reason, .. }
        | Self::Refused { reason, .. }
        | Self::Corrupt { reason, .. }) = self;
        *reason
    }
}
