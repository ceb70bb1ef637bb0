//! The agent as its users meet it: the real program, a real SoftHSM, a real socket.
#![forbid(unsafe_code)]

mod certificates;
mod command_line;
#[cfg(feature = "fault-points")]
mod faults;
mod keks;
mod life;
mod peers;
mod pin;
mod place;
mod request;
mod token;
