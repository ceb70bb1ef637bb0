//! The control groups below which a node's pods live. Two kubelets under one root would remove each other's pods,
//! so each node has a root of its own, in every hierarchy of the machine.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::super::layout::Name;

/// How long the kernel may take to let go of processes that were killed.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// The settings without which a group of version 1's `cpuset` takes no process.
const INHERITED: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Returns the group of a node, as the kubelet's `cgroupRoot`.
pub(super) fn root(cluster: &Name, node: &Name) -> String {
    format!("/{}{node}", prefix(cluster))
}

/// Makes the groups of a node.
pub(super) fn create(cluster: &Name, node: &Name) -> Result<()> {
    let group = root(cluster, node);
    for hierarchy in hierarchies()? {
        hand_down_controllers(&hierarchy)?;
        let folder = hierarchy.join(&group[1..]);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot create {folder:?}"));
            }
            _ => inherit(&hierarchy, &folder)?,
        }
    }
    Ok(())
}

/// In the one hierarchy of version 2 a group has the controllers that its parent hands down.
fn hand_down_controllers(hierarchy: &Path) -> Result<()> {
    let Ok(controllers) = fs::read_to_string(hierarchy.join("cgroup.controllers")) else {
        return Ok(());
    };
    for controller in controllers.split_whitespace() {
        fs::write(
            hierarchy.join("cgroup.subtree_control"),
            format!("+{controller}"),
        )
        .with_context(|| format!("cannot hand down the controller {controller}"))?;
    }
    Ok(())
}

fn inherit(parent: &Path, folder: &Path) -> Result<()> {
    for name in INHERITED {
        if parent.join(name).exists() {
            let value = fs::read(parent.join(name))?;
            fs::write(folder.join(name), value)?;
        }
    }
    Ok(())
}

/// Returns the ids of the processes in the pods of a node.
pub(super) fn processes(cluster: &Name, node: &Name) -> Result<Vec<u32>> {
    let mark = format!(":{}/", root(cluster, node));
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let id: Option<u32> = path
            .file_name()
            .and_then(|name| name.to_str()?.parse().ok());
        let groups = fs::read_to_string(path.join("cgroup")).unwrap_or_default();
        if groups.contains(&mark) {
            found.extend(id);
        }
    }
    Ok(found)
}

/// Removes the groups of all nodes of a cluster, whose processes have been ended.
pub(in super::super) fn remove_all(cluster: &Name) -> Result<()> {
    let prefix = prefix(cluster);
    for hierarchy in hierarchies()? {
        for entry in fs::read_dir(&hierarchy)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove_group(&entry.path())?;
            }
        }
    }
    Ok(())
}

/// Removes the groups of one node, whose processes have been ended.
pub(super) fn remove(cluster: &Name, node: &Name) -> Result<()> {
    let group = root(cluster, node);
    for hierarchy in hierarchies()? {
        let folder = hierarchy.join(&group[1..]);
        if folder.exists() {
            remove_group(&folder)?;
        }
    }
    Ok(())
}

/// Neither part of a group's name has a dot of its own.
fn prefix(cluster: &Name) -> String {
    format!("strongroom.{cluster}.")
}

/// Removes a group and those below it. Its files are no files: they go with it.
fn remove_group(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    let start = Instant::now();
    loop {
        match fs::remove_dir(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) if start.elapsed() < REMOVAL_LIMIT => thread::sleep(Duration::from_millis(20)),
            Err(error) => return Err(error).with_context(|| format!("cannot remove {folder:?}")),
        }
    }
}

/// Returns where the hierarchies of control groups are mounted.
fn hierarchies() -> Result<Vec<PathBuf>> {
    Ok(parse_hierarchies(&fs::read_to_string("/proc/self/mounts")?))
}

fn parse_hierarchies(mounts: &str) -> Vec<PathBuf> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let folder = words.next()?;
            matches!(words.next()?, "cgroup" | "cgroup2").then(|| PathBuf::from(folder))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_the_mounts_of_their_kinds() {
        let mounts = "\
proc /proc proc rw 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
tmpfs /sys/fs/cgroup tmpfs rw 0 0
";
        let expected = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(parse_hierarchies(mounts), expected);
    }

    #[test]
    fn group_of_one_cluster_is_not_taken_for_that_of_another() {
        let (one, two): (Name, Name) = ("a".parse().unwrap(), "a-b".parse().unwrap());
        let node = "node-0".parse().unwrap();
        assert!(!root(&two, &node)[1..].starts_with(&prefix(&one)));
        assert!(root(&one, &node)[1..].starts_with(&prefix(&one)));
    }
}
