//! Why a template makes no file. The sentences are ours: what the engine says may quote what it worked on.

use minijinja::{Error, ErrorKind};

use super::OUTPUT_BYTES_MAX;

/// Longest piece of the engine's own words about a syntax error.
const DETAIL_CHARS_MAX: usize = 120;
const NOT_TEXT: &str = "not text";
const NOT_PRINTABLE: &str = "not printable";

/// Why a template makes no file. Its author's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no template.
    #[error("line {line}: {detail}")]
    Syntax {
        /// Where.
        line: usize,
        /// What the engine says; there were no values yet.
        detail: String,
    },
    /// It names something else than its secrets.
    #[error("{0:?} is none of the secrets that the template lists")]
    UnknownName(String),
    /// It uses something that there is not.
    #[error("line {line}: {what} is used that there is not")]
    Unknown {
        /// Where.
        line: usize,
        /// What kind of thing.
        what: &'static str,
    },
    /// It uses a field that a secret has not.
    #[error("line {line}: a field is used that the secret does not have")]
    NoField {
        /// Where.
        line: usize,
    },
    /// It writes bytes that are no text.
    #[error("line {line}: a field is written that is not text; the filter `base64` makes it text")]
    NotText {
        /// Where.
        line: usize,
    },
    /// It writes a whole secret, a list or the like.
    #[error("line {line}: only fields, texts and numbers can be written")]
    NotPrintable {
        /// Where.
        line: usize,
    },
    /// It goes on and on.
    #[error("it takes too many steps")]
    Endless,
    /// It writes too much.
    #[error("its output is longer than {OUTPUT_BYTES_MAX} bytes")]
    TooLong,
    /// The machine has no thread for it. Nobody's fault who wrote it.
    #[error("the key service could not work on it; try again")]
    NoThread,
    /// The engine broke over it, which the log tells.
    #[error("the template breaks the engine that works on it")]
    Broken,
    /// Something else.
    #[error("line {line}: {what}")]
    Failed {
        /// Where.
        line: usize,
        /// The kind of error.
        what: String,
    },
}

impl TemplateError {
    /// Whether other values may make it go right.
    pub(super) const fn depends_on_values(&self) -> bool {
        matches!(
            self,
            Self::NoField { .. } | Self::NotText { .. } | Self::Failed { .. }
        )
    }
}

pub(super) fn not_text() -> Error {
    Error::new(ErrorKind::InvalidOperation, NOT_TEXT)
}

pub(super) fn not_printable() -> Error {
    Error::new(ErrorKind::InvalidOperation, NOT_PRINTABLE)
}

/// Before there are values the engine's words can only quote the text.
pub(super) fn syntax(error: &Error) -> TemplateError {
    let detail = error.detail().unwrap_or("it is no template");
    let plain = detail.chars().filter(|character| !character.is_control());
    TemplateError::Syntax {
        line: error.line().unwrap_or(1),
        detail: plain.take(DETAIL_CHARS_MAX).collect(),
    }
}

pub(super) fn rendering(error: &Error) -> TemplateError {
    let line = error.line().unwrap_or(1);
    let unknown = |what| TemplateError::Unknown { line, what };
    match error.kind() {
        ErrorKind::OutOfFuel => TemplateError::Endless,
        ErrorKind::WriteFailure => TemplateError::TooLong,
        ErrorKind::UndefinedError => TemplateError::NoField { line },
        ErrorKind::UnknownFilter => unknown("a filter"),
        ErrorKind::UnknownTest => unknown("a test"),
        ErrorKind::UnknownFunction | ErrorKind::UnknownMethod => unknown("a function"),
        _ if error.detail() == Some(NOT_TEXT) => TemplateError::NotText { line },
        _ if error.detail() == Some(NOT_PRINTABLE) => TemplateError::NotPrintable { line },
        kind => TemplateError::Failed {
            line,
            what: kind.to_string(),
        },
    }
}
