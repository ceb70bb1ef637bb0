//! What callers of a running installation are refused, and what they are told.
#![forbid(unsafe_code)]

mod api;
mod seeds;
