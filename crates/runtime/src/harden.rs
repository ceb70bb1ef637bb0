//! What a process gives up before it does anything: being dumped or traced, cores, new privileges.
//! It refuses to start in a user namespace, because there every peer on the host has the same uid.

use std::io;

use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::set_no_new_privs,
};

const UID_MAP: &str = "/proc/self/uid_map";

/// Why the process refused to start.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// The kernel refused one of the calls.
    #[error("cannot {what}")]
    Kernel {
        /// What was asked.
        what: &'static str,
        /// What the kernel answered.
        #[source]
        source: io::Error,
    },
    /// The process runs in a user namespace.
    #[error(
        "the process runs in a user namespace ({UID_MAP} is not the identity), where the uid of a peer \
         cannot be known; run it without one"
    )]
    UserNamespace,
}

/// Hardens the process.
pub(crate) fn harden() -> Result<(), HardenError> {
    check_uid_map()?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(kernel("forbid dumps"))?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(kernel("forbid core files"))?;
    set_no_new_privs(true).map_err(kernel("give up new privileges"))
}

fn kernel(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> HardenError {
    move |errno| HardenError::Kernel {
        what,
        source: errno.into(),
    }
}

fn check_uid_map() -> Result<(), HardenError> {
    let map = std::fs::read_to_string(UID_MAP).map_err(|source| HardenError::Kernel {
        what: "read the uid map",
        source,
    })?;
    if is_identity(&map) {
        Ok(())
    } else {
        Err(HardenError::UserNamespace)
    }
}

/// Tells whether a uid map is one line that maps every uid to itself.
fn is_identity(map: &str) -> bool {
    let words: Vec<&str> = map.split_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_identity_counts() {
        assert!(is_identity("         0          0 4294967295\n"));
        for other in [
            "",
            "0 0 1\n",
            "0 1000 4294967295\n",
            "0 0 65536\n65536 65536 1\n",
        ] {
            assert!(!is_identity(other), "{other:?}");
        }
    }
}
