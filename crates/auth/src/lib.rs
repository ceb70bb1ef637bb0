//! Decides with Cedar; verifies certificates.
#![forbid(unsafe_code)]

mod common_name;
mod policy;

pub use common_name::{InvalidCommonName, check_common_name};
pub use policy::{BINDINGS_PER_RING_MAX, Binding, Policy, PolicyError, Role};
