//! Writing: each file at once and for good, each folder with its owner before anybody can use it.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, fchown},
    path::{Path, PathBuf},
};

use super::{
    host::Root,
    layout::{Content, Entry},
};

/// Something cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub(crate) struct WriteError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { path, source }
}

/// Makes a folder, or a file with this content.
pub(super) fn put(root: &Root, entry: &Entry, content: &str) -> Result<(), WriteError> {
    let path = root.at(&entry.path);
    match entry.content {
        Content::Folder => folder(&path, entry).map_err(at(&path)),
        Content::Text(_) | Content::Secret(_) => {
            let Entry {
                owner, group, mode, ..
            } = *entry;
            replace(&path, content, (owner, group, mode)).map_err(at(&path))
        }
    }
}

pub(super) fn remove(root: &Root, path: &Path) -> Result<(), WriteError> {
    let path = root.at(path);
    let removed = match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    };
    removed.map_err(at(&path))
}

/// Adds a line to a list of users or groups; everything else about the file stays.
pub(super) fn add_line(root: &Root, path: &str, line: &str) -> Result<(), WriteError> {
    let path = root.at(path);
    let add = || {
        let metadata = fs::metadata(&path)?;
        let mut text = fs::read_to_string(&path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
        let place = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        replace(&path, &text, place)
    };
    add().map_err(at(&path))
}

fn folder(path: &Path, entry: &Entry) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome?,
    }
    chown(path, Some(entry.owner), Some(entry.group))?;
    fs::set_permissions(path, Permissions::from_mode(entry.mode))
}

/// Writes a file beside and renames it. The kubelet does not read names that begin with a dot.
fn replace(path: &Path, content: &str, (owner, group, mode): (u32, u32, u32)) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    let beside = path.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    fchown(&file, Some(owner), Some(group))?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_added_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root(folder.path().to_owned());
        let path = folder.path().join("group");
        fs::write(&path, "root:x:0:").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        add_line(&root, "/group", "ours:*:1:\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "root:x:0:\nours:*:1:\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
