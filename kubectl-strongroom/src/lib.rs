//! What people type: `kubectl strongroom …`. One module for each command, and what they share.
//!
//! It prints no secret but what it was asked for: the private key of the client's certificate goes from its file into TLS.
#![forbid(unsafe_code)]

mod admin_certificate;
mod args;
mod audit;
mod bootstrap;
mod clock;
mod cluster;
mod config;
mod connect;
mod enrol;
mod environment;
mod error;
mod exit;
mod metrics_text;
mod output;
mod reason;
mod ring;
mod rotate;
mod rpc;
mod run;
mod secret;
mod status;
mod target;
mod tls;
mod version;
mod why;

pub use args::Args;
pub use config::{Config, ConfigError};
pub use environment::Environment;
pub use exit::Exit;
pub use run::run;
pub use tls::SERVER_NAME;
