//! The time that destruction, expiry and retention go by: never before what was believed, and after a jump of the wall
//! clock not good enough for any of them until a person has looked.
//!
//! The wall clock is compared with the boot clock, which nobody sets. One comparison goes on for a whole day, so that a
//! clock that is turned in many small steps is noticed like one that is turned at once.

use std::time::Duration;

use crate::UnixMillis;

/// A deviation that clocks which are kept in step do not have.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// A clock that is 500 ppm wrong, the most that the kernel corrects, deviates by 43 s in this time.
const COMPARED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Which boot of the machine it is: boot clocks of different boots cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootId(pub [u8; 16]);

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock; in a `TimeMark`, the time that was believed.
    pub wall: UnixMillis,
    /// The boot clock.
    pub elapsed: Duration,
    /// The boot that it counts from.
    pub boot: BootId,
}

/// The wall clock went another way than the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// When it was noticed, by the time that was believed until then.
    pub noticed: UnixMillis,
    /// By how many milliseconds the wall clock was ahead then; negative when it was turned back.
    pub ahead_millis: i64,
}

/// What is written down of the time, so that a restart goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeMark {
    /// The newest time that was believed: service time is never before it.
    pub floor: UnixMillis,
    /// What later readings are compared with.
    pub compared: Reading,
    /// A jump that nobody has confirmed.
    pub jump: Option<Jump>,
}

impl TimeMark {
    /// The mark of somebody who believes a reading.
    #[must_use]
    pub const fn believing(reading: Reading) -> Self {
        Self {
            floor: reading.wall,
            compared: reading,
            jump: None,
        }
    }

    /// Whether this mark has to replace the one that is written down: at once after a jump, a confirmation or a boot, else
    /// when the floor has moved by `interval`, which is what a process that is killed forgets.
    #[must_use]
    pub fn replaces(&self, written: &Self, interval: Duration) -> bool {
        self.jump != written.jump
            || self.compared.boot != written.compared.boot
            || self.floor.since(written.floor) >= interval
    }
}

/// Service time.
#[derive(Clone, Debug)]
pub struct ServiceTime {
    mark: TimeMark,
    wall: UnixMillis,
}

impl ServiceTime {
    /// Goes on from what was written down; without it the first reading is believed.
    #[must_use]
    pub fn resume(mark: Option<TimeMark>, reading: Reading) -> Self {
        let mark = mark.unwrap_or(TimeMark::believing(reading));
        let mut time = Self {
            mark,
            wall: reading.wall,
        };
        time.observe(reading);
        time
    }

    /// Takes another reading.
    pub fn observe(&mut self, reading: Reading) {
        self.wall = reading.wall;
        let expected = self.expected(reading);
        let jump = self.mark.jump.or_else(|| match expected {
            Some(expected) => deviation(reading.wall, expected),
            // After a boot only a clock behind the floor shows: how long the machine was off is not known.
            None => deviation(reading.wall.min(self.mark.floor), self.mark.floor),
        });
        self.mark.jump = jump;
        let believed = match jump {
            None => reading.wall,
            // Nobody sets the boot clock, so time goes on by it.
            Some(_) => expected.unwrap_or(self.mark.floor),
        };
        self.mark.floor = self.mark.floor.max(believed);
        let is_old = reading.elapsed.saturating_sub(self.mark.compared.elapsed) >= COMPARED_FOR;
        if expected.is_none() || is_old {
            self.mark.compared = Reading {
                wall: believed,
                ..reading
            };
        }
    }

    /// What the wall clock should say by the boot clock; nothing after a boot.
    fn expected(&self, reading: Reading) -> Option<UnixMillis> {
        let compared = self.mark.compared;
        let passed = reading.elapsed.saturating_sub(compared.elapsed);
        (compared.boot == reading.boot).then(|| compared.wall.plus(passed))
    }

    /// The time now. It is never before what was believed, but for a [`confirm`](Self::confirm).
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.wall.max(self.mark.floor)
    }

    /// The newest time that is believed, for what happens again and again: a jump that nobody has confirmed neither hurries it
    /// nor holds it up, since time goes on by the boot clock meanwhile.
    #[must_use]
    pub const fn believed(&self) -> UnixMillis {
        self.mark.floor
    }

    /// The time now for what cannot be undone: destruction, expiry of material, retention.
    ///
    /// # Errors
    /// The jump that nobody has confirmed.
    pub const fn settled(&self) -> Result<UnixMillis, Jump> {
        match self.mark.jump {
            None => Ok(self.mark.floor),
            Some(jump) => Err(jump),
        }
    }

    /// The wall clock of the last reading.
    #[must_use]
    pub const fn wall(&self) -> UnixMillis {
        self.wall
    }

    /// Goes on from a mark that believes a reading: a person has looked at the wall clock.
    pub const fn confirm(&mut self, believed: TimeMark) {
        self.wall = believed.floor;
        self.mark = believed;
    }

    /// What is to be written down.
    #[must_use]
    pub const fn mark(&self) -> TimeMark {
        self.mark
    }
}

fn deviation(wall: UnixMillis, expected: UnixMillis) -> Option<Jump> {
    let too_much = wall.apart(expected) > CLOCK_TOLERANCE;
    too_much.then(|| Jump {
        noticed: expected,
        ahead_millis: wall.as_i64().saturating_sub(expected.as_i64()),
    })
}

#[cfg(test)]
mod tests;
