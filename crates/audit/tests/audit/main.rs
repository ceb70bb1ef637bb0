//! Tests of the log through its public interface, in one binary so that they share their set-up.

mod common;
mod story;
mod tampering;
