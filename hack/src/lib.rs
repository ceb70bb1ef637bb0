//! Developer commands of this repository, as a library: `cargo xtask` is a thin shell around it, and the
//! stories in `e2e` start the same clusters through [`cluster::Cluster`].
#![forbid(unsafe_code)]

pub mod cli;
pub mod cluster;
pub mod packages;
pub mod paths;
pub mod progress;
pub mod tools;
