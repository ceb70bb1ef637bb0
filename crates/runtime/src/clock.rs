//! The machine's clocks behind `strongroom_core::Clock`; the only place that asks for the time of day.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use strongroom_core::{Clock, UnixMillis};

use crate::fault;

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
        UnixMillis::new(
            tv_sec
                .saturating_mul(1000)
                .saturating_add(tv_nsec / 1_000_000),
        )
        .plus(fault::skipped())
    }

    fn elapsed(&self) -> Duration {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
        // Both are never negative for this clock: the kernel counts it up from zero.
        Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or(0)) + fault::skipped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_is_in_milliseconds() {
        let milliseconds = SystemClock.now().as_i64();
        // Between 2020 and 2200.
        assert!(
            (1_577_836_800_000..7_258_118_400_000).contains(&milliseconds),
            "{milliseconds}"
        );
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let earlier = SystemClock.elapsed();
        assert!(SystemClock.elapsed() >= earlier);
    }
}
