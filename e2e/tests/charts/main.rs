//! The charts: what they render, what they refuse, and what becomes of them on a cluster.
#![forbid(unsafe_code)]

mod external;
mod install;
mod objects;
mod policies;
mod refusals;
mod render;
