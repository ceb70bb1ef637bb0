//! What a path to a socket must look like. Only root, ourselves and the owner of the socket may be able to change any
//! of its components, so a look by path stays true until the call that follows it.

use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

use rustix::process::geteuid;

const WRITABLE_BY_OTHERS: u32 = 0o002;
const WRITABLE_BY_GROUP_OR_OTHERS: u32 = 0o022;
const STICKY: u32 = 0o1000;
/// `sun_path` with its final zero.
const MAX_PATH_BYTES: usize = 107;

/// What is wrong with the path of a socket.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It is relative, or has `..` in it.
    #[error("socket path {} is not absolute and plain", path.display())]
    NotPlain {
        /// The path.
        path: PathBuf,
    },
    /// The kernel takes no longer ones.
    #[error("socket path {} is longer than {MAX_PATH_BYTES} bytes", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
    },
    /// A component cannot be looked at, or is missing.
    #[error("cannot examine {}", path.display())]
    Examine {
        /// The component.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A component is a symbolic link.
    #[error("{} is a symbolic link", path.display())]
    Symlink {
        /// The component.
        path: PathBuf,
    },
    /// A component on the way is not a folder.
    #[error("{} is not a folder", path.display())]
    NotFolder {
        /// The component.
        path: PathBuf,
    },
    /// Others could exchange what the component holds.
    #[error("{} has mode {mode:04o}, so others can change what it holds", path.display())]
    Writable {
        /// The component.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The component belongs to somebody else.
    #[error("{} belongs to uid {uid}", path.display())]
    Owner {
        /// The component.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// The path is taken by something that is not a socket.
    #[error("{} is not a socket", path.display())]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
}

/// Looks at a path without following a link.
pub(super) fn examine(path: &Path) -> Result<Metadata, PathError> {
    fs::symlink_metadata(path).map_err(|source| PathError::Examine {
        path: path.to_owned(),
        source,
    })
}

/// Checks every folder that leads to a socket, and returns the folder that holds it.
///
/// `owner` is who may own folders beside root and ourselves.
pub(super) fn check_folders(socket: &Path, owner: u32) -> Result<&Path, PathError> {
    check_form(socket)?;
    let not_plain = || PathError::NotPlain {
        path: socket.to_owned(),
    };
    let folder = socket.parent().ok_or_else(not_plain)?;
    for ancestor in folder.ancestors() {
        check_folder(ancestor, owner)?;
    }
    let metadata = examine(folder)?;
    // A sticky bit protects what is there, but not a name that is free.
    if metadata.mode() & WRITABLE_BY_GROUP_OR_OTHERS != 0 {
        return Err(writable(folder, &metadata));
    }
    Ok(folder)
}

/// Checks that a path is a socket of `owner` that the world cannot use.
pub(super) fn check_socket(path: &Path, owner: u32) -> Result<(), PathError> {
    let metadata = examine(path)?;
    if metadata.is_symlink() {
        return Err(PathError::Symlink {
            path: path.to_owned(),
        });
    }
    if !metadata.file_type().is_socket() {
        return Err(PathError::NotSocket {
            path: path.to_owned(),
        });
    }
    if metadata.uid() != owner {
        return Err(PathError::Owner {
            path: path.to_owned(),
            uid: metadata.uid(),
        });
    }
    if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(writable(path, &metadata));
    }
    Ok(())
}

fn check_form(socket: &Path) -> Result<(), PathError> {
    let path = || socket.to_owned();
    let plain = socket
        .components()
        .all(|component| matches!(component, Component::RootDir | Component::Normal(_)));
    if !plain || !socket.is_absolute() || socket.file_name().is_none() {
        return Err(PathError::NotPlain { path: path() });
    }
    if socket.as_os_str().len() > MAX_PATH_BYTES {
        return Err(PathError::TooLong { path: path() });
    }
    Ok(())
}

fn check_folder(folder: &Path, owner: u32) -> Result<(), PathError> {
    let metadata = examine(folder)?;
    let path = || folder.to_owned();
    if metadata.is_symlink() {
        return Err(PathError::Symlink { path: path() });
    }
    if !metadata.is_dir() {
        return Err(PathError::NotFolder { path: path() });
    }
    if ![0, owner, geteuid().as_raw()].contains(&metadata.uid()) {
        return Err(PathError::Owner {
            path: path(),
            uid: metadata.uid(),
        });
    }
    let mode = metadata.mode();
    // In a sticky folder, such as /tmp, others cannot rename what is not theirs.
    if mode & WRITABLE_BY_GROUP_OR_OTHERS != 0 && mode & STICKY == 0 {
        return Err(writable(folder, &metadata));
    }
    Ok(())
}

fn writable(path: &Path, metadata: &Metadata) -> PathError {
    PathError::Writable {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
    }
}
