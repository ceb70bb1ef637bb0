//! What `cargo xtask check`, `test` and `test-long` run. A step that fails does not stop those after it, so
//! that one run shows everything; the last line is the sum.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::run::{cargo, run, run_and_see};
use crate::tally::Tally;
use crate::{cluster, deny, packages, progress, report, tools};

/// Packages whose tests need nothing but the compiler: no token, no cluster, no disk to speak of.
const QUICK: &[&str] = &["core", "crypto", "api", "audit", "auth", "hack"];

/// The package of the stories, which need root and a cluster.
const STORIES: &str = "strongroom-e2e";

/// Stories wait on timers of the API server, which must not starve.
const STORIES_AT_ONCE: &str = "--test-threads=2";

/// Runs the quick part: formatting, lints, dependencies, tidiness, tests of the pure packages.
pub fn quick() -> Tally {
    let mut checks = Checks::default();
    checks.style();
    let mut tests = cargo_test();
    for package in QUICK {
        tests.arg("--package").arg(format!("strongroom-{package}"));
    }
    checks.tests("tests of the pure packages", &mut tests);
    checks.finish()
}

/// Runs everything that takes minutes.
pub fn whole() -> Tally {
    let mut checks = Checks::default();
    if !checks.step("preparation", prepare) {
        return checks.finish();
    }
    checks.style();
    // With all features the kills at fault points run too.
    let mut tests = cargo_test();
    tests.args(["--workspace", "--exclude", STORIES, "--all-features"]);
    checks.tests("tests", &mut tests);
    let mut stories = cargo_test();
    stories.args(["--package", STORIES, "--", STORIES_AT_ONCE]);
    checks.tests("stories on a cluster", &mut stories);
    checks.step("nothing is left behind", nothing_is_left);
    checks.finish()
}

/// Runs what takes hours and writes its figures to `docs/reports`.
pub fn long() -> Tally {
    let mut checks = Checks::default();
    if !checks.step("preparation", prepare) {
        return checks.finish();
    }
    let mut stories = cargo_test();
    stories.args([
        "--package",
        STORIES,
        "--features",
        "long",
        "--test",
        "long*",
    ]);
    stories.args(["--", "--test-threads=1", "--nocapture"]);
    let mut lines = Vec::new();
    checks.tests_seen("long stories", &mut stories, |line| {
        lines.push(line.to_owned())
    });
    let tally = checks.tally;
    checks.step("report", || report::write(&lines, tally));
    checks.step("nothing is left behind", nothing_is_left);
    checks.finish()
}

/// Installs packages and builds tools that are missing.
///
/// # Errors
/// Fails with the command to run when a package is missing and we are not root.
pub fn prepare() -> Result<()> {
    packages::ensure_installed()?;
    packages::ensure_installed_for_nodes()?;
    tools::ensure_all_built()?;
    deny::ensure_installed().map(drop)
}

fn cargo_test() -> Command {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-fail-fast"]);
    command
}

/// Stories name their clusters `e2e-…` and end them, whatever happens in between.
fn nothing_is_left() -> Result<()> {
    let mut left = cluster::names()?;
    left.retain(|name| name.to_string().starts_with("e2e-"));
    for name in &left {
        cluster::down(name)?;
    }
    let names: Vec<String> = left.iter().map(ToString::to_string).collect();
    ensure!(
        left.is_empty(),
        "these clusters were left behind and are now ended: {}",
        names.join(" ")
    );
    Ok(())
}

/// The checks that have run.
#[derive(Debug, Default)]
struct Checks {
    tally: Tally,
    failed: Vec<String>,
}

impl Checks {
    fn style(&mut self) {
        self.step("formatting", || {
            run(cargo().args(["fmt", "--all", "--check"]))
        });
        self.step("lints", || {
            run(cargo()
                .args([
                    "clippy",
                    "--locked",
                    "--workspace",
                    "--all-targets",
                    "--all-features",
                ])
                .args(["--", "--deny", "warnings"]))
        });
        self.step("licences, bans and sources", deny::check);
    }

    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> bool {
        let result = progress::step(name, work);
        if let Err(error) = &result {
            progress::say(format_args!("{name}: {error:#}"));
            self.failed.push(name.to_owned());
        }
        self.tally += if result.is_ok() {
            Tally::PASSED
        } else {
            Tally::FAILED
        };
        result.is_ok()
    }

    fn tests(&mut self, name: &str, command: &mut Command) {
        self.tests_seen(name, command, |_| ());
    }

    fn tests_seen(&mut self, name: &str, command: &mut Command, mut see: impl FnMut(&str)) {
        let mut tally = Tally::default();
        let result = progress::step(name, || {
            let clean = run_and_see(command, |line| {
                tally += Tally::of_libtest_line(line).unwrap_or_default();
                see(line);
            })?;
            ensure!(clean, "failed");
            Ok(())
        });
        // What does not compile, or ends without its summary, has no count of its own.
        if result.is_err() && tally.is_clean() {
            tally += Tally::FAILED;
        }
        if !tally.is_clean() {
            self.failed.push(name.to_owned());
        }
        self.tally += tally;
    }

    /// Prints the sum, as the last line.
    fn finish(self) -> Tally {
        for name in &self.failed {
            progress::say(format_args!("failed: {name}"));
        }
        println!("{}", self.tally);
        self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn summaries_of_all_test_binaries_are_added() {
        let mut checks = Checks::default();
        let summary = "test result: ok. 2 passed; 0 failed; 0 ignored";
        checks.tests(
            "two",
            &mut shell(&format!("echo '{summary}'; echo other; echo '{summary}'")),
        );
        checks.step("one", || Ok(()));
        assert_eq!(
            checks.finish(),
            Tally {
                passed: 5,
                failed: 0
            }
        );
    }

    #[test]
    fn tests_that_do_not_compile_count_as_one_failure() {
        let mut checks = Checks::default();
        checks.tests("broken", &mut shell("exit 101"));
        assert_eq!(checks.failed, ["broken"]);
        assert_eq!(
            checks.finish(),
            Tally {
                passed: 0,
                failed: 1
            }
        );
    }

    #[test]
    fn failed_test_is_counted_once() {
        let mut checks = Checks::default();
        let script = "echo 'test result: FAILED. 1 passed; 1 failed; 0 ignored'; exit 101";
        checks.tests("red", &mut shell(script));
        assert_eq!(
            checks.finish(),
            Tally {
                passed: 1,
                failed: 1
            }
        );
    }
}
