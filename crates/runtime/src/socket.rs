//! Unix sockets between our processes: who may listen, who may connect, and that both look before the first byte.
//!
//! A uid is all that SO_PEERCRED gives, so the folder that holds a socket is part of the check.

mod bind;
mod client;
mod incoming;
mod path;
mod peers;

pub use bind::{BindError, SocketOptions, bind};
pub use client::{ConnectError, Connector, channel, connect};
pub use incoming::{Incoming, MAX_CONNECTIONS, Peer, PeerStream, Refusals};
pub use path::PathError;
pub use peers::{OVERFLOW_UID, Peers, PeersError};

#[cfg(test)]
mod tests;
