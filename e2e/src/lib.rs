//! What stories share: a cluster with the three programs beside it, and eyes for etcd's raw bytes.
//!
//! Stories need root, the Debian packages and the tools of `cargo xtask setup`, and the programs in the target folder.
#![forbid(unsafe_code)]

pub mod answer;
pub mod canary;
pub mod clusters;
pub mod control_plane;
pub mod delivery;
pub mod dump;
pub mod envelope;
pub mod forward;
pub mod gate;
pub mod inside;
pub mod installed;
pub mod issuer;
pub mod late;
pub mod mtls;
pub mod native;
pub mod nodes;
pub mod operated;
pub mod ordered;
pub mod page;
pub mod plugin;
pub mod published;
pub mod refusal;
pub mod remote;
pub mod stage;
pub mod tenant;
pub mod usage;
pub mod user;
pub mod watched;
pub mod world;
