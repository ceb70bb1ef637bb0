//! How many descriptors the process may have. Whoever listens for strangers bounds its connections by it, so that they never
//! take the last one from those who must be served.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than all our listeners together take.
const WANTED: u64 = 16_384;
/// What a process has where nobody says anything.
const USUAL: u32 = 1024;

/// Raises the soft limit as far as it may and is worth it, and returns what it is then.
///
/// Not for a process that loads foreign modules: one that calls `select` breaks beyond 1024.
pub fn raise() -> u32 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let possible = maximum.unwrap_or(u64::MAX).min(WANTED);
    let raised = current.is_some_and(|current| current < possible)
        && setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(possible),
                maximum,
            },
        )
        .is_ok();
    let now = if raised { Some(possible) } else { current };
    // None stands for no limit at all.
    now.map_or(u32::MAX, |now| u32::try_from(now).unwrap_or(USUAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_never_lowered() {
        let before = getrlimit(Resource::Nofile).current;
        let raised = raise();
        let after = getrlimit(Resource::Nofile).current;
        assert_eq!(after.map(|limit| limit.min(u64::from(u32::MAX))), after);
        assert_eq!(after.unwrap_or(u64::from(u32::MAX)), u64::from(raised));
        assert!(after.is_none() || after >= before);
    }
}
