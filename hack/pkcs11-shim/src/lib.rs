//! Steers the PKCS#11 module of the tests, which stands in front of a real module: it counts the calls, and delays or
//! fails those that a test names.
//!
//! Test and module share a file beside the module, since the worker that loads it sees no environment of ours.
#![forbid(unsafe_code)]

pub mod state;
mod steering;

pub use state::Call;
pub use steering::Steering;
