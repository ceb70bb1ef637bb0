//! The key service: authenticates, authorizes, audits and uses keys.
//!
//! Three layers: the store knows no permits, the registry takes them, handlers obtain them.
#![forbid(unsafe_code)]

pub mod args;
mod awaiting;
mod boot;
mod commands;
mod config;
pub mod fence;
mod files;
mod grpc;
mod init;
mod jobs;
pub mod keyring;
mod kubernetes;
mod listeners;
mod metrics;
pub mod pki;
pub mod registry;
mod serve;
pub mod service;
pub mod templates;
pub mod timekeeper;
pub mod trail;
mod workloads;

pub use commands::run;
pub use config::{
    Access, AccountConfig, Administrator, AgentConfig, AuditConfig, ClusterConfig, Config,
    ConfigError, InitBy, KubernetesConfig, PluginsConfig, Role, SocketConfig, WorkloadsConfig,
};
