//! Images that are built twice, in different places, are the same bytes. Takes a build of everything from nothing.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_hack::{image, paths, programs::Build};

#[test]
fn images_from_another_folder_and_target_are_equal() -> Result<()> {
    let here = tempfile::tempdir()?;
    image::write(here.path(), Build::Image)?;

    let elsewhere = tempfile::tempdir()?;
    let (checkout, there) = (
        elsewhere.path().join("another name"),
        elsewhere.path().join("images"),
    );
    copy_checkout(&checkout)?;
    let start = Instant::now();
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--locked", "--package", "strongroom-hack"])
        .args(["--", "image", "--out"])
        .arg(&there)
        .current_dir(&checkout)
        .env("CARGO_TARGET_DIR", elsewhere.path().join("target"))
        .stdout(Stdio::null())
        .status()?;
    ensure!(status.success(), "the copy does not build");
    println!("report: images from nothing: {:.0?}", start.elapsed());

    for name in ["hsm-agent", "key-service", "kms-plugin"] {
        let layers = |folder: &Path| layers(&folder.join(name).with_extension("tar"));
        assert_eq!(layers(here.path())?, layers(&there)?, "{name}");
    }
    let program = |folder: &Path| fs::read(folder.join("kubectl-strongroom"));
    assert!(program(here.path())? == program(&there)?);
    Ok(())
}

/// Copies what belongs to the repository, as it is in the checkout.
fn copy_checkout(to: &Path) -> Result<()> {
    let output = Command::new("git")
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(paths::checkout())
        .output()?;
    ensure!(output.status.success(), "git lists no files");
    for name in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let (source, target) = (paths::checkout().join(name), to.join(name));
        fs::create_dir_all(target.parent().context("a file has a folder")?)?;
        fs::copy(&source, &target).with_context(|| format!("cannot copy {source:?}"))?;
    }
    Ok(())
}

/// The layers of an archive by their digests: what labels say may differ, what is in the image may not.
fn layers(archive: &PathBuf) -> Result<Value> {
    let output = Command::new("tar")
        .args(["--extract", "--to-stdout", "--file=-", "manifest.json"])
        .stdin(File::open(archive)?)
        .output()?;
    let manifest: Value = serde_json::from_slice(&output.stdout)?;
    Ok(manifest[0]["Layers"].clone())
}
