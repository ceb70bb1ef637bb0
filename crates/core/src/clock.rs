//! Time as a port: decisions take a time, processes take a `Clock`, tests turn it.

use std::{fmt, time::Duration};

/// A moment, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(i64);

impl UnixMillis {
    /// The moment that many milliseconds after 1970 began.
    #[must_use]
    pub const fn new(milliseconds: i64) -> Self {
        Self(milliseconds)
    }

    /// Milliseconds since 1970 began.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The moment `later` after this one; the last representable one when it would overflow.
    #[must_use]
    pub fn plus(self, later: Duration) -> Self {
        let milliseconds = i64::try_from(later.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(milliseconds))
    }

    /// The moment `earlier` before this one; the first representable one when it would overflow.
    #[must_use]
    pub fn minus(self, earlier: Duration) -> Self {
        let milliseconds = i64::try_from(earlier.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(milliseconds))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let milliseconds = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
    }

    /// How far this moment and the other lie apart, whichever is the later.
    #[must_use]
    pub fn apart(self, other: Self) -> Duration {
        Duration::from_millis(self.0.abs_diff(other.0))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What time it is.
///
/// # Guarantees
/// `elapsed` never goes backwards and counts the time in which the machine was suspended. `now` may jump in both
/// directions: it is for records and schedules, never for measuring.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn now(&self) -> UnixMillis;

    /// Time since an arbitrary fixed moment of this boot.
    fn elapsed(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_that_went_backwards_gives_zero() {
        assert_eq!(UnixMillis::new(5).since(UnixMillis::new(9)), Duration::ZERO);
        assert_eq!(
            UnixMillis::new(9).since(UnixMillis::new(5)),
            Duration::from_millis(4)
        );
    }

    #[test]
    fn two_moments_are_equally_far_apart_seen_from_either() {
        let (earlier, later) = (UnixMillis::new(-5), UnixMillis::new(9));
        assert_eq!(earlier.apart(later), Duration::from_millis(14));
        assert_eq!(later.apart(earlier), Duration::from_millis(14));
    }

    #[test]
    fn far_future_saturates() {
        assert_eq!(
            UnixMillis::new(1).plus(Duration::MAX),
            UnixMillis::new(i64::MAX)
        );
    }
}
