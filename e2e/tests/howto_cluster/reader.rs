//! Somebody who reads a page and types its commands.

use std::{env, ffi::OsString, path::PathBuf};

use anyhow::{Context, Result, ensure};
use strongroom_hack::{
    charts,
    cluster::{Options, ScopedCluster},
    image, paths,
    programs::{Build, Programs},
};

/// What commands printed, and how they ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

/// Somebody with a shell in the checkout and the rights of the cluster's administrator.
pub(crate) struct Reader {
    cluster: ScopedCluster,
    path: OsString,
}

impl Reader {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let images = image::write(&paths::cache()?.join("images"), Build::Image)?;
        let cluster = ScopedCluster::up(Options::new(name.parse()?).with_nodes(1, 1)?)?;
        for image in &images.images {
            cluster.load_image(&image.archive)?;
        }
        let path = path(&cluster)?;
        Ok(Self { cluster, path })
    }

    /// Runs commands that have to succeed, and returns what they print.
    pub(crate) fn run(&self, commands: &str) -> Result<String> {
        let Said { code, out, error } = self.try_to(commands)?;
        ensure!(code == Some(0), "{commands}\n{out}{error}");
        Ok(out)
    }

    /// Runs commands, however they end.
    pub(crate) fn try_to(&self, commands: &str) -> Result<Said> {
        let mut command = self.cluster.administrator_command("sh");
        command
            .args(["-euc", commands])
            .current_dir(paths::checkout())
            .env("PATH", &self.path)
            // Not the settings of whoever runs the tests.
            .env("HOME", self.cluster.layout().root());
        let output = command.output()?;
        Ok(Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// kubectl, helm and the plugin, before what the machine has.
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
