//! Counts what passed and what failed, over steps of our own and over the tests that `cargo test` runs, so
//! that the last line of `cargo xtask test` is one sum.

use std::fmt;
use std::ops::AddAssign;

/// How many checks passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that held.
    pub passed: u32,
    /// Checks that did not hold.
    pub failed: u32,
}

impl Tally {
    /// One check that held.
    pub const PASSED: Self = Self {
        passed: 1,
        failed: 0,
    };

    /// One check that did not hold.
    pub const FAILED: Self = Self {
        passed: 0,
        failed: 1,
    };

    /// Reads the summary that libtest prints for each test binary; other lines give `None`.
    pub fn of_libtest_line(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("test result: ")?;
        let mut words = rest.split_whitespace().skip(1);
        let passed = words.next()?.parse().ok()?;
        let failed = words.nth(1)?.parse().ok()?;
        Some(Self { passed, failed })
    }

    /// Tells whether nothing failed.
    pub fn is_clean(self) -> bool {
        self.failed == 0
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_libtest_are_read_and_other_lines_are_not() {
        let check =
            |line: &str, expected| assert_eq!(Tally::of_libtest_line(line), expected, "{line}");
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s",
            Some(Tally {
                passed: 12,
                failed: 0,
            }),
        );
        check(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            Some(Tally {
                passed: 3,
                failed: 2,
            }),
        );
        check("test result_is_kept ... ok", None);
        check("running 3 tests", None);
    }

    #[test]
    fn sum_is_written_as_one_line() {
        let mut sum = Tally::PASSED;
        sum += Tally {
            passed: 2,
            failed: 1,
        };
        sum += Tally::FAILED;
        assert_eq!(sum.to_string(), "3 passed, 2 failed");
        assert!(!sum.is_clean());
    }
}
