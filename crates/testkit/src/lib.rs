//! Clock, fakes and conformance suites for tests.
#![forbid(unsafe_code)]

pub mod store;
