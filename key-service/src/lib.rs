//! The key service: authenticates, authorizes, audits and uses keys.
//!
//! Three layers: the store knows no permits, the registry takes them, handlers obtain them.
#![forbid(unsafe_code)]

pub mod args;
mod boot;
mod commands;
mod config;
mod files;
mod grpc;
mod init;
mod jobs;
pub mod keyring;
mod listeners;
mod metrics;
pub mod pki;
pub mod registry;
mod serve;
pub mod service;
pub mod timekeeper;
pub mod trail;
mod workloads;

pub use commands::run;
pub use config::{
    Access, Administrator, AgentConfig, AuditConfig, ClusterConfig, Config, ConfigError,
    DriverConfig, PluginsConfig, Role, SocketConfig, WorkloadsConfig,
};
