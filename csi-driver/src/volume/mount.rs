//! The tmpfs of a volume. It is made and filled before anybody can see it, and put in its place whole: a publish that
//! fails, or a driver that is killed, leaves nothing, because a mount that is nowhere ends with its descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::{
    fs::{AtFlags, Mode, OFlags, StatVfs, StatVfsMountFlags, StatxFlags, fstatvfs, openat2, statx},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
        fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    },
};

use super::{
    beneath::{ONTO, SystemError, system},
    files::FileSet,
    mount_table::{FILE_SYSTEM, Mounted, SOURCE},
};

/// Folders are passable: who reads a file is for its own mode and owner to say.
pub(super) const FOLDER_MODE: u32 = 0o755;
const NOSWAP: &str = "noswap";

/// Bounds of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Bytes, a multiple of the page size.
    pub bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

/// How volumes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// How much fits.
    pub room: Room,
    /// Whether the kernel is told never to swap it out.
    pub noswap: bool,
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A system call failed.
    #[error("the tmpfs cannot be mounted")]
    System(#[source] SystemError),
    /// The list of mounts cannot be read.
    #[error("the list of mounts cannot be read")]
    Table(#[source] std::io::Error),
    /// The kernel took an option and did not keep it.
    #[error("the kernel dropped {0}")]
    Dropped(&'static str),
}

impl Room {
    /// Whether files fit, and once more beside themselves while they are swapped.
    pub fn takes(self, files: &FileSet) -> bool {
        // Root, `..data`, the next of it, and a link for each first part of a path.
        let fixed = 3 + files.tops().len() as u64;
        2 * files.bytes() <= self.bytes && 2 * (files.inodes() + 1) + fixed <= self.inodes
    }
}

impl Tmpfs {
    /// Makes a volume that is nowhere yet.
    ///
    /// # Errors
    ///
    /// See [`MountError`].
    pub fn create(&self) -> Result<Detached, MountError> {
        let Self { room, noswap } = self;
        let (size, inodes) = (room.bytes.to_string(), room.inodes.to_string());
        let mode = format!("{FOLDER_MODE:o}");
        let failed = |option| move |errno| MountError::System(system("set", option)(errno));
        let fs = fsopen(FILE_SYSTEM, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| MountError::System(system("open", FILE_SYSTEM)(errno)))?;
        for (key, value) in [
            ("source", SOURCE),
            ("size", &size),
            ("nr_inodes", &inodes),
            ("mode", &mode),
        ] {
            fsconfig_set_string(&fs, key, value).map_err(failed(key))?;
        }
        if *noswap {
            fsconfig_set_flag(&fs, NOSWAP).map_err(failed(NOSWAP))?;
        }
        fsconfig_create(&fs).map_err(failed("the options"))?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .map(Detached)
            .map_err(|errno| MountError::System(system("mount", FILE_SYSTEM)(errno)))
    }

    /// Whether the kernel knows `noswap` (Linux 6.4, or a distribution's older one), and lets us use it.
    pub(super) fn kernel_has_noswap() -> Result<bool, MountError> {
        let fs = fsopen(FILE_SYSTEM, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| MountError::System(system("open", FILE_SYSTEM)(errno)))?;
        match fsconfig_set_flag(&fs, NOSWAP) {
            Ok(()) => Ok(true),
            Err(Errno::INVAL) => Ok(false),
            Err(errno) => Err(MountError::System(system("set", NOSWAP)(errno))),
        }
    }

    /// Compares what was asked for with what the kernel says of a mount.
    pub(super) fn verify(&self, root: impl AsFd, mounted: &Mounted) -> Result<(), MountError> {
        let failed = |errno| MountError::System(system("examine", FILE_SYSTEM)(errno));
        let StatVfs {
            f_flag,
            f_blocks,
            f_frsize,
            f_files,
            ..
        } = fstatvfs(&root).map_err(failed)?;
        let root = statx(&root, "", AtFlags::EMPTY_PATH, StatxFlags::MODE).map_err(failed)?;
        let noswap = mounted.options.iter().any(|option| option == NOSWAP);
        for (name, holds) in [
            ("nosuid", f_flag.contains(StatVfsMountFlags::NOSUID)),
            ("nodev", f_flag.contains(StatVfsMountFlags::NODEV)),
            ("noexec", f_flag.contains(StatVfsMountFlags::NOEXEC)),
            ("size", f_blocks * f_frsize == self.room.bytes),
            ("nr_inodes", f_files == self.room.inodes),
            ("mode", u32::from(root.stx_mode) & 0o7777 == FOLDER_MODE),
            (NOSWAP, noswap || !self.noswap),
        ] {
            if !holds {
                return Err(MountError::Dropped(name));
            }
        }
        Ok(())
    }
}

/// A mount that is nowhere; dropping it ends it.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl Detached {
    /// Opens its root, for the writer.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn root(&self) -> Result<OwnedFd, MountError> {
        open_root(self.0.as_fd(), ".")
            .map_err(|errno| MountError::System(system("open", ".")(errno)))
    }

    /// Puts it onto a folder.
    pub(super) fn attach(self, folder: impl AsFd) -> Result<(), Errno> {
        let both =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&self.0, "", folder, "", both)
    }
}

/// Opens the root of what is mounted on `name`.
pub(super) fn open_root(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(at, name, flags, Mode::empty(), ONTO)
}

/// The id by which the kernel's list names the mount that a file is on.
pub(super) fn mount_id(at: impl AsFd, name: &str) -> Result<u64, Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let found = statx(at, name, flags, StatxFlags::MNT_ID)?;
    // Linux 5.8 answers; without an answer nothing of this could be told apart.
    if StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID) {
        Ok(found.stx_mnt_id)
    } else {
        Err(Errno::NOSYS)
    }
}
