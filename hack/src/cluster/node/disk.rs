//! What a node has for a disk: folders of its own in the places where programs write, kept while it is off.
//! The rest of the machine's files is seen through, so that tools need not be copied.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::super::layout::Name;
use super::super::namespace::Namespace;
use super::super::network::{CLUSTER, DNS_SERVICE};
use crate::run::run_quietly;

/// What of the machine's `/etc` a node does not start with.
const NOT_COPIED: [&str; 4] = ["kubernetes", "strongroom", "cni", "resolv.conf"];

/// Folders that programs expect. `/var/lib/volumes` holds the local volumes.
const FOLDERS: [&str; 10] = [
    "etc/kubernetes/manifests",
    "etc/cni/net.d",
    "etc/strongroom",
    "var/lib/cni",
    "var/lib/containerd",
    "var/lib/kubelet",
    "var/lib/strongroom",
    "var/lib/volumes",
    "var/log/pods",
    "var/log/strongroom",
];

/// What the kubelet sets for the whole machine. It finds these already set, in files that are only the node's.
const KERNEL_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// The disk of one node.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    root: PathBuf,
}

impl Disk {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns where a file of the node lies on the machine.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Lays out the disk of a new node.
    pub(super) fn format(&self, node: &Name) -> Result<()> {
        fs::create_dir_all(&self.root)?;
        copy_etc(&self.root)?;
        for folder in FOLDERS {
            fs::create_dir_all(self.path(folder))?;
        }
        let temporary = self.path("var/tmp");
        fs::create_dir(&temporary)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o1777))?;
        symlink("/run", self.path("var/run"))?;
        symlink("/run/lock", self.path("var/lock"))?;
        fs::write(self.path("etc/hostname"), format!("{node}\n"))?;
        fs::write(
            self.path("etc/resolv.conf"),
            format!("nameserver {DNS_SERVICE}\n"),
        )?;
        fs::write(
            self.path("etc/hosts"),
            format!("127.0.0.1 localhost\n{CLUSTER} cluster\n"),
        )?;
        for (name, value) in KERNEL_SETTINGS {
            let file = self.kernel_setting(name);
            fs::create_dir_all(file.parent().context("a setting has a folder")?)?;
            fs::write(file, format!("{value}\n"))?;
        }
        Ok(())
    }

    /// Mounts the disk into the node's namespace, and an empty `/run`, which a power cut empties too.
    pub(super) fn mount(&self, namespace: &Namespace, node: &Name) -> Result<()> {
        // Volumes that a pod mounts for others must reach them.
        mount(namespace, &["--make-rshared", "/"])?;
        for folder in ["etc", "var"] {
            bind(namespace, &self.path(folder), &format!("/{folder}"))?;
        }
        let options = ["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"];
        mount(namespace, &options)?;
        run_quietly(
            namespace
                .member_command("mkdir")
                .args(["-m", "1777", "/run/lock"]),
        )?;
        for (name, _) in KERNEL_SETTINGS {
            bind(
                namespace,
                &self.kernel_setting(name),
                &format!("/proc/sys/{name}"),
            )?;
        }
        run_quietly(namespace.member_command("hostname").arg(node.as_ref())).map(drop)
    }

    fn kernel_setting(&self, name: &str) -> PathBuf {
        self.path("sys").join(name)
    }
}

/// Programs on a node find users, tools' settings and certificates as on the machine, and may change them.
fn copy_etc(root: &Path) -> Result<()> {
    run_quietly(Command::new("cp").args(["--archive", "/etc"]).arg(root))?;
    for name in NOT_COPIED {
        let path = root.join("etc").join(name);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_folder {
            fs::remove_dir_all(&path)
        } else {
            fs::remove_file(&path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn bind(namespace: &Namespace, from: &Path, to: &str) -> Result<()> {
    let from = from.to_str().context("the folder's name is not UTF-8")?;
    mount(namespace, &["--bind", from, to])
}

fn mount(namespace: &Namespace, words: &[&str]) -> Result<()> {
    run_quietly(namespace.member_command("mount").args(words)).map(drop)
}
