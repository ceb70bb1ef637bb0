//! What people type.
#![forbid(unsafe_code)]
