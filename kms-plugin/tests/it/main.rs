//! The plugin as kube-apiserver and operators meet it: over its sockets, and as a program.

mod contract;
#[cfg(feature = "fault-points")]
mod faults;
mod outage;
mod process;
mod rollback;
mod support;
mod wait;
