//! The images of our programs: what is in them, that they run by themselves, and that they are always the same.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_hack::{
    image::{self, Layer, Subject},
    installation::{AGENT_UID, Program},
    programs::{Build, Programs},
};
use tempfile::TempDir;

/// Built once for all tests of this file.
fn programs() -> &'static Programs {
    static PROGRAMS: OnceLock<Programs> = OnceLock::new();
    PROGRAMS.get_or_init(|| Programs::ensure_built(Build::Image).expect("the programs compile"))
}

fn listing(layers: &[Layer]) -> String {
    layers.iter().map(Layer::listing).collect()
}

#[test]
fn static_images_hold_a_program_and_its_licence() -> Result<()> {
    for subject in [
        Subject::from(Program::KeyService),
        Subject::from(Program::KmsPlugin),
        Subject::Operator,
    ] {
        let name = subject.name();
        assert_eq!(
            listing(&image::layers(subject, programs())?),
            format!(
                "0755 usr/\n0755 usr/bin/\n0755 usr/bin/{name}\n0755 usr/share/\n0755 usr/share/doc/\n\
                 0755 usr/share/doc/strongroom/\n0644 usr/share/doc/strongroom/LICENSE\n"
            )
        );
    }
    Ok(())
}

#[test]
fn drivers_image_holds_a_folder_for_its_self_test_too() -> Result<()> {
    assert_eq!(
        listing(&image::layers(Subject::CsiDriver, programs())?),
        "0755 run/\n0700 run/strongroom-csi/\n0755 usr/\n0755 usr/bin/\n0755 usr/bin/csi-driver\n0755 usr/share/\n\
         0755 usr/share/doc/\n0755 usr/share/doc/strongroom/\n0644 usr/share/doc/strongroom/LICENSE\n"
    );
    Ok(())
}

#[test]
fn hsm_agents_image_holds_libraries_and_one_program() -> Result<()> {
    let listing = listing(&image::layers(Program::HsmAgent, programs())?);
    let programs: Vec<&str> = listing
        .lines()
        .filter(|line| line.contains("bin/") && !line.ends_with('/'))
        .collect();
    assert_eq!(programs, ["0755 usr/bin/hsm-agent"]);
    for needed in [
        "usr/lib/softhsm/libsofthsm2.so -> ",
        "libcrypto.so.3",
        "libstdc++.so.6",
        "usr/share/doc/libsofthsm2/copyright",
        "var/lib/dpkg/status.d/libssl3\n",
        "etc/os-release -> ",
    ] {
        assert!(listing.contains(needed), "{needed} is not in\n{listing}");
    }
    Ok(())
}

#[test]
fn same_programs_are_the_same_archives() -> Result<()> {
    let folders = [tempfile::tempdir()?, tempfile::tempdir()?];
    for folder in &folders {
        let written = image::write(folder.path(), Build::Image)?;
        assert_eq!(written.images.len(), 5);
    }
    let mut names: Vec<_> = fs::read_dir(folders[0].path())?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<Result<_>>()?;
    names.sort();
    assert_eq!(
        names,
        [
            "csi-driver.tar",
            "hsm-agent.tar",
            "key-service.tar",
            "kms-plugin.tar",
            "kubectl-strongroom",
            "operator.tar"
        ]
    );
    for name in names {
        let [one, other] = [&folders[0], &folders[1]].map(|f| fs::read(f.path().join(&name)));
        assert!(one? == other?, "{name:?} differs");
    }
    Ok(())
}

#[test]
fn static_programs_need_nothing_of_the_machine() -> Result<()> {
    for program in [
        programs().key_service(),
        programs().kms_plugin(),
        programs().csi_driver(),
        programs().operator(),
        programs().kubectl_strongroom(),
    ] {
        let read = |what: &str| -> Result<String> {
            let output = Command::new("readelf")
                .args(["--wide", what])
                .arg(&program)
                .output()?;
            ensure!(output.status.success(), "readelf failed");
            Ok(String::from_utf8(output.stdout)?)
        };
        assert!(!read("--segments")?.contains("INTERP"), "{program:?}");
        assert!(!read("--dynamic")?.contains("NEEDED"), "{program:?}");
        assert!(!read("--sections")?.contains(".symtab"), "{program:?}");
    }
    Ok(())
}

#[test]
fn programs_do_not_name_the_machine_that_built_them() -> Result<()> {
    let home = std::env::var("HOME")?;
    let target = programs().folder().ancestors().nth(2);
    let target = target.and_then(Path::to_str).context("a target folder")?;
    let checkout = strongroom_hack::paths::checkout();
    let checkout = checkout.to_str().context("a checkout")?;
    for entry in fs::read_dir(programs().folder())? {
        let path = entry?.path();
        let program = fs::read(&path)?;
        for place in [&format!("{home}/.cargo"), target, checkout] {
            let found = program
                .windows(place.len())
                .position(|window| window == place.as_bytes());
            let context = found.map(|at| {
                String::from_utf8_lossy(&program[at..(at + 120).min(program.len())]).into_owned()
            });
            assert_eq!(context, None, "{path:?} names {place}");
        }
    }
    Ok(())
}

/// An archive as a container runtime unpacks it.
struct Unpacked {
    folder: TempDir,
    config: Value,
}

impl Unpacked {
    fn of(archive: &Path) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (files, root) = (folder.path().join("files"), folder.path().join("root"));
        for path in [&files, &root] {
            fs::create_dir(path)?;
        }
        untar(archive, &files)?;
        let manifest: Value = serde_json::from_slice(&fs::read(files.join("manifest.json"))?)?;
        let name = |value: &Value| -> Result<PathBuf> {
            Ok(files.join(value.as_str().context("a name")?))
        };
        for layer in manifest[0]["Layers"].as_array().context("layers")? {
            untar(&name(layer)?, &root)?;
        }
        let config = fs::read(name(&manifest[0]["Config"])?)?;
        Ok(Self {
            folder,
            config: serde_json::from_slice(&config)?,
        })
    }

    /// Runs a script in namespaces of its own, in which `$ROOT` is the image, read-only, with `/proc` and the agent's
    /// folders. Nothing outside is reachable.
    fn run(&self, arguments: &str) -> Result<Output> {
        let script = format!(
            "set -eu; mount --bind \"$ROOT\" \"$ROOT\"; mount -t proc proc \"$ROOT/proc\"; \
             mount --bind \"$DATA\" \"$ROOT/run\"; mount -o remount,bind,ro \"$ROOT\"; \
             exec chroot --userspec={AGENT_UID}:{AGENT_UID} --groups= \"$ROOT\" /usr/bin/hsm-agent {arguments}"
        );
        let data = self.folder.path().join("data");
        fs::create_dir_all(&data)?;
        fs::set_permissions(&data, fs::Permissions::from_mode(0o700))?;
        chown(&data, Some(AGENT_UID), Some(AGENT_UID))?;
        Ok(Command::new("unshare")
            .args(["--mount", "--net", "--pid", "--fork", "sh", "-c", &script])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("ROOT", self.folder.path().join("root"))
            .env("DATA", &data)
            .output()?)
    }
}

fn untar(archive: &Path, folder: &Path) -> Result<()> {
    let status = Command::new("tar")
        .args(["--extract", "--same-permissions", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(folder)
        .status()?;
    ensure!(status.success(), "tar cannot read {archive:?}");
    Ok(())
}

#[test]
fn hsm_agent_makes_a_token_in_its_image_without_network() -> Result<()> {
    let folder = tempfile::tempdir()?;
    image::write(folder.path(), Build::Image)?;
    let image = Unpacked::of(&folder.path().join("hsm-agent.tar"))?;
    assert_eq!(image.config["config"]["User"], "2003:2003");
    assert_eq!(
        image.config["config"]["Entrypoint"],
        serde_json::json!(["/usr/bin/hsm-agent"])
    );

    let version = image.run("--version")?;
    assert_eq!(
        said(&version),
        format!("hsm-agent {}\n", env!("CARGO_PKG_VERSION"))
    );

    // The sample's paths but for the data folder, which is the only one that can be written.
    let sample =
        fs::read_to_string(strongroom_hack::paths::checkout().join("config/hsm-agent.yaml"))?;
    let config = image.folder.path().join("data/config.yaml");
    fs::write(
        &config,
        sample.replace("dataDir: /var/lib/strongroom/hsm-agent", "dataDir: /run"),
    )?;
    let init = image.run("init --config /run/config.yaml")?;
    ensure!(init.status.success(), "{}", said(&init));
    let made: Vec<_> = fs::read_dir(image.folder.path().join("data/tokens"))?.collect();
    assert_eq!(made.len(), 1);
    Ok(())
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}
