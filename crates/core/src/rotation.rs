//! Rotation as a decision: the last version, the schedule and the time in, the next moment out. Nothing is touched.
//!
//! A missed moment is made up for once, however many have passed: the next one counts from the version that was made.

mod request;
mod window;

use std::{fmt, time::Duration};

use jiff::SignedDuration;
pub use request::{HandledRequest, HandledRequests, InvalidRequestId, REQUESTS_KEPT, RequestId};
pub use window::{RotationWindow, WINDOW_DURATION_MAX, WINDOW_DURATION_MIN, WindowError};

use crate::UnixMillis;

/// Shortest period.
pub const ROTATION_PERIOD_MIN: Duration = Duration::from_secs(3600);
/// Longest period.
pub const ROTATION_PERIOD_MAX: Duration = Duration::from_secs(3650 * 24 * 3600);
const MINUTE_MILLIS: i64 = 60_000;

/// When new versions are made. Whatever has none is rotated by request only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RotationSchedule {
    period: Duration,
    window: Option<RotationWindow>,
}

/// The period is too short or too long. The caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rotation period is between 1h and 87600h (3650 days)")]
pub struct InvalidPeriod;

impl RotationSchedule {
    /// A rotation whenever the newest version is as old as the period, within a window or at any time.
    ///
    /// # Errors
    /// `InvalidPeriod`.
    pub fn new(period: Duration, window: Option<RotationWindow>) -> Result<Self, InvalidPeriod> {
        if (ROTATION_PERIOD_MIN..=ROTATION_PERIOD_MAX).contains(&period) {
            Ok(Self { period, window })
        } else {
            Err(InvalidPeriod)
        }
    }

    /// How old a version gets.
    #[must_use]
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// When a rotation that is due may happen; none: at any time.
    #[must_use]
    pub const fn window(&self) -> Option<&RotationWindow> {
        self.window.as_ref()
    }

    /// The moment from which on the next rotation may happen, after one at `last`, as it looks at `now`. At `now` or before
    /// it: the rotation is due. None: no window opens any more.
    ///
    /// A moment that passed in a window that is closed again is of no use: the answer is in a later window then.
    #[must_use]
    pub fn next(&self, last: UnixMillis, now: UnixMillis) -> Option<UnixMillis> {
        // Counted from the start of the minute, or a rotation that takes some milliseconds would wander out of its window
        // one day or another.
        let minute = last.as_i64().div_euclid(MINUTE_MILLIS) * MINUTE_MILLIS;
        let due = UnixMillis::new(minute).plus(self.period);
        match &self.window {
            None => Some(due),
            Some(window) => window.open_from(due.max(now)).map(|opened| opened.max(due)),
        }
    }
}

/// The form in records: `every 720h`, `every 720h, in 2h from 0 3 * * 1-5 Europe/Berlin`.
impl fmt::Display for RotationSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        write!(f, "every {:#}", plain(self.period))?;
        if let Some(window) = &self.window {
            let open = plain(window.duration());
            write!(
                f,
                ", in {open:#} from {} {}",
                window.cron(),
                window.time_zone()
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
