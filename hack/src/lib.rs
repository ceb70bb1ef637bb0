//! Developer commands of this repository, as a library: `cargo xtask` is a thin shell around it, and the
//! stories in `e2e` start the same clusters through [`cluster::Cluster`].
#![forbid(unsafe_code)]

pub mod bench;
pub mod charts;
pub mod checks;
pub mod cli;
pub mod cluster;
pub mod demo;
pub mod deny;
pub mod edges;
pub mod image;
pub mod installation;
pub mod packages;
pub mod paths;
pub mod programs;
pub mod progress;
pub mod report;
pub mod run;
pub mod shim;
pub mod tally;
pub mod tidy;
pub mod tools;
