//! A copy of each `token.object`, with which SoftHSM's token begins: the keys of all others are under what it holds.
//!
//! SoftHSM empties that file and fills it again at every login, so a process that is killed in between would lose the
//! token. What a login changes is no more than a hint, hence an older copy of it is as good.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use crate::files;

const OBJECT: &str = "token.object";
const MODE: u32 = 0o600;

/// Puts torn files back and copies whole ones. No module may be at work in the folder of tokens.
pub(crate) fn keep(tokens: &Path, kept: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(kept) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome?,
    }
    for entry in fs::read_dir(tokens)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let object = entry.path().join(OBJECT);
            keep_object(&object, &kept.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn keep_object(object: &Path, copy: &Path) -> io::Result<()> {
    let (found, before) = (read(object)?, read(copy)?);
    // Its attributes have fixed lengths, and there are never fewer of them: a shorter file is a torn one.
    if found.len() < before.len() {
        files::replace(object, &before, MODE)?;
        tracing::warn!(object = %object.display(), bytes = found.len(), "a torn token was put back");
    } else if found != before {
        files::replace(copy, &found, MODE)?;
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps `before`, then finds `torn`, and tells what is there afterwards.
    fn check(before: &str, found: Option<&str>, after: &str) {
        let place = tempfile::tempdir().unwrap();
        let (tokens, kept) = (place.path().join("tokens"), place.path().join("kept"));
        let token = tokens.join("8dd0c1b4");
        fs::create_dir_all(&token).unwrap();
        fs::write(token.join(OBJECT), before).unwrap();
        keep(&tokens, &kept).unwrap();
        match found {
            Some(text) => fs::write(token.join(OBJECT), text).unwrap(),
            None => fs::remove_file(token.join(OBJECT)).unwrap(),
        }
        keep(&tokens, &kept).unwrap();
        assert_eq!(fs::read_to_string(token.join(OBJECT)).unwrap(), after);
        assert_eq!(fs::read_to_string(kept.join("8dd0c1b4")).unwrap(), after);
    }

    #[test]
    fn torn_token_is_put_back() {
        check("whole token", Some(""), "whole token");
        check("whole token", Some("whole"), "whole token");
        check("whole token", None, "whole token");
    }

    #[test]
    fn changed_token_is_kept_instead() {
        check("whole token", Some("other token"), "other token");
        check(
            "whole token",
            Some("whole token with a PIN"),
            "whole token with a PIN",
        );
    }
}
