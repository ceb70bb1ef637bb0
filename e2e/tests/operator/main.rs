//! Custom resources on a real API server: what it refuses, and what the operator makes of the rest.
#![forbid(unsafe_code)]

mod converge;
mod fence;
mod robust;
mod rules;
