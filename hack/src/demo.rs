//! The main jobs as a story on the terminal, on a cluster that really runs: secrets in pods, then etcd encrypted. What it
//! starts goes on running, to be looked at, until `demo-down`. The first act can be had on any cluster.

mod etcd;
mod place;
mod pods;
mod shell;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::{BUSYBOX, Cluster, Name, Options, Release};
use crate::installation::{Installation, Settings};
use crate::programs::{Build, Programs};
use crate::{cluster, image, packages, paths, progress};
use place::{Place, State};
use pods::Scene;
use shell::Shell;

/// The name that `make demo` uses.
pub const DEFAULT_NAME: &str = "demo";

/// Tells the story, or how to look around when it was told already.
///
/// # Errors
/// Fails when a step does not show what it should; the error names the logs.
pub fn up(name: Name, first_port: u16) -> Result<()> {
    let place = Place::new(name);
    match place.state()? {
        State::Running(summary) => {
            println!("The demo runs already.\n\n{summary}");
            return Ok(());
        }
        State::Starting(process) => bail!("a demo is being started by process {}", process.id()),
        State::Left => progress::step("removing what an earlier demo left", || place.remove())?,
        State::Absent => {}
    }
    packages::ensure_installed()?;
    cluster::prepare(Release::Newest)?;
    let programs = progress::step("programs", || Programs::ensure_built(Build::Plain))?;
    let images = image::write(&paths::cache()?.join("images"), Build::Image)?;

    place.create()?;
    let mut settings = Settings::new(place.root(), programs.folder(), first_port);
    settings.outlives = true;
    let told = Installation::lay_out(settings).and_then(|installation| {
        place.record_ourselves()?;
        let options = Options::new(place.name().clone()).with_nodes(1, 1)?;
        let cluster = Cluster::up(options)?;
        for image in &images.images {
            cluster.load_image(&image.archive)?;
        }
        place.write_commands(&cluster, &programs)?;
        println!("Strongroom, first act: a secret in a pod, rotated under it, by kubectl and helm.");
        first_act(&place).play()?;
        println!("\nSecond act: the Secrets of the same cluster, encrypted by a key that hangs on an HSM.");
        let summary = etcd::tell(&place, cluster, installation)?;
        place.finish(&summary)
    });
    told.with_context(|| {
        format!(
            "the demo ends here; its logs are in {} and {}, and `{}` removes everything",
            place.root().join("log").display(),
            place.cluster().root().join("log").display(),
            place.down_words()
        )
    })
}

fn first_act(place: &Place) -> Scene {
    Scene {
        shell: Shell::new(place.pods_environment()),
        folder: place.root().to_owned(),
        pod_image: BUSYBOX.to_owned(),
        values: Vec::new(),
    }
}

/// A cluster that somebody else runs, and what is needed to play the first act on it.
#[derive(Debug)]
pub struct Elsewhere {
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// What the names of our images begin with there.
    pub image_prefix: String,
    /// The image of the demo's pods: a shell, coreutils and tar.
    pub pod_image: String,
}

/// Plays the first act on a cluster that somebody else runs; says how to remove what it left.
///
/// # Errors
/// Without `kubectl` and `helm`, or when a step does not show what it should.
pub fn elsewhere(elsewhere: Elsewhere) -> Result<()> {
    for program in ["kubectl", "helm"] {
        ensure!(
            on_path(program),
            "`{program}` is not on PATH; install it and run this again"
        );
    }
    let Elsewhere {
        kubeconfig,
        image_prefix,
        pod_image,
    } = elsewhere;
    let kubeconfig = fs::canonicalize(&kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let programs = progress::step("programs", || Programs::ensure_built(Build::Plain))?;
    let folder = env::temp_dir().join(format!("strongroom-demo-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("cannot create {folder:?}"))?;
    let environment = folder.join("env");
    let bin = programs.folder();
    fs::write(
        &environment,
        environment_elsewhere(&folder, bin, &kubeconfig),
    )?;
    let scene = Scene {
        shell: Shell::new(environment),
        folder: folder.clone(),
        pod_image,
        values: vec![format!("--set image.prefix={image_prefix}")],
    };
    let played = scene.play();
    println!(
        "\n== What is left ==\n\nRemove it, with every key and secret:\n\n{}",
        pods::removal(&folder)
    );
    played
}

fn environment_elsewhere(folder: &Path, programs: &Path, kubeconfig: &Path) -> String {
    format!(
        "export PATH='{}':\"$PATH\"\nexport KUBECONFIG='{}'\ncd '{}'\n",
        programs.display(),
        kubeconfig.display(),
        folder.display()
    )
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Ends everything that the demo started and removes its folders. No demo is fine: the wish is fulfilled.
///
/// # Errors
/// Fails when a process or file cannot be removed.
pub fn down(name: Name) -> Result<()> {
    let place = Place::new(name);
    if !matches!(place.state()?, State::Absent) {
        place.remove()?;
    }
    progress::say("demo: nothing is left");
    Ok(())
}
