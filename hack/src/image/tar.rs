//! A writer of tar streams in the ustar form: owned by root, without times, so that equal content is equal bytes.

use anyhow::{Context, Result, ensure};

const BLOCK: usize = 512;
/// Readers want a stream to be a multiple of this.
const RECORD: usize = 20 * BLOCK;
const NAME: usize = 100;
const PREFIX: usize = 155;

/// What an entry is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    Folder,
    File(&'a [u8]),
    Link(&'a str),
}

/// Collects entries.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// Adds an entry; the path of a folder ends with `/`.
    pub(super) fn add(&mut self, path: &str, mode: u32, kind: Kind<'_>) -> Result<()> {
        let content = match kind {
            Kind::File(bytes) => bytes,
            Kind::Folder | Kind::Link(_) => &[],
        };
        self.0
            .extend_from_slice(&header(path, mode, kind, content.len())?);
        self.0.extend_from_slice(content);
        self.pad(BLOCK);
        Ok(())
    }

    /// Ends the stream with its two empty blocks.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.pad(RECORD);
        self.0
    }

    fn pad(&mut self, unit: usize) {
        self.0.resize(self.0.len().next_multiple_of(unit), 0);
    }
}

fn header(path: &str, mode: u32, kind: Kind<'_>, size: usize) -> Result<[u8; BLOCK]> {
    let (prefix, name) = split(path)?;
    let (flag, target) = match kind {
        Kind::File(_) => (b'0', ""),
        Kind::Link(target) => (b'2', target),
        Kind::Folder => (b'5', ""),
    };
    ensure!(target.len() <= NAME, "the link {path} points too far");
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000"); // owner
    put(116, b"0000000"); // group
    put(124, format!("{size:011o}").as_bytes());
    put(136, b"00000000000"); // time of the last change
    put(148, b"        "); // the checksum counts as spaces
    put(156, &[flag]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    put(345, prefix.as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// A long path is split at a slash.
fn split(path: &str) -> Result<(&str, &str)> {
    if path.len() <= NAME {
        return Ok(("", path));
    }
    path.match_indices('/')
        .map(|(at, _)| (&path[..at], &path[at + 1..]))
        .find(|(prefix, name)| prefix.len() <= PREFIX && !name.is_empty() && name.len() <= NAME)
        .with_context(|| format!("the path {path} is too long for a tar stream"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    /// Lets the tar of this machine list a stream.
    fn listed(stream: &[u8]) -> String {
        let mut tar = Command::new("tar")
            .args([
                "--list",
                "--verbose",
                "--numeric-owner",
                "--utc",
                "--file=-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(stream).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn stream_is_what_another_tar_reads() {
        let mut writer = Writer::default();
        let long = format!("{}/{}", "d".repeat(120), "n".repeat(90));
        writer.add("etc/", 0o755, Kind::Folder).unwrap();
        writer.add("etc/a", 0o640, Kind::File(b"12345")).unwrap();
        writer.add("etc/b", 0o777, Kind::Link("a")).unwrap();
        writer.add(&long, 0o644, Kind::File(&[7; 600])).unwrap();
        let stream = writer.finish();
        assert_eq!(stream.len() % RECORD, 0);
        let lines: Vec<String> = listed(&stream)
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 etc/".to_owned(),
                "-rw-r----- 0/0 5 1970-01-01 00:00 etc/a".to_owned(),
                "lrwxrwxrwx 0/0 0 1970-01-01 00:00 etc/b -> a".to_owned(),
                format!("-rw-r--r-- 0/0 600 1970-01-01 00:00 {long}"),
            ]
        );
    }

    #[test]
    fn path_that_does_not_fit_is_refused() {
        let error = Writer::default()
            .add(&"n".repeat(101), 0o644, Kind::File(b""))
            .unwrap_err();
        assert!(error.to_string().ends_with("is too long for a tar stream"));
    }
}
