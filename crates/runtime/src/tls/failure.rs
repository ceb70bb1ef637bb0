//! How a call to the key service ended that gave nothing: nobody answered, or it said no in its own words.

use std::error::Error;

use tonic::{Code, Status};

/// The metadata in which the key service says in one word why it refuses.
const REASON: &str = "strongroom-reason";
/// What the key service says is shown to people, but not at any length.
const MAX_SENTENCE_CHARS: usize = 300;

/// How a call ended that gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// No answer, or none in time.
    #[error("the key service does not answer: {cause}")]
    Away {
        /// The endpoint and the first sentence of why.
        cause: String,
    },
    /// It answered that it cannot or will not.
    #[error("{sentence}")]
    Refused {
        /// Its code.
        code: Code,
        /// Its word for it, or nothing.
        reason: String,
        /// What it says.
        sentence: String,
    },
}

impl CallFailure {
    /// Sorts the answer of an endpoint.
    pub fn sort(endpoint: &str, status: &Status) -> Self {
        // Only an error of the connection has a source; what the key service sent has none.
        if let Some(source) = status.source() {
            return Self::Away {
                cause: printable(&format!("{endpoint}: {}", innermost(source))),
            };
        }
        match status.code() {
            Code::Cancelled | Code::DeadlineExceeded | Code::Ok => Self::Away {
                cause: printable(&format!("{endpoint}: {}", status.message())),
            },
            code => Self::Refused {
                code,
                reason: reason(status),
                sentence: printable(status.message()),
            },
        }
    }
}

fn reason(status: &Status) -> String {
    let word = status.metadata().get(REASON);
    let word = word.and_then(|word| word.to_str().ok()).unwrap_or_default();
    printable(word)
}

fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_SENTENCE_CHARS)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn refusal_is_told_in_the_key_services_own_words() {
        let mut status = Status::permission_denied("no role\nhere");
        status
            .metadata_mut()
            .insert(REASON, "RoleMissing".parse().unwrap());
        let expected = CallFailure::Refused {
            code: Code::PermissionDenied,
            reason: "RoleMissing".to_owned(),
            sentence: "no rolehere".to_owned(),
        };
        assert_eq!(CallFailure::sort("a:1", &status), expected);
    }

    #[test]
    fn silence_is_not_a_refusal_and_names_the_endpoint() {
        let silent = Status::from_error(Box::new(io::Error::other("nobody there")));
        for status in [silent, Status::deadline_exceeded("late")] {
            let CallFailure::Away { cause } = CallFailure::sort("192.0.2.1:1", &status) else {
                panic!("nobody answered");
            };
            assert!(cause.contains("192.0.2.1:1"), "{cause}");
        }
    }

    #[test]
    fn long_sentence_is_cut() {
        let status = Status::unavailable("x".repeat(10_000));
        let CallFailure::Refused { sentence, .. } = CallFailure::sort("a:1", &status) else {
            panic!("it is refused");
        };
        assert_eq!(sentence.len(), MAX_SENTENCE_CHARS);
    }
}
