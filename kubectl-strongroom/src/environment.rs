//! What a command takes from the process it runs in; tests bring their own.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use jiff::Timestamp;

/// How often `--wait` looks.
const POLL_INTERVAL: Duration = Duration::from_secs(3);

/// Places, programs and time.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The user's home folder.
    pub home: Option<PathBuf>,
    /// The configuration that counts when the user has none.
    pub system_config: PathBuf,
    /// The kubeconfigs that count when the command line names none, as `KUBECONFIG` lists them.
    pub kubeconfig: Option<OsString>,
    /// The kubectl that reaches the API servers.
    pub kubectl: PathBuf,
    /// How long `--wait` pauses between two looks.
    pub poll_interval: Duration,
    /// What `bootstrap` takes for the root of the file system.
    pub root: PathBuf,
    /// This program, to be run as another user.
    pub program: PathBuf,
    /// The wall clock, for ages.
    pub now: fn() -> Timestamp,
}

impl Environment {
    /// Reads `HOME` and `KUBECONFIG`; everything else is fixed.
    pub fn of_process() -> Self {
        Self {
            home: std::env::var_os("HOME")
                .filter(|home| !home.is_empty())
                .map(PathBuf::from),
            system_config: PathBuf::from("/etc/strongroom/cli.yaml"),
            kubeconfig: std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty()),
            kubectl: PathBuf::from("kubectl"),
            poll_interval: POLL_INTERVAL,
            root: PathBuf::from("/"),
            // Also where another user could not find it by its name.
            program: PathBuf::from("/proc/self/exe"),
            now: Timestamp::now,
        }
    }
}
