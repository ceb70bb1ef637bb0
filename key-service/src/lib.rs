//! Authenticates, authorizes, audits and uses keys.
#![forbid(unsafe_code)]

pub mod pki;
