//! The story of the floods again, for ten minutes: what grows by a little each second is seen.
#![forbid(unsafe_code)]

#[path = "floods/main.rs"]
mod floods;
