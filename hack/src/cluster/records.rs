//! Records of running processes in a folder: whoever comes later can end what runs, and only that.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::process::Process;

/// A folder with one file for each process. A record of a process that has ended says nothing.
#[derive(Clone, Debug)]
pub struct Records {
    folder: PathBuf,
}

impl Records {
    /// Returns the records in a folder, whether it exists or not.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Records a process, in the place of an earlier one of that name.
    ///
    /// # Errors
    /// Fails when the file cannot be written.
    pub fn record(&self, name: &str, process: Process) -> Result<()> {
        let next = self.folder.with_extension("next");
        fs::write(&next, serde_json::to_vec(&process)?)?;
        fs::rename(next, self.folder.join(name))?;
        Ok(())
    }

    /// Returns the process of that name, when it is alive.
    ///
    /// # Errors
    /// Fails when the record cannot be read.
    pub fn process(&self, name: &str) -> Result<Option<Process>> {
        let bytes = match fs::read(self.folder.join(name)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let process: Process = serde_json::from_slice(&bytes)?;
        Ok(process.is_alive().then_some(process))
    }

    /// Returns the name of some process that is alive.
    ///
    /// # Errors
    /// Fails when a record cannot be read.
    pub fn living(&self) -> Result<Option<String>> {
        for name in self.names()? {
            if self.process(&name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Ends a process and forgets it. One that is gone is fine.
    ///
    /// # Errors
    /// Fails when it outlives SIGKILL.
    pub fn stop(&self, name: &str) -> Result<()> {
        if let Some(process) = self.process(name)? {
            process
                .stop()
                .with_context(|| format!("cannot end {name}"))?;
        }
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Returns the names of all records, in the reverse order of the alphabet.
    ///
    /// # Errors
    /// Fails when the folder cannot be read.
    pub fn names(&self) -> Result<Vec<String>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            names.extend(entry?.file_name().to_str().map(str::to_owned));
        }
        names.sort_by(|a, b| b.cmp(a));
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn recorded_process_is_found_and_ended_by_whoever_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("processes");
        fs::create_dir(&path).unwrap();
        let process = Process::spawn(Command::new("sleep").arg("600")).unwrap();
        Records::new(path.clone()).record("one", process).unwrap();

        let later = Records::new(path);
        assert_eq!(later.living().unwrap().as_deref(), Some("one"));
        later.stop("one").unwrap();
        assert!(!process.is_alive());
        assert_eq!(later.names().unwrap(), Vec::<String>::new());
    }
}
