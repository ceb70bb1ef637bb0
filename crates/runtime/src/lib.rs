//! Chassis of a process: configuration, logs, metrics, probes, signals, sockets.
//!
//! A program parses its arguments and its configuration, then hands over to [`run`], which hardens the
//! process, serves probes, and ends everything within [`tasks::DRAIN`] when a signal or a failed task says so.
#![forbid(unsafe_code)]

mod chain;
mod clock;
pub mod configuration;
pub mod descriptors;
pub mod fault;
pub mod folder;
mod greeting;
mod harden;
#[cfg(feature = "tls")]
pub mod key_service;
pub mod limits;
mod logs;
pub mod metrics;
pub mod panics;
mod probes;
mod process;
mod readiness;
pub mod socket;
pub mod tasks;
#[cfg(feature = "tls")]
pub mod tls;

pub use chain::Chain;
pub use clock::{BootIdError, SystemClock, boot_id};
pub use greeting::Greeting;
pub use harden::HardenError;
pub use process::{Handle, Program, RunError, prepare, run};
pub use readiness::{Condition, Readiness};
