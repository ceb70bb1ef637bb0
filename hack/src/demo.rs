//! The main job as a story on the terminal: etcd encrypted on a control plane that really runs. What it
//! starts goes on running, to be looked at, until `demo-down`.

mod place;
mod shell;
mod story;

use anyhow::{Context, Result, bail};

use crate::cluster::{Name, Release};
use crate::installation::{Installation, Settings};
use crate::programs::{Build, Programs};
use crate::{cluster, packages, progress};
use place::{Place, State};

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

    place.create()?;
    let mut settings = Settings::new(place.root(), programs.folder(), first_port);
    settings.outlives = true;
    let told = Installation::lay_out(settings).and_then(|installation| {
        place.record_ourselves()?;
        let summary = story::tell(&place, &programs, installation)?;
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
