//! Service time: both clocks of the machine, what was believed of them, and what the store has of it.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use strongroom_core::{
    BootId, CLOCK_TOLERANCE, Clock, Jump, Reading, ServiceTime, TimeMark, UnixMillis,
};
use tokio::sync::MutexGuard;

/// Keeps service time.
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    boot: BootId,
    time: Mutex<ServiceTime>,
    written: tokio::sync::Mutex<Option<TimeMark>>,
}

/// What time it is, as administrators see it.
#[derive(Clone, Copy, Debug)]
pub struct TimeView {
    /// Service time.
    pub now: UnixMillis,
    /// The wall clock.
    pub wall: UnixMillis,
    /// A jump of it that nobody has confirmed.
    pub jump: Option<Jump>,
}

impl Timekeeper {
    /// Goes on from what the store has. A clock that was turned meanwhile has jumped from the first moment on.
    #[must_use]
    pub fn resume(clock: Arc<dyn Clock>, boot: BootId, written: Option<TimeMark>) -> Self {
        let reading = read(clock.as_ref(), boot);
        Self {
            clock,
            boot,
            time: Mutex::new(ServiceTime::resume(written, reading)),
            written: tokio::sync::Mutex::new(written),
        }
    }

    /// Service time.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.look().now()
    }

    /// Service time for what happens again and again: a jump that nobody has confirmed neither hurries it nor holds it up.
    #[must_use]
    pub fn believed(&self) -> UnixMillis {
        self.look().believed()
    }

    /// Service time for what cannot be undone.
    ///
    /// # Errors
    /// The jump that nobody has confirmed.
    pub fn settled(&self) -> Result<UnixMillis, Jump> {
        self.look().settled()
    }

    /// What administrators see.
    #[must_use]
    pub fn view(&self) -> TimeView {
        let time = self.look();
        TimeView {
            now: time.now(),
            wall: time.wall(),
            jump: time.mark().jump,
        }
    }

    /// What is to be written down now.
    pub(crate) fn mark(&self) -> TimeMark {
        self.look().mark()
    }

    /// What the store has, to be held while it is written: nothing is written over a confirmation.
    pub(crate) async fn written(&self) -> MutexGuard<'_, Option<TimeMark>> {
        self.written.lock().await
    }

    /// Believes the wall clock if it agrees with a person's.
    pub(crate) fn believe(&self, seen: UnixMillis) -> Result<TimeMark, ClocksDiffer> {
        let reading = read(self.clock.as_ref(), self.boot);
        if reading.wall.apart(seen) > CLOCK_TOLERANCE {
            return Err(ClocksDiffer {
                machine: reading.wall,
                seen,
            });
        }
        Ok(TimeMark::believing(reading))
    }

    /// Goes on from what was believed and written.
    pub(crate) fn confirm(&self, believed: TimeMark) {
        self.with(|time| time.confirm(believed));
    }

    fn look(&self) -> ServiceTime {
        self.with(|time| {
            // Read under the lock, so that no reading is overtaken by an older one.
            time.observe(read(self.clock.as_ref(), self.boot));
            time.clone()
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut ServiceTime) -> T) -> T {
        // A poisoned time is still one: an observation replaces whole values.
        act(&mut self.time.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn read(clock: &dyn Clock, boot: BootId) -> Reading {
    Reading {
        wall: clock.now(),
        elapsed: clock.elapsed(),
        boot,
    }
}

/// The machine's clock and the person's do not agree: one of them is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock of the key service's machine says {}, yours {}: set right whichever is wrong, then confirm",
    rfc3339(*machine),
    rfc3339(*seen)
)]
pub struct ClocksDiffer {
    /// The machine's.
    pub machine: UnixMillis,
    /// The person's.
    pub seen: UnixMillis,
}

/// A time as people read it.
pub(crate) fn rfc3339(time: UnixMillis) -> String {
    Timestamp::from_millisecond(time.as_i64())
        .map_or_else(|_| time.to_string(), |time| time.to_string())
}

/// How far a jump went, in words: `744h ahead`, `31m 2s behind`.
pub(crate) fn distance(jump: Jump) -> String {
    let seconds = SignedDuration::from_secs(jump.ahead_millis / 1000);
    let way = if jump.ahead_millis < 0 {
        "behind"
    } else {
        "ahead"
    };
    format!("{:#} {way}", seconds.abs())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicI64, Ordering},
        time::Duration,
    };

    use super::*;

    const MONTH: i64 = 31 * 24 * 3600;

    /// Seconds of the wall clock; the boot clock stands still.
    struct Wall(AtomicI64);

    impl Clock for Wall {
        fn now(&self) -> UnixMillis {
            UnixMillis::new(self.0.load(Ordering::Relaxed) * 1000)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(7)
        }
    }

    fn keeper(written: Option<TimeMark>, seconds: i64) -> (Arc<Wall>, Timekeeper) {
        let clock = Arc::new(Wall(AtomicI64::new(seconds)));
        let keeper = Timekeeper::resume(clock.clone(), BootId([1; 16]), written);
        (clock, keeper)
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    #[test]
    fn each_question_looks_at_the_clock_and_a_jump_stays() {
        let (clock, keeper) = keeper(None, MONTH);
        assert_eq!(keeper.settled(), Ok(at(MONTH)));
        clock.0.store(0, Ordering::Relaxed);
        assert!(keeper.settled().is_err());
        assert_eq!(keeper.now(), at(MONTH));
        assert_eq!(keeper.view().wall, at(0));
        clock.0.store(MONTH, Ordering::Relaxed);
        assert!(keeper.settled().is_err());
    }

    #[test]
    fn a_clock_that_was_turned_while_nobody_looked_has_jumped_from_the_start() {
        let (_, before) = keeper(None, MONTH);
        let (_, after) = keeper(Some(before.mark()), 0);
        assert!(after.settled().is_err());
        assert_eq!(after.now(), at(MONTH));
    }

    #[test]
    fn a_clock_is_believed_when_the_person_has_the_same_time() {
        let (clock, keeper) = keeper(None, MONTH);
        clock.0.store(0, Ordering::Relaxed);
        let differ = ClocksDiffer {
            machine: at(0),
            seen: at(61),
        };
        assert_eq!(keeper.believe(at(61)), Err(differ));
        assert_eq!(
            differ.to_string(),
            "the clock of the key service's machine says 1970-01-01T00:00:00Z, yours 1970-01-01T00:01:01Z: set right \
             whichever is wrong, then confirm"
        );
        let believed = keeper.believe(at(60)).unwrap();
        assert!(keeper.settled().is_err(), "not before it is written");
        keeper.confirm(believed);
        assert_eq!(keeper.settled(), Ok(at(0)));
    }

    #[test]
    fn distances_are_in_words() {
        let words = |seconds: i64| {
            distance(Jump {
                noticed: at(0),
                ahead_millis: seconds * 1000,
            })
        };
        assert_eq!(words(MONTH), "744h ahead");
        assert_eq!(words(-3662), "1h 1m 2s behind");
    }
}
