//! Writes the files of a volume so that a reader sees the old or the new ones, never a mixture: all of them go into a
//! folder of their own, and one rename of the link `..data` shows it. What users name is a link through `..data`.
//!
//! Nothing is undone when a step fails: the next write, which may be another process's, begins by removing what the last
//! one left. So every step may be the last, and a failure and a kill are the same.

use std::{
    fs::File as OpenFile,
    io::{Read, Write as _},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    fd::AsFd,
    fs::{
        AtFlags, Gid, Mode, OFlags, StatxFlags, Uid, fchmod, fchown, mkdirat, openat2, readlinkat,
        renameat, statx, symlinkat,
    },
    io::Errno,
};
use strongroom_runtime::fault;
use zeroize::Zeroizing;

use super::{
    beneath::{SystemError, WITHIN, entries, open_folder, remove, system},
    files::{File, FileSet},
    mount::FOLDER_MODE,
};

/// The link that readers go through; they may resolve it once and read everything from one version.
const DATA: &str = "..data";
/// The same before it is renamed.
const NEXT: &str = "..data_tmp";
/// Names of the writer's own begin so; no file of a volume does.
const OWN: &str = "..";

/// Why files were not written. What was there before is still shown.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A system call failed.
    #[error("the volume cannot be written")]
    System(#[source] SystemError),
}

impl From<SystemError> for WriteError {
    fn from(source: SystemError) -> Self {
        Self::System(source)
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The same files were there.
    Same,
    /// Others were there, or none.
    Swapped,
}

/// Makes a volume hold these files and no others, whatever it held.
///
/// # Errors
///
/// See [`WriteError`].
pub fn write(root: impl AsFd, files: &FileSet) -> Result<Written, WriteError> {
    let root = root.as_fd();
    let current = sweep(root)?;
    let shown = match &current {
        Some(current) => open_folder(root, &current.name()).ok(),
        None => None,
    };
    if shown.is_some_and(|shown| holds(&shown, files)) {
        link(root, files)?;
        return Ok(Written::Same);
    }
    let next = Version(current.as_ref().map_or(1, |Version(number)| number + 1));
    fill(root, &next.name(), files)?;
    show(root, &next.name())?;
    link(root, files)?;
    fault::point!("csi.writer.linked");
    if let Some(current) = current {
        remove(root, &current.name()).map_err(system("remove", &current.name()))?;
    }
    fault::point!("csi.writer.done");
    Ok(Written::Swapped)
}

/// The folder of one version of all files.
struct Version(u64);

impl Version {
    fn name(&self) -> String {
        format!("{OWN}{}", self.0)
    }

    fn parse(name: &str) -> Option<Self> {
        let version = Self(name.strip_prefix(OWN)?.parse().ok()?);
        (version.name() == name).then_some(version)
    }
}

/// Removes what an unfinished write left, and returns the version that is shown.
fn sweep(root: BorrowedFd<'_>) -> Result<Option<Version>, SystemError> {
    let current = shown_version(root).map_err(system("read", DATA))?;
    let keep = current.as_ref().map(Version::name);
    let listed = entries(open_again(root)?).map_err(system("list", "the volume"))?;
    for entry in listed {
        let is_own = entry.name.starts_with(OWN);
        let is_kept = keep.is_some() && (entry.name == DATA || Some(&entry.name) == keep.as_ref());
        if is_own && !is_kept {
            remove(root, &entry.name).map_err(system("remove", &entry.name))?;
        }
    }
    Ok(current)
}

/// The version that `..data` points to, if it is one. When that cannot be told, nothing may be removed.
fn shown_version(root: BorrowedFd<'_>) -> Result<Option<Version>, Errno> {
    let target = match readlinkat(root, DATA, Vec::new()) {
        Ok(target) => target,
        // Nothing, or no link.
        Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let Some(version) = target.to_str().ok().and_then(Version::parse) else {
        return Ok(None);
    };
    match open_folder(root, &version.name()) {
        Ok(_) => Ok(Some(version)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A descriptor with a position of its own, for listing.
fn open_again(root: BorrowedFd<'_>) -> Result<OwnedFd, SystemError> {
    open_folder(root, ".").map_err(system("open", "the volume"))
}

/// Writes all files into a folder that nobody is shown yet.
fn fill(root: BorrowedFd<'_>, name: &str, files: &FileSet) -> Result<(), WriteError> {
    make_folder(root, name).map_err(system("make", name))?;
    fault::point!("csi.writer.folder");
    let folder = open_folder(root, name).map_err(system("open", name))?;
    for path in files.folders() {
        make_folder(folder.as_fd(), path).map_err(system("make", path))?;
    }
    for (path, file) in files.iter() {
        create(folder.as_fd(), path, file)?;
        fault::point!("csi.writer.file");
    }
    Ok(())
}

fn make_folder(at: BorrowedFd<'_>, path: &str) -> Result<(), Errno> {
    let mode = Mode::from_raw_mode(FOLDER_MODE);
    let (parent, name) = split(at, path)?;
    mkdirat(&parent, name, mode)?;
    // The umask has taken bits away.
    fchmod(open_folder(&parent, name)?, mode)
}

/// Opens the folder that holds a path, since only `openat2` keeps to one mount.
fn split<'a>(at: BorrowedFd<'_>, path: &'a str) -> Result<(OwnedFd, &'a str), Errno> {
    let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
    Ok((open_folder(at, parent)?, name))
}

fn create(at: BorrowedFd<'_>, path: &str, file: &File) -> Result<(), SystemError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // Nobody but us until owner and mode are what they shall be.
    let opened = openat2(at, path, flags, Mode::RUSR | Mode::WUSR, WITHIN)
        .map_err(system("create", path))?;
    let mut opened = OpenFile::from(opened);
    opened.write_all(file.content.expose()).map_err(|error| {
        system("write", path)(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    })?;
    let (owner, group) = (Uid::from_raw(file.uid), Gid::from_raw(file.gid));
    fchown(&opened, Some(owner), Some(group)).map_err(system("change the owner of", path))?;
    // After the owner, whose change takes bits away.
    fchmod(&opened, Mode::from_raw_mode(file.mode)).map_err(system("change the mode of", path))
}

/// Lets readers see a version; the one step that counts.
fn show(root: BorrowedFd<'_>, name: &str) -> Result<(), WriteError> {
    symlinkat(name, root, NEXT).map_err(system("link", NEXT))?;
    fault::point!("csi.writer.prepared");
    renameat(root, NEXT, root, DATA).map_err(system("replace", DATA))?;
    fault::point!("csi.writer.shown");
    Ok(())
}

/// Makes the links that users name be those of the files, and nothing else be there.
fn link(root: BorrowedFd<'_>, files: &FileSet) -> Result<(), SystemError> {
    let tops = files.tops();
    for top in &tops {
        let wanted = format!("{DATA}/{top}");
        let there = readlinkat(root, *top, Vec::new());
        if there.is_ok_and(|there| there.as_bytes() == wanted.as_bytes()) {
            continue;
        }
        remove(root, top).map_err(system("remove", top))?;
        symlinkat(&wanted, root, *top).map_err(system("link", top))?;
    }
    let listed = entries(open_again(root)?).map_err(system("list", "the volume"))?;
    for entry in listed {
        if !entry.name.starts_with(OWN) && !tops.contains(&entry.name.as_str()) {
            remove(root, &entry.name).map_err(system("remove", &entry.name))?;
        }
    }
    Ok(())
}

/// Tells whether a folder holds these files with these modes, owners and contents, and no others.
fn holds(folder: &OwnedFd, files: &FileSet) -> bool {
    count(folder).is_ok_and(|count| count == files.inodes())
        && files.folders().iter().all(|path| is_ours(folder, path))
        && files
            .iter()
            .all(|(path, file)| is_same(folder, path, file).unwrap_or(false))
}

/// Counts what is below a folder.
fn count(folder: &OwnedFd) -> Result<u64, Errno> {
    let mut found = 0;
    for entry in entries(folder)? {
        found += 1;
        if entry.is_folder {
            found += count(&open_folder(folder, &entry.name)?)?;
        }
    }
    Ok(found)
}

fn is_ours(folder: &OwnedFd, path: &str) -> bool {
    let found = open_folder(folder, path).and_then(|folder| place(&folder));
    found.is_ok_and(|found| found == (FOLDER_MODE, 0, 0))
}

fn is_same(folder: &OwnedFd, path: &str, file: &File) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = openat2(folder, path, flags, Mode::empty(), WITHIN)?;
    if place(&opened)? != (file.mode, file.uid, file.gid) {
        return Ok(false);
    }
    let content = file.content.expose();
    // One byte more than there should be, so that a longer file is another one.
    let mut there = Zeroizing::new(Vec::with_capacity(content.len() + 1));
    let mut limited = OpenFile::from(opened).take(content.len() as u64 + 1);
    if limited.read_to_end(&mut there).is_err() {
        return Ok(false);
    }
    Ok(*there == content)
}

/// Mode, owner and group.
fn place(opened: impl AsFd) -> Result<(u32, u32, u32), Errno> {
    let mask = StatxFlags::MODE | StatxFlags::UID | StatxFlags::GID;
    let found = statx(opened, "", AtFlags::EMPTY_PATH, mask)?;
    Ok((
        u32::from(found.stx_mode) & 0o7777,
        found.stx_uid,
        found.stx_gid,
    ))
}
