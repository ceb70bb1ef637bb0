//! The API server's side: what is watched, what is kept of it, and what is written.

mod caches;
mod directory;
mod events;
mod guard;
pub mod lease;
mod store;
mod watch;
mod write;

pub use caches::Caches;
pub use directory::Directory;
pub use events::{Notice, Recorder};
pub use guard::{GUARD, Guarding};
pub use store::{Change, Store};
pub use watch::{Sink, Watch};
pub(crate) use write::in_time;
pub use write::{FIELD_MANAGER, FINALIZER, WriteError, Writer};
