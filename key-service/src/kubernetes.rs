//! The API server of the cluster that the service runs in or beside: keys of tokens are learned from it, and its ConfigMaps
//! tell clients the root certificate and a later start which instance was here.
//!
//! All of it is optional for serving and tried for ever. Nothing here is waited for by a call.

mod connection;
mod duties;
mod issuer;
pub(crate) mod request;
pub(crate) mod witness;

pub(crate) use connection::{AskError, Connection};
pub(crate) use duties::spawn;
