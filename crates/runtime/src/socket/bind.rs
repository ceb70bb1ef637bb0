//! Takes a path for a listener: a dead socket is replaced, a live one is never stolen, and what is not a socket is
//! never deleted. The socket gets its final mode before anybody can connect, and its name by a rename, so the folder
//! keeps its inode and a bind mount of it stays true.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, listen, socket_with},
    process::geteuid,
};

use super::{
    Incoming, Peers,
    path::{PathError, check_folders, examine},
};

const BACKLOG: i32 = 128;
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How a socket is offered.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Permissions of the socket.
    pub mode: u32,
    /// Group of the socket, when it is not the process's own.
    pub group: Option<u32>,
    /// Who is served.
    pub peers: Peers,
}

impl SocketOptions {
    /// Offers a socket to owner and group (0660); every connection is checked against the peers as well.
    pub fn new(peers: Peers) -> Self {
        Self {
            mode: 0o660,
            group: None,
            peers,
        }
    }
}

/// Why a path could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The path or a folder on the way is not fit.
    #[error("the socket's path is not fit")]
    Path(#[source] PathError),
    /// Another process serves there.
    #[error("another process listens on {}", path.display())]
    Live {
        /// The path.
        path: PathBuf,
    },
    /// Another process takes the path at this moment, or holds the folder's lock.
    #[error("the folder {} is locked by another process", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

/// Takes a path and listens on it. Must be called within a runtime.
///
/// # Errors
///
/// See [`BindError`]; nothing was changed at the path then.
pub fn bind(path: &Path, options: SocketOptions) -> Result<Incoming, BindError> {
    let folder = check_folders(path, geteuid().as_raw()).map_err(BindError::Path)?;
    // Held until the socket is in place: of two that start at once, the second meets a live listener.
    let _lock = lock(folder)?;
    check_free(path)?;
    let temporary = temporary_name(path);
    remove_leftover(&temporary)?;
    let listener = prepare(&temporary, &options)?;
    // The inode tells our socket from a successor's when the time comes to remove it.
    let inode = examine(&temporary).map_err(BindError::Path)?.ino();
    fs::rename(&temporary, path).map_err(system("put the socket at", path))?;
    Incoming::new(listener, path.to_owned(), inode, options.peers)
        .map_err(system("accept connections on", path))
}

fn system(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BindError {
    let path = path.to_owned();
    move |source| BindError::System { what, path, source }
}

fn lock(folder: &Path) -> Result<File, BindError> {
    let file = File::open(folder).map_err(system("open the folder", folder))?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(system("lock the folder", folder)(errno.into())),
        }
    }
    Err(BindError::Locked {
        path: folder.to_owned(),
    })
}

/// Checks that nothing is at the path, or a socket on which nobody listens.
fn check_free(path: &Path) -> Result<(), BindError> {
    let metadata = match examine(path) {
        Ok(metadata) => metadata,
        Err(PathError::Examine { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(error) => return Err(BindError::Path(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::Path(PathError::NotSocket {
            path: path.to_owned(),
        }));
    }
    match knock(path) {
        Err(Errno::CONNREFUSED) => Ok(()),
        // A full backlog is a listener too.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS) => Err(BindError::Live {
            path: path.to_owned(),
        }),
        Err(errno) => Err(system("tell whether anybody listens on", path)(
            errno.into(),
        )),
    }
}

/// Connects without waiting.
fn knock(path: &Path) -> Result<(), Errno> {
    let socket = stream_socket(SocketFlags::NONBLOCK)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

fn stream_socket(flags: SocketFlags) -> Result<OwnedFd, Errno> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags | SocketFlags::CLOEXEC,
        None,
    )
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push("~");
    path.with_file_name(name)
}

/// Removes the socket of a process that was killed between bind and rename; the lock says that it is gone.
fn remove_leftover(temporary: &Path) -> Result<(), BindError> {
    match fs::symlink_metadata(temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system("examine", temporary)(error)),
        Ok(metadata) if metadata.file_type().is_socket() => {
            fs::remove_file(temporary).map_err(system("remove the unfinished socket", temporary))
        }
        Ok(_) => Err(BindError::Path(PathError::NotSocket {
            path: temporary.to_owned(),
        })),
    }
}

fn prepare(path: &Path, options: &SocketOptions) -> Result<UnixListener, BindError> {
    let errno = |what| move |errno: Errno| system(what, path)(errno.into());
    let socket = stream_socket(SocketFlags::NONBLOCK).map_err(errno("make a socket for"))?;
    let address = SocketAddrUnix::new(path).map_err(errno("name the socket"))?;
    rustix::net::bind(&socket, &address).map_err(errno("bind"))?;
    if let Some(group) = options.group {
        lchown(path, None, Some(group)).map_err(system("set the group of", path))?;
    }
    fs::set_permissions(path, Permissions::from_mode(options.mode))
        .map_err(system("set the mode of", path))?;
    // Only from here on can anybody connect, and mode and group are in place.
    listen(&socket, BACKLOG).map_err(errno("listen on"))?;
    Ok(UnixListener::from(socket))
}
