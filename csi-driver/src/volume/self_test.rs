//! Mounts a volume once before any is published: a kernel that silently drops an option is refused at the start.

use std::{os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{Mode, OFlags, open},
    mount::{UnmountFlags, unmount},
};
use serde::Deserialize;

use super::{
    MountError, MountTable, Room, Tmpfs,
    beneath::{SystemError, system},
    mount::mount_id,
};

/// What to do on a kernel that has no `noswap` for tmpfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SwapPolicy {
    /// Refuse to start.
    Refuse,
    /// Go on: the administrator has seen to it that nodes have no swap, or an encrypted one.
    Allow,
}

/// Why no volume can be published on this node.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// A tmpfs with all options cannot be mounted.
    #[error("a tmpfs as volumes need it cannot be mounted on {folder}")]
    Mount {
        /// Where it was tried.
        folder: String,
        /// What failed.
        #[source]
        source: MountError,
    },
    /// The kernel is too old.
    #[error(
        "the kernel has no `noswap` for tmpfs (Linux 6.4): secrets could reach a swap device; with volume.withoutNoswap: \
         Allow the driver trusts that this node has none"
    )]
    Noswap,
}

/// Tries all options on a folder that is the driver's own, and returns how volumes are made here.
///
/// # Errors
///
/// See [`SelfTestError`]; nothing stays mounted.
pub fn self_test(folder: &Path, room: Room, policy: SwapPolicy) -> Result<Tmpfs, SelfTestError> {
    let failed = |source| SelfTestError::Mount {
        folder: folder.display().to_string(),
        source,
    };
    let noswap = Tmpfs::kernel_has_noswap().map_err(failed)?;
    if !noswap && policy == SwapPolicy::Refuse {
        return Err(SelfTestError::Noswap);
    }
    let tmpfs = Tmpfs { room, noswap };
    try_on(folder, &tmpfs).map_err(failed)?;
    Ok(tmpfs)
}

fn try_on(folder: &Path, tmpfs: &Tmpfs) -> Result<(), MountError> {
    let name = folder.display().to_string();
    let failed = |error: SystemError| MountError::System(error);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let at =
        open(folder, flags, Mode::empty()).map_err(|errno| failed(system("open", &name)(errno)))?;
    let detached = tmpfs.create()?;
    let root = detached.root()?;
    let examine = |errno| failed(system("examine", &name)(errno));
    let id = mount_id(&root, "").map_err(examine)?;
    detached
        .attach(&at)
        .map_err(|errno| failed(system("mount on", &name)(errno)))?;
    let verified = verify(tmpfs, id, &root);
    let removed = unmount(folder, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH);
    verified?;
    removed.map_err(|errno| failed(system("unmount", &name)(errno)))
}

fn verify(tmpfs: &Tmpfs, id: u64, root: &OwnedFd) -> Result<(), MountError> {
    let table = MountTable::load().map_err(MountError::Table)?;
    let mounted = table.find(id).ok_or(MountError::Dropped("the mount"))?;
    tmpfs.verify(root, mounted)
}
