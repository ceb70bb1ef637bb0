//! Vocabulary and decisions; no IO, no async, no serde.
#![forbid(unsafe_code)]
