//! The files of an image's layer, and the tar stream that they make: the same files are always the same bytes, since
//! entries are sorted, belong to root and carry no time.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::tar::{self, Kind};

/// Bits that would let a program run as somebody else.
const SET_ID: u32 = 0o6000;

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Folder,
    File(Vec<u8>),
    Link(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    content: Content,
}

/// Files by their paths, which are relative to the image's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer(BTreeMap<String, Entry>);

impl Layer {
    /// Adds a file, and the folders that lead to it.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> Self {
        self.insert(path, mode, Content::File(bytes.into()));
        self
    }

    /// Adds an empty folder, and those that lead to it.
    #[must_use]
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.insert(path, mode, Content::Folder);
        self
    }

    /// Adds a link, and the folders that lead to it.
    #[must_use]
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.insert(path, 0o777, Content::Link(target.to_owned()));
        self
    }

    /// Takes in what lies in a folder of this machine, but for paths of which `keep` says no.
    ///
    /// # Errors
    /// When something cannot be read, is no file, folder or link, or would run as somebody else.
    pub(super) fn tree(mut self, folder: &Path, keep: &dyn Fn(&str) -> bool) -> Result<Self> {
        self.walk(folder, "", keep)?;
        Ok(self)
    }

    fn walk(&mut self, folder: &Path, prefix: &str, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| format!("cannot read {folder:?}"))?;
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().context("a path is not UTF-8")?;
            let path = format!("{prefix}{name}");
            let metadata = entry.metadata()?;
            let mode = metadata.permissions().mode() & 0o7777;
            let kind = metadata.file_type();
            if kind.is_dir() {
                if keep(&format!("{path}/")) {
                    self.insert(&path, mode, Content::Folder);
                    self.walk(&entry.path(), &format!("{path}/"), keep)?;
                }
            } else if !keep(&path) {
                continue;
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path())?;
                let target = target.to_str().context("a link is not UTF-8")?;
                self.insert(&path, 0o777, Content::Link(target.to_owned()));
            } else if kind.is_file() {
                ensure!(mode & SET_ID == 0, "{path} has a set-id bit");
                self.insert(&path, mode, Content::File(fs::read(entry.path())?));
            } else {
                bail!("{path} is neither file, folder nor link");
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &str, mode: u32, content: Content) {
        for (end, _) in path.match_indices('/') {
            self.0.entry(path[..end].to_owned()).or_insert(Entry {
                mode: 0o755,
                content: Content::Folder,
            });
        }
        self.0.insert(path.to_owned(), Entry { mode, content });
    }

    /// The tar stream.
    ///
    /// # Errors
    /// When a path is too long for the format.
    pub(super) fn tar(&self) -> Result<Vec<u8>> {
        let mut writer = tar::Writer::default();
        for (path, Entry { mode, content }) in &self.0 {
            match content {
                Content::Folder => writer.add(&format!("{path}/"), *mode, Kind::Folder)?,
                Content::File(bytes) => writer.add(path, *mode, Kind::File(bytes))?,
                Content::Link(target) => writer.add(path, *mode, Kind::Link(target))?,
            }
        }
        Ok(writer.finish())
    }

    /// One line for each path, with its mode, for people and tests.
    #[must_use]
    pub fn listing(&self) -> String {
        let mut text = String::new();
        for (path, Entry { mode, content }) in &self.0 {
            let more = match content {
                Content::Folder => "/".to_owned(),
                Content::File(_) => String::new(),
                Content::Link(target) => format!(" -> {target}"),
            };
            let _ = writeln!(text, "{mode:04o} {path}{more}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_in_which_files_are_added_does_not_matter() {
        let one = Layer::default()
            .file("usr/bin/a", 0o755, "a")
            .file("etc/b", 0o644, "b");
        let other = Layer::default()
            .file("etc/b", 0o644, "b")
            .file("usr/bin/a", 0o755, "a");
        assert_eq!(one.tar().unwrap(), other.tar().unwrap());
        assert_eq!(
            one.listing(),
            "0755 etc/\n0644 etc/b\n0755 usr/\n0755 usr/bin/\n0755 usr/bin/a\n"
        );
    }

    #[test]
    fn folder_is_taken_with_its_modes_and_without_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        fs::create_dir_all(at("lib/locale")).unwrap();
        fs::write(at("lib/locale/de"), "x").unwrap();
        fs::write(at("lib/a.so.1"), "x").unwrap();
        fs::set_permissions(at("lib/a.so.1"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(at("lib"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("a.so.1", at("lib/a.so")).unwrap();
        let layer = Layer::default()
            .tree(folder.path(), &|path| path != "lib/locale/")
            .unwrap();
        assert_eq!(
            layer.listing(),
            "0755 lib/\n0777 lib/a.so -> a.so.1\n0600 lib/a.so.1\n"
        );
    }

    #[test]
    fn program_that_would_run_as_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("su");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
        let error = Layer::default().tree(folder.path(), &|_| true).unwrap_err();
        assert_eq!(error.to_string(), "su has a set-id bit");
    }
}
