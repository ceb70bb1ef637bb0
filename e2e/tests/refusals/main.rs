//! What a start and an `init` refuse: each with the sentence that names what is wrong, and with nothing written.
#![forbid(unsafe_code)]

mod forged;
mod missing;
mod peers;
mod place;
mod start;
mod store;
mod token;
