//! Conformance suites for tests.
#![forbid(unsafe_code)]

pub mod store;
