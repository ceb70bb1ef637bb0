//! kubelet's folder of pods, and what is mounted in it: the only part of the machine that the driver changes.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, StatxFlags, mkdirat, open, statx},
    io::Errno,
    mount::{UnmountFlags, unmount},
};

use super::{
    Detached, MountError, MountTable, Mounted, Target, Tmpfs,
    beneath::{SystemError, open_folder, remove, system},
    mount::{mount_id, open_root},
    target::MOUNT,
};

/// kubelet's own folders are not for everybody.
const MOUNT_POINT_MODE: u32 = 0o750;
/// What kubelet writes beside a mount point before it asks for the volume, and removes after it has had it taken away.
const VOLUME_DATA: &str = "vol_data.json";
/// More mounts on one another than any driver has left behind.
const STACK_MAX: usize = 1024;

/// kubelet's folder of pods.
#[derive(Debug)]
pub struct Pods {
    path: PathBuf,
    folder: OwnedFd,
}

/// Where one volume is published.
#[derive(Debug)]
pub struct Place(OwnedFd);

/// Why it is not known what is published somewhere.
#[derive(Debug, thiserror::Error)]
pub enum PublishedError {
    /// A system call failed.
    #[error("the volume's folder cannot be examined")]
    System(#[source] SystemError),
    /// The list of mounts cannot be read.
    #[error("the list of mounts cannot be read")]
    Table(#[source] io::Error),
    /// Something is mounted there that is no volume of this driver.
    #[error("something that is no volume of this driver is mounted there")]
    Foreign,
}

/// Why a volume is still there.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A system call failed.
    #[error("the volume cannot be removed")]
    System(#[source] SystemError),
}

impl Pods {
    /// Opens kubelet's folder of pods.
    ///
    /// # Errors
    ///
    /// When it is not there.
    pub fn open(path: &Path) -> Result<Self, SystemError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let shown = path.display().to_string();
        let folder = open(path, flags, Mode::empty()).map_err(system("open", &shown))?;
        Ok(Self {
            path: path.to_owned(),
            folder,
        })
    }

    /// Its path, as kubelet writes it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the folder in which a volume is mounted; none when the pod is gone.
    ///
    /// # Errors
    ///
    /// When a link or another mount is on the way.
    pub fn place(&self, target: &Target) -> Result<Option<Place>, SystemError> {
        let folder = target.folder();
        match open_folder(&self.folder, &folder) {
            Ok(folder) => Ok(Some(Place(folder))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(system("open", &folder)(errno)),
        }
    }

    /// The volumes that are mounted.
    ///
    /// # Errors
    ///
    /// When the list of mounts cannot be read.
    pub fn published(&self) -> io::Result<Vec<Target>> {
        let table = MountTable::load()?;
        let mut targets: Vec<Target> = table
            .ours()
            .filter_map(|mounted| Target::parse(&mounted.point, &self.path).ok())
            .collect();
        targets.sort_unstable();
        targets.dedup();
        Ok(targets)
    }
}

impl Place {
    /// Opens the root of the volume that is published here; none when there is none.
    ///
    /// # Errors
    ///
    /// See [`PublishedError`].
    pub fn published(&self) -> Result<Option<OwnedFd>, PublishedError> {
        let failed = |errno| PublishedError::System(system("examine", MOUNT)(errno));
        if !self.is_mount_point().map_err(failed)? {
            return Ok(None);
        }
        let root = open_root(self.0.as_fd(), MOUNT).map_err(failed)?;
        // Asked of the descriptor that is written through, not of the path.
        let id = mount_id(&root, "").map_err(failed)?;
        let table = MountTable::load().map_err(PublishedError::Table)?;
        match table.find(id) {
            Some(mounted) if mounted.is_ours() => Ok(Some(root)),
            Some(_) | None => Err(PublishedError::Foreign),
        }
    }

    /// Whether kubelet knows of a volume here. What it does not know of it never asks to be taken away.
    ///
    /// # Errors
    ///
    /// When the folder cannot be examined.
    pub fn is_known_to_kubelet(&self) -> Result<bool, SystemError> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(&self.0, VOLUME_DATA, flags, StatxFlags::TYPE) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(system("examine", VOLUME_DATA)(errno)),
        }
    }

    /// Puts a volume here, and takes it away again when the kernel did not keep an option.
    ///
    /// # Errors
    ///
    /// See [`MountError`]; nothing is left then.
    pub fn publish(&self, volume: Detached, tmpfs: &Tmpfs) -> Result<(), MountError> {
        let outcome = self.attach(volume).and_then(|()| self.verify(tmpfs));
        if outcome.is_err() {
            let _ = self.remove();
        }
        outcome
    }

    fn attach(&self, volume: Detached) -> Result<(), MountError> {
        let failed = |what| move |errno| MountError::System(system(what, MOUNT)(errno));
        match mkdirat(&self.0, MOUNT, Mode::from_raw_mode(MOUNT_POINT_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("make")(errno)),
        }
        // Neither a link nor a mount: whoever publishes has looked, and nobody else writes here.
        let point = open_folder(&self.0, MOUNT).map_err(failed("open"))?;
        volume.attach(point).map_err(failed("mount on"))
    }

    fn verify(&self, tmpfs: &Tmpfs) -> Result<(), MountError> {
        let failed = |errno| MountError::System(system("examine", MOUNT)(errno));
        let root = open_root(self.0.as_fd(), MOUNT).map_err(failed)?;
        let id = mount_id(&root, "").map_err(failed)?;
        let table = MountTable::load().map_err(MountError::Table)?;
        let mounted: &Mounted = table.find(id).ok_or(MountError::Dropped("the mount"))?;
        tmpfs.verify(&root, mounted)
    }

    /// Unmounts whatever is mounted here and removes the mount point with what lies in it; fine when there is nothing.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn remove(&self) -> Result<(), RemoveError> {
        let failed = |what| move |errno| RemoveError::System(system(what, MOUNT)(errno));
        for _ in 0..STACK_MAX {
            if !self.is_mount_point().map_err(failed("examine"))? {
                return remove(&self.0, MOUNT).map_err(failed("remove"));
            }
            self.unmount().map_err(failed("unmount"))?;
        }
        Err(failed("unmount")(Errno::BUSY))
    }

    fn unmount(&self) -> Result<(), Errno> {
        // Only the last name of this path is looked up anew, and it is not followed.
        let path = format!("/proc/self/fd/{}/{MOUNT}", self.0.as_raw_fd());
        match unmount(&path, UnmountFlags::NOFOLLOW) {
            // Somebody has a file open: the mount goes with the last of them.
            Err(Errno::BUSY) => unmount(&path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
            outcome => outcome,
        }
    }

    fn is_mount_point(&self) -> Result<bool, Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(&self.0, MOUNT, flags, StatxFlags::TYPE) {
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
            Ok(found) if file_type(found.stx_mode) != FileType::Directory => return Ok(false),
            Ok(_) => {}
        }
        Ok(mount_id(&self.0, MOUNT)? != mount_id(&self.0, "")?)
    }
}

fn file_type(mode: u16) -> FileType {
    FileType::from_raw_mode(mode.into())
}
