//! A volume on disk: where it belongs, the tmpfs that is mounted there, and the files in it.
//!
//! Everything below kubelet's folder is opened relative to a descriptor and without following links, so that whatever a
//! pod may have put there is never a way out.

mod beneath;
mod files;
mod mount;
mod mount_table;
mod pods;
mod self_test;
mod target;
mod writer;

pub use beneath::SystemError;
pub use files::{File, FileSet, InvalidFile, PATH_PARTS_MAX};
pub use mount::{Detached, MountError, Room, Tmpfs};
pub use mount_table::{MountTable, Mounted};
pub use pods::{Place, Pods, PublishedError, RemoveError};
pub use self_test::{SelfTestError, SwapPolicy, self_test};
pub use target::{InvalidTarget, Target};
pub use writer::{WriteError, Written, write};
