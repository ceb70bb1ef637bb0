//! Named places at which a test ends, delays or fails the process.
//!
//! They exist only with the feature `fault-points`; without it [`point!`] compiles to nothing, so a release has no
//! such switch. `FAILPOINTS="plugin.state.before-rename=kill"` is read at start; actions are those of the crate
//! `fail` (`sleep(ms)`, `3*off->kill`, …) and `kill`, which is SIGKILL to oneself, and `error`.
//!
//! A test also turns the clocks of such a build: `STRONGROOM_CLOCKS` names a file with two numbers of seconds, which may change
//! at any time: those that shall have passed beside the true ones, and those by which the wall clock is turned.

use std::time::Duration;

/// Marks a place: `point!("name")`, or `point!("name", Err(error))`, which returns the value when told `error`.
#[cfg(feature = "fault-points")]
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {
        let _ = $crate::fault::hit($name);
    };
    ($name:literal, $failure:expr) => {
        if $crate::fault::hit($name) {
            return $failure;
        }
    };
}

/// Marks a place for tests; this build has none.
#[cfg(not(feature = "fault-points"))]
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {};
    ($name:literal, $failure:expr) => {};
}

pub use crate::fault_point as point;

/// Does what the place is told; true when it is told to fail.
#[cfg(feature = "fault-points")]
#[doc(hidden)]
pub fn hit(name: &str) -> bool {
    fail::eval(name, |action| match action.as_deref() {
        Some("kill") => kill(),
        _ => true,
    })
    .unwrap_or(false)
}

#[cfg(feature = "fault-points")]
fn kill() -> ! {
    use rustix::process::{Signal, getpid, kill_process};
    let _ = kill_process(getpid(), Signal::KILL);
    // The signal ends every thread; this one only waits for it.
    loop {
        std::thread::park();
    }
}

/// Reads `FAILPOINTS`. A mistake in it ends the process, so that no test passes because its fault was not set.
#[cfg(feature = "fault-points")]
pub(crate) fn install() {
    let Ok(settings) = std::env::var("FAILPOINTS") else {
        return;
    };
    for setting in settings
        .split(';')
        .map(str::trim)
        .filter(|setting| !setting.is_empty())
    {
        let (name, actions) = setting
            .split_once('=')
            .expect("FAILPOINTS is name=actions;…");
        fail::cfg(name, &translate(actions)).expect("FAILPOINTS holds actions that are known");
        tracing::warn!(name, actions, "fault point set");
    }
}

/// Without the feature there is nothing to read.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn install() {}

/// What a test does to the clocks.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    /// The time that passed beside the true one, on both.
    pub(crate) skipped: Duration,
    /// What the wall clock was turned by.
    pub(crate) wall_seconds: i64,
}

/// How the clocks are turned now.
#[cfg(feature = "fault-points")]
pub(crate) fn clocks() -> Clocks {
    use std::{path::PathBuf, sync::LazyLock};
    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os("STRONGROOM_CLOCKS").map(PathBuf::from));
    let Some(file) = FILE.as_ref() else {
        return Clocks::default();
    };
    let text = std::fs::read_to_string(file).expect("the file of STRONGROOM_CLOCKS can be read");
    let (skipped, turned) = text.trim().split_once(' ').expect("it holds two numbers");
    Clocks {
        skipped: Duration::from_secs(skipped.parse().expect("the first is of seconds")),
        wall_seconds: turned.parse().expect("the second is of seconds"),
    }
}

/// A release has the machine's clocks alone.
#[cfg(not(feature = "fault-points"))]
pub(crate) fn clocks() -> Clocks {
    Clocks::default()
}

/// `kill` and `error` are ours; to the crate they are values to return.
#[cfg(feature = "fault-points")]
fn translate(actions: &str) -> String {
    actions
        .replace("kill", "return(kill)")
        .replace("error", "return(error)")
}

#[cfg(all(test, feature = "fault-points"))]
mod tests {
    use super::*;

    fn refused() -> Result<(), &'static str> {
        point!("runtime.test.error", Err("told to fail"));
        Ok(())
    }

    #[test]
    fn a_place_that_is_told_to_fail_returns_its_error() {
        assert_eq!(refused(), Ok(()));
        fail::cfg("runtime.test.error", &translate("1*error")).unwrap();
        assert_eq!(refused(), Err("told to fail"));
        assert_eq!(refused(), Ok(()));
    }

    #[test]
    fn actions_may_be_counted_and_chained() {
        assert_eq!(translate("3*off->kill"), "3*off->return(kill)");
    }
}
