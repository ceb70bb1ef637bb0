//! The images that every node has from the start, made out of files: no registry is asked for anything.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{self, SHA256};
use serde_json::json;

use super::super::layout::Layout;
use super::Node;
use crate::paths;
use crate::run::run_quietly;

/// The image of the container that holds a pod's namespaces.
pub const PAUSE: &str = "strongroom.dev/pause:1";

/// A shell with the usual small programs, for pods of tests: `sh`, `cat`, `wget`, `nslookup`, `httpd`, `nc`.
pub const BUSYBOX: &str = "strongroom.dev/busybox:1";

/// Debian's static build.
const BUSYBOX_PROGRAM: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];

/// Writes the archives of both images into the cluster's folder.
pub(in super::super) fn write(layout: &Layout) -> Result<()> {
    pack(layout, "pause", PAUSE, "/pause", build_pause)?;
    pack(layout, "busybox", BUSYBOX, "/bin/sh", install_busybox)
}

/// Loads them into a node that does not have them.
pub(super) fn load(node: &Node<'_>) -> Result<()> {
    let present = node.ctr(&["images", "list", "--quiet"])?;
    for (name, reference) in [("pause", PAUSE), ("busybox", BUSYBOX)] {
        if !present.lines().any(|line| line == reference) {
            node.load_image(&node.layout().image(&format!("{name}.tar")))?;
        }
    }
    Ok(())
}

/// Compiles a static program: the image holds nothing else.
fn build_pause(folder: &Path) -> Result<()> {
    run_quietly(
        Command::new("rustc")
            .current_dir(paths::checkout())
            .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort"])
            .args(["-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
            .arg(folder.join("pause"))
            .arg("hack/tools/pause/pause.rs"),
    )
    .map(drop)
}

fn install_busybox(folder: &Path) -> Result<()> {
    let mut found = BUSYBOX_PROGRAM
        .iter()
        .filter(|path| Path::new(path).exists());
    let program = found.next().context("busybox is not installed")?;
    let bin = folder.join("bin");
    fs::create_dir(&bin)?;
    fs::copy(program, bin.join("busybox"))?;
    let names = run_quietly(Command::new(program).arg("--list"))?;
    for name in String::from_utf8(names)?.lines() {
        if name != "busybox" {
            symlink("busybox", bin.join(name))?;
        }
    }
    fs::create_dir(folder.join("tmp"))?;
    Ok(())
}

/// Makes an archive in the form that `docker save` writes, with one layer.
fn pack(
    layout: &Layout,
    name: &str,
    reference: &str,
    entrypoint: &str,
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let folder = layout.image(name);
    let files = folder.join("files");
    fs::create_dir_all(&files)?;
    fill(&files)?;
    tar(&files, &folder.join("layer.tar"), ".")?;
    let layer = sha256(&fs::read(folder.join("layer.tar"))?);
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {"Entrypoint": [entrypoint]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    })
    .to_string();
    let config_file = format!("{}.json", sha256(config.as_bytes()));
    fs::write(folder.join(&config_file), config)?;
    let manifest = json!([{
        "Config": config_file, "RepoTags": [reference], "Layers": ["layer.tar"],
    }]);
    fs::write(folder.join("manifest.json"), manifest.to_string())?;
    fs::remove_dir_all(&files)?;
    tar(&folder, &layout.image(&format!("{name}.tar")), ".")
}

fn tar(folder: &Path, archive: &Path, what: &str) -> Result<()> {
    run_quietly(
        Command::new("tar")
            .args(["--create", "--sort=name", "--owner=0", "--group=0"])
            .args(["--numeric-owner", "--mtime=@0", "--transform=s,^\\./,,"])
            .arg("--file")
            .arg(archive)
            .arg("--directory")
            .arg(folder)
            .arg(what),
    )
    .map(drop)
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&SHA256, bytes))
}
