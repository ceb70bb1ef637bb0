//! The machine's clocks behind `strongroom_core::Clock`; the only place that asks for the time of day.

use std::{fs, io, time::Duration};

use rustix::time::{ClockId, Timespec, clock_gettime};
use strongroom_core::{BootId, Clock, UnixMillis};

use crate::fault;

/// The clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Realtime);
        let turned = fault::clocks();
        UnixMillis::new(
            tv_sec
                .saturating_add(turned.wall_seconds)
                .saturating_mul(1000)
                .saturating_add(tv_nsec / 1_000_000),
        )
        .plus(turned.skipped)
    }

    fn elapsed(&self) -> Duration {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
        // Both are never negative for this clock: the kernel counts it up from zero.
        Duration::new(tv_sec.unsigned_abs(), u32::try_from(tv_nsec).unwrap_or(0))
            + fault::clocks().skipped
    }
}

/// Where the kernel says which boot it is: a UUID, drawn at each boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel does not say which boot it is.
#[derive(Debug, thiserror::Error)]
pub enum BootIdError {
    /// The file cannot be read.
    #[error("{BOOT_ID} cannot be read")]
    Read(#[source] io::Error),
    /// It holds something else.
    #[error("{BOOT_ID} does not hold a UUID")]
    Parse(#[source] std::num::ParseIntError),
}

/// Which boot of the machine this is. A process never sees another one.
///
/// # Errors
/// See `BootIdError`; a kernel with a mounted `/proc` always says it.
pub fn boot_id() -> Result<BootId, BootIdError> {
    parse_boot_id(&fs::read_to_string(BOOT_ID).map_err(BootIdError::Read)?)
}

fn parse_boot_id(text: &str) -> Result<BootId, BootIdError> {
    let digits = text.trim().replace('-', "");
    let number = u128::from_str_radix(&digits, 16).map_err(BootIdError::Parse)?;
    Ok(BootId(number.to_be_bytes()))
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
    fn the_boot_is_the_one_that_the_kernel_names() {
        let id = parse_boot_id("0a0b0c0d-0e0f-1011-1213-141516171819\n").unwrap();
        assert_eq!(id.0, std::array::from_fn(|place| place as u8 + 10));
        assert!(parse_boot_id("none").is_err());
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }

    #[test]
    fn the_monotonic_clock_does_not_go_back() {
        let earlier = SystemClock.elapsed();
        assert!(SystemClock.elapsed() >= earlier);
    }
}
