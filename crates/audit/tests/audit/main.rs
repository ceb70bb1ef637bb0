//! Tests of the log through its public interface, in one binary so that they share their set-up.

mod appending;
mod checkpointing;
mod common;
mod opening;
mod processes;
mod space;
mod story;
mod tampering;
