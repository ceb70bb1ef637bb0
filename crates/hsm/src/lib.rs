//! Envelope types and the client of hsm-agent's socket.
#![forbid(unsafe_code)]
