//! A PKCS#11 module for tests. It stands in front of a real module, counts the calls, and delays or fails those that a
//! test names; everything else is the real module's.
//!
//! Test and module share a file beside the module, since the worker that loads it sees no environment of ours.
//! `unsafe` is in `module` and nowhere else.

mod module;
mod state;
mod steering;

pub use state::Call;
pub use steering::Steering;
