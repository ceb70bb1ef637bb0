//! Who runs on the node, as far as user ids tell.

use std::fs;

use super::host::{LookError, Root};

/// A user id of the list as which some process runs.
pub(super) fn one_of(root: &Root, uids: &[u32]) -> Result<Option<u32>, LookError> {
    let folder = root.at("/proc");
    let failed = |source| LookError::new(&folder, source);
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let status = entry.map_err(failed)?.path().join("status");
        // What is no process has no status, and one that ended since then is nobody.
        let status = fs::read_to_string(status).unwrap_or_default();
        if let Some(uid) = uid(&status).filter(|uid| uids.contains(uid)) {
            return Ok(Some(uid));
        }
    }
    Ok(None)
}

/// The effective user id. The owner of the folder says less: a process that forbids dumps shows as root's.
fn uid(status: &str) -> Option<u32> {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    ids.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_is_found_by_its_effective_user() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root(folder.path().to_owned());
        let proc = folder.path().join("proc");
        fs::create_dir_all(proc.join("42")).unwrap();
        fs::create_dir(proc.join("sys")).unwrap();
        let status = "Name:\thsm-agent\nUid:\t0\t2003\t0\t0\nGid:\t2003\t2003\t0\t0\n";
        fs::write(proc.join("42/status"), status).unwrap();
        assert_eq!(one_of(&root, &[2001, 2003]).unwrap(), Some(2003));
        assert_eq!(one_of(&root, &[0, 2001]).unwrap(), None);
    }
}
