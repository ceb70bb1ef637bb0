//! The commands of the how-to for secrets in pods, as they stand on the page, on a node that really runs.
#![forbid(unsafe_code)]

use std::{env, ffi::OsString, path::PathBuf};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::page;
use strongroom_hack::{
    charts,
    cluster::{Options, ScopedCluster},
    image, paths,
    programs::{Build, Programs},
};

const PAGE: &str = include_str!("../../docs/how-to/secrets-in-pods.md");

#[test]
fn commands_of_the_how_to_bring_a_secret_into_a_pod() -> Result<()> {
    let reader = Reader::start()?;
    let mut said = String::new();
    for section in 1..=5 {
        said = reader.run(&page::blocks(PAGE, section)?.join("\n"))?;
    }
    ensure!(said.contains("version 2 of the password"), "{said}");
    Ok(())
}

/// Somebody with a shell in the checkout and the rights of the cluster's administrator.
struct Reader {
    cluster: ScopedCluster,
    path: OsString,
}

impl Reader {
    fn start() -> Result<Self> {
        let images = image::write(&paths::cache()?.join("images"), Build::Image)?;
        let cluster = ScopedCluster::up(Options::new("e2e-howto-pods".parse()?).with_nodes(1, 1)?)?;
        for image in &images.images {
            cluster.load_image(&image.archive)?;
        }
        let path = path(&cluster)?;
        Ok(Self { cluster, path })
    }

    fn run(&self, commands: &str) -> Result<String> {
        let mut command = self.cluster.administrator_command("sh");
        command
            .args(["-euc", commands])
            .current_dir(paths::checkout())
            .env("PATH", &self.path)
            // Not the settings of whoever runs the tests.
            .env("HOME", self.cluster.layout().root());
        let output = command.output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{commands}\n{said}{error}");
        Ok(said)
    }
}

fn path(cluster: &ScopedCluster) -> Result<OsString> {
    let mut folders: Vec<PathBuf> = cluster
        .client_folders()
        .into_iter()
        .map(Into::into)
        .collect();
    let helm = charts::helm()?;
    folders.push(helm.parent().context("a folder")?.to_owned());
    folders.push(Programs::ensure_built(Build::Plain)?.folder().to_owned());
    let known = env::var_os("PATH").unwrap_or_default();
    folders.extend(env::split_paths(&known));
    Ok(env::join_paths(folders)?)
}
