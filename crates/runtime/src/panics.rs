//! A panic ends the process, at once and from whatever thread: what it left half done must not be served. The exception is
//! asked for by name, for work on hostile input that shares nothing with the rest.
//!
//! So the programs unwind and the hook ends them, where `panic = "abort"` would leave no exception.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind},
};

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Work that was contained has panicked; the log says where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the work panicked")]
pub struct Panicked;

/// Does something whose panic shall not end the process. What it has changed by then is the caller's to throw away.
///
/// A stack that overflows is no panic; whoever contains deep work gives it a thread with enough of it.
///
/// # Errors
///
/// When it panicked.
pub fn contain<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CONTAINED.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(before);
    outcome.map_err(|_| Panicked)
}

/// Installs the hook, once for each process.
pub(crate) fn install() {
    std::panic::set_hook(Box::new(|info| {
        log(info);
        if !CONTAINED.get() {
            std::process::abort();
        }
    }));
}

/// One line that holds no formatted message, because such messages can carry the values that were formatted.
fn log(info: &PanicHookInfo<'_>) {
    // A literal cannot hold a value; a `String` can.
    let literal = info.payload().downcast_ref::<&'static str>().copied();
    let location = info.location().map(ToString::to_string);
    tracing::error!(location, literal, "panicked");
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        os::unix::process::ExitStatusExt,
        process::{Command, ExitStatus},
    };

    use super::*;

    /// Says to a copy of the test program that it is the process that panics.
    const INSIDE: &str = "STRONGROOM_TEST_PANICS";

    /// Runs the test of this name again, in a process of its own.
    fn again(test: &str) -> ExitStatus {
        let mut copy = Command::new(env::current_exe().unwrap());
        copy.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        copy.output().unwrap().status
    }

    fn panic_with(value: &str) -> u8 {
        panic!("a value: {value}")
    }

    #[test]
    fn a_panic_ends_the_process_from_any_thread() {
        if env::var_os(INSIDE).is_some() {
            install();
            let _ = contain(|| ());
            let _ = std::thread::spawn(|| panic_with("x")).join();
            return;
        }
        let status = again("panics::tests::a_panic_ends_the_process_from_any_thread");
        assert_eq!(status.signal(), Some(6), "{status}");
    }

    #[test]
    fn a_contained_panic_is_told_to_who_asked() {
        if env::var_os(INSIDE).is_some() {
            install();
            assert_eq!(contain(|| panic_with("x")), Err(Panicked));
            assert_eq!(contain(|| contain(|| panic_with("y"))), Ok(Err(Panicked)));
            assert_eq!(contain(|| 7), Ok(7));
            return;
        }
        assert!(again("panics::tests::a_contained_panic_is_told_to_who_asked").success());
    }
}
