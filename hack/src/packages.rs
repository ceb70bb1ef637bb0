//! Debian packages that the tests need. They are installed when we are root; otherwise the exact command is
//! printed, because a developer tool should not ask for a password.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};

use crate::progress;

/// A package, and a file that shows it is installed.
struct Package {
    name: &'static str,
    probe: &'static [&'static str],
}

/// What a cluster with nodes needs.
const NODE_PACKAGES: &[Package] = &[
    Package {
        name: "runc",
        probe: &["/usr/sbin/runc", "/usr/bin/runc"],
    },
    Package {
        name: "containernetworking-plugins",
        probe: &["/usr/lib/cni/ptp"],
    },
    // kube-proxy's way to services.
    Package {
        name: "nftables",
        probe: &["/usr/sbin/nft"],
    },
    Package {
        name: "conntrack",
        probe: &["/usr/sbin/conntrack"],
    },
    // What pods of tests are made of.
    Package {
        name: "busybox-static",
        probe: &["/usr/bin/busybox", "/bin/busybox"],
    },
    // `sysctl`.
    Package {
        name: "procps",
        probe: &["/usr/sbin/sysctl", "/sbin/sysctl"],
    },
];

const PACKAGES: &[Package] = &[
    // The token of tests and of the default installation.
    Package {
        name: "softhsm2",
        probe: &["/usr/bin/softhsm2-util"],
    },
    // Sets up the network of a cluster's namespace.
    Package {
        name: "iproute2",
        probe: &["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"],
    },
    // `unshare`, `nsenter` and `setsid`.
    Package {
        name: "util-linux",
        probe: &["/usr/bin/nsenter"],
    },
    // Shows that an acknowledged write was synced before.
    Package {
        name: "strace",
        probe: &["/usr/bin/strace"],
    },
    // The commands of the how-to, which a test runs.
    Package {
        name: "curl",
        probe: &["/usr/bin/curl"],
    },
    Package {
        name: "openssl",
        probe: &["/usr/bin/openssl"],
    },
    // Shows what a program needs of the machine.
    Package {
        name: "binutils",
        probe: &["/usr/bin/readelf"],
    },
    // Runs the independent decoder of the message format.
    Package {
        name: "python3",
        probe: &["/usr/bin/python3"],
    },
    // Is the other program that cannot write to an open store.
    Package {
        name: "sqlite3",
        probe: &["/usr/bin/sqlite3"],
    },
    // Makes the small disks of the tests.
    Package {
        name: "e2fsprogs",
        probe: &["/usr/sbin/mkfs.ext4", "/sbin/mkfs.ext4"],
    },
];

impl Package {
    fn is_installed(&self) -> bool {
        self.probe.iter().any(|path| Path::new(path).exists())
    }
}

/// Makes sure that every package is there that is needed without nodes.
///
/// # Errors
/// Fails with the command to run when we are not root, or when `apt-get` fails.
pub fn ensure_installed() -> Result<()> {
    ensure(PACKAGES)
}

/// Makes sure that every package is there that nodes need.
///
/// # Errors
/// As [`ensure_installed`].
pub fn ensure_installed_for_nodes() -> Result<()> {
    ensure(NODE_PACKAGES)
}

fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !package.is_installed())
        .map(|p| p.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !rustix::process::getuid().is_root() {
        bail!(
            "missing Debian packages; run this and try again:\n  \
             sudo apt-get install --no-install-recommends --yes {list}"
        );
    }
    progress::step(&format!("installing Debian packages: {list}"), || {
        install(&missing)
    })
}

/// Installs from the lists at hand first, and fetches new lists only when that fails.
fn install(names: &[&str]) -> Result<()> {
    if apt(&install_arguments(names))? {
        return Ok(());
    }
    update_lists()?;
    ensure!(
        apt(&install_arguments(names))?,
        "`apt-get install` failed; its output is above"
    );
    Ok(())
}

/// Fetches apt's lists of packages.
pub(crate) fn update_lists() -> Result<()> {
    ensure!(
        apt(&["update"])?,
        "`apt-get update` failed; its output is above"
    );
    Ok(())
}

fn install_arguments<'a>(names: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["install", "--no-install-recommends", "--yes"];
    arguments.extend(names);
    arguments
}

fn apt(arguments: &[&str]) -> Result<bool> {
    let status = Command::new("apt-get")
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(std::io::stderr())
        .status()?;
    Ok(status.success())
}
