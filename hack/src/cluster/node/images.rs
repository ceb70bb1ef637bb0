//! The images that every node has from the start, made out of files: no registry is asked for anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::super::control_plane::API_SERVER;
use super::super::layout::Layout;
use super::Node;
use crate::image::{Description, Layer, pack};
use crate::paths;
use crate::run::run_quietly;
use crate::tools::Module;

/// The image of the container that holds a pod's namespaces.
pub const PAUSE: &str = "strongroom.dev/pause:1";

/// A shell with the usual small programs, for pods of tests: `sh`, `cat`, `wget`, `nslookup`, `httpd`, `nc`.
pub const BUSYBOX: &str = "strongroom.dev/busybox:1";

/// Debian's static build.
const BUSYBOX_PROGRAM: [&str; 2] = ["/usr/bin/busybox", "/bin/busybox"];

/// Writes the archives of both images into the cluster's folder.
pub(in super::super) fn write(layout: &Layout) -> Result<()> {
    write_archive(layout, PAUSE, "/pause", pause(layout)?)?;
    write_archive(layout, BUSYBOX, "/bin/sh", busybox()?)
}

/// Loads them into a node that does not have them.
pub(super) fn load(node: &Node<'_>) -> Result<()> {
    let present = node.ctr(&["images", "list", "--quiet"])?;
    for reference in [PAUSE, BUSYBOX] {
        if !present.lines().any(|line| line == reference) {
            node.load_image(&archive(node.layout(), reference))?;
        }
    }
    Ok(())
}

/// The image of the API server, with the tag that Kubernetes gives it.
pub(super) fn api_server() -> Result<String> {
    let version = Module::Kubernetes.version()?;
    Ok(format!("strongroom.dev/{API_SERVER}:{version}"))
}

/// Makes the image of the API server out of the program that is there, and loads it.
pub(super) fn load_api_server(node: &Node<'_>) -> Result<()> {
    let (layout, reference) = (node.layout(), api_server()?);
    let program = fs::read(&node.cluster.tools.api_server)?;
    let layer = Layer::default().file(API_SERVER, 0o755, program);
    write_archive(layout, &reference, &format!("/{API_SERVER}"), layer)?;
    node.load_image(&archive(layout, &reference))
}

/// Compiles a static program: the image holds nothing else.
fn pause(layout: &Layout) -> Result<Layer> {
    let output = layout.image("pause");
    run_quietly(
        Command::new("rustc")
            .current_dir(paths::checkout())
            .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort"])
            .args(["-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"])
            .arg(&output)
            .arg("hack/tools/pause/pause.rs"),
    )?;
    Ok(Layer::default().file("pause", 0o755, fs::read(output)?))
}

/// One program with a link for each of its names.
fn busybox() -> Result<Layer> {
    let mut found = BUSYBOX_PROGRAM
        .iter()
        .filter(|path| Path::new(path).exists());
    let program = found.next().context("busybox is not installed")?;
    let names = run_quietly(Command::new(program).arg("--list"))?;
    let names = String::from_utf8(names)?;
    let layer = Layer::default().file("bin/busybox", 0o755, fs::read(program)?);
    let links = names.lines().filter(|name| *name != "busybox");
    Ok(links.fold(layer, |layer, name| {
        layer.link(&format!("bin/{name}"), "busybox")
    }))
}

fn write_archive(layout: &Layout, reference: &str, entrypoint: &str, layer: Layer) -> Result<()> {
    let description = Description {
        reference: reference.to_owned(),
        user: 0,
        entrypoint: entrypoint.to_owned(),
        labels: [].into(),
    };
    let packed = pack(&description, &[layer])?;
    fs::write(archive(layout, reference), packed.bytes)?;
    Ok(())
}

fn archive(layout: &Layout, reference: &str) -> PathBuf {
    let name = reference.replace(['/', ':'], "-");
    layout.image(&format!("{name}.tar"))
}
