//! Values that must be nowhere: made at random, kept in memory, looked for in every form in which a program could write
//! them down.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

/// Secrets of one run.
#[derive(Default)]
pub struct Canaries(Vec<(String, Vec<u8>)>);

impl Canaries {
    /// Makes one that nobody has seen before.
    ///
    /// # Errors
    /// Without a random generator.
    pub fn draw(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut value = vec![0; 32];
        aws_lc_rs::rand::fill(&mut value)?;
        self.add(name, value.clone());
        Ok(value)
    }

    /// Looks for a secret that somebody else made, too.
    pub fn add(&mut self, name: &str, value: Vec<u8>) {
        self.0.push((name.to_owned(), value));
    }

    /// The names and forms of all secrets in some bytes.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Vec<String> {
        self.scanner().find(bytes)
    }

    /// The secrets in all files below a folder, each with the file; a folder that is not there has none.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn find_below(&self, folder: &Path) -> Result<Vec<String>> {
        let found = self.find_changed_below(folder, SystemTime::UNIX_EPOCH)?;
        let line = |(path, hit): &(PathBuf, String)| format!("{}: {hit}", path.display());
        Ok(found.hits.iter().map(line).collect())
    }

    /// The secrets in the files below a folder that something was done with since a time: no other can hold a secret that was
    /// made later. Files that go away meanwhile are left out.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn find_changed_below(&self, folder: &Path, since: SystemTime) -> Result<Found> {
        let since = since.duration_since(SystemTime::UNIX_EPOCH)?;
        let mut found = Found::default();
        self.scanner().walk(folder, since, &mut found)?;
        Ok(found)
    }

    fn scanner(&self) -> Scanner {
        let mut by_first_byte = vec![Vec::new(); 256];
        for (name, value) in &self.0 {
            for (form, bytes) in forms(value) {
                by_first_byte[usize::from(bytes[0])].push((format!("{name} in {form}"), bytes));
            }
        }
        Scanner(by_first_byte)
    }
}

/// What a look through a folder gave.
#[derive(Debug, Default)]
pub struct Found {
    /// How many files were read.
    pub files: usize,
    /// How many bytes that was.
    pub bytes: usize,
    /// Where something was found, and what.
    pub hits: Vec<(PathBuf, String)>,
}

/// All forms of all secrets, by their first byte.
struct Scanner(Vec<Vec<(String, Vec<u8>)>>);

impl Scanner {
    fn find(&self, bytes: &[u8]) -> Vec<String> {
        let mut found = BTreeSet::new();
        for (at, first) in bytes.iter().enumerate() {
            for (name, form) in &self.0[usize::from(*first)] {
                if bytes[at..].starts_with(form) {
                    found.insert(name.clone());
                }
            }
        }
        found.into_iter().collect()
    }

    fn walk(&self, folder: &Path, since: Duration, found: &mut Found) -> Result<()> {
        let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let data = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                data => data?,
            };
            if data.is_dir() {
                self.walk(&path, since, found)?;
            } else if data.is_file() && Duration::from_secs(data.ctime().try_into()?) >= since {
                match fs::read(&path) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    bytes => self.look(path, &bytes?, found),
                }
            }
        }
        Ok(())
    }

    fn look(&self, path: PathBuf, bytes: &[u8], found: &mut Found) {
        found.files += 1;
        found.bytes += bytes.len();
        let hits = self.find(bytes).into_iter();
        found.hits.extend(hits.map(|hit| (path.clone(), hit)));
    }
}

/// A value as it is, in hexadecimal, in Base64 at each of the three places that it can have in a longer text, and as Rust
/// shows bytes.
fn forms(value: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hexadecimal = hex::encode(value);
    let mut forms = vec![
        ("raw bytes", value.to_vec()),
        ("upper hexadecimal", hexadecimal.to_uppercase().into_bytes()),
        ("hexadecimal", hexadecimal.into_bytes()),
        ("a list of numbers", list(value).into_bytes()),
    ];
    for skipped in 0..3 {
        // Whole groups of three bytes are the same text wherever they stand.
        let whole = &value[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push(("Base64", STANDARD_NO_PAD.encode(whole).into_bytes()));
        forms.push((
            "Base64 for URLs",
            URL_SAFE_NO_PAD.encode(whole).into_bytes(),
        ));
    }
    forms
}

fn list(value: &[u8]) -> String {
    let numbers: Vec<String> = value.iter().map(u8::to_string).collect();
    numbers.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8]) {
        let mut canaries = Canaries::default();
        canaries.add("planted", (100..132).collect());
        assert_eq!(canaries.find(b"nothing of it"), Vec::<String>::new());
        assert!(!canaries.find(text).is_empty(), "{text:?}");
    }

    #[test]
    fn planted_secret_is_found_in_every_form() {
        let value: Vec<u8> = (100..132).collect();
        let around = |text: String| format!("{{\"level\":\"info\",\"x\":\"{text}\"}}").into_bytes();
        check(&[b"before".as_slice(), &value, b"after"].concat());
        check(&around(hex::encode(&value)));
        check(&around(hex::encode_upper(&value)));
        check(&around(format!("{value:?}")));
        for before in 0..3 {
            let longer = [vec![7; before], value.clone(), vec![9; 5]].concat();
            check(&around(STANDARD_NO_PAD.encode(&longer)));
            check(&around(URL_SAFE_NO_PAD.encode(&longer)));
        }
    }
}
