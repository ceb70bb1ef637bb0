//! Chassis of a process: logs, metrics, probes, signals, sockets.
#![forbid(unsafe_code)]
