//! A stretch of time that comes again: when it opens, by cron and a time zone, and for how long it is open.
//!
//! It opens when the wall clock of its time zone first shows the time or a later one: an hour that a clock skips opens at
//! the skip, one that it shows twice opens once. How long it stays open is elapsed time, whatever the clock shows. The rules
//! of time zones are compiled in, so that a decision is the same on every machine.

use std::time::Duration;

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions};
use jiff::{
    Timestamp,
    civil::{DateTime, date},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::UnixMillis;

/// Shortest window.
pub const WINDOW_DURATION_MIN: Duration = Duration::from_secs(10 * 60);
/// Longest window.
pub const WINDOW_DURATION_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Longest text of the five fields.
const CRON_MAX: usize = 128;

/// Why there is no such window. All are the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// It is not what cron understands, or is one of the extensions of some crons.
    #[error(
        "{0:?} is not a time of cron: minute, hour, day of the month, month and day of the week, each '*', numbers or names, with ',', '-' and '/'"
    )]
    Cron(String),
    /// There is no such day.
    #[error("a window at {0:?} never opens")]
    NeverOpens(String),
    /// Nobody knows it.
    #[error("{0:?} is no name of the IANA time zone database")]
    TimeZone(String),
    /// It is too short or too long.
    #[error("a window is open for 10m to 168h (7 days)")]
    Duration,
}

/// When a rotation that is due may happen.
#[derive(Clone, Debug)]
pub struct RotationWindow {
    text: String,
    cron: Crontab,
    zone_name: String,
    zone: TimeZone,
    duration: Duration,
}

/// Two windows are one when they were given in the same words.
impl PartialEq for RotationWindow {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
            && self.zone_name == other.zone_name
            && self.duration == other.duration
    }
}

impl Eq for RotationWindow {}

impl RotationWindow {
    /// A window that opens at times of cron in a time zone; the empty name stands for UTC.
    ///
    /// # Errors
    /// See `WindowError`.
    pub fn new(cron: &str, zone: &str, duration: Duration) -> Result<Self, WindowError> {
        if !(WINDOW_DURATION_MIN..=WINDOW_DURATION_MAX).contains(&duration) {
            return Err(WindowError::Duration);
        }
        let zone_name = if zone.is_empty() { "UTC" } else { zone };
        let zone = TimeZoneDatabase::bundled().get(zone_name);
        let zone = zone.ok().filter(|zone| !zone.is_unknown());
        let window = Self {
            text: cron.to_owned(),
            cron: parse(cron).ok_or_else(|| WindowError::Cron(cron.to_owned()))?,
            zone_name: zone_name.to_owned(),
            zone: zone.ok_or_else(|| WindowError::TimeZone(zone_name.to_owned()))?,
            duration,
        };
        // Four years that hold each day that there is.
        if window.after(date(2024, 1, 1).at(0, 0, 0, 0)).is_none() {
            return Err(WindowError::NeverOpens(window.text));
        }
        Ok(window)
    }

    /// When it opens, as it was given.
    #[must_use]
    pub fn cron(&self) -> &str {
        &self.text
    }

    /// Where its clock hangs, as it was given.
    #[must_use]
    pub fn time_zone(&self) -> &str {
        &self.zone_name
    }

    /// How long it is open.
    #[must_use]
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// When the window opens, or opened, that is the first to be open at `from` or later. None: after the end of all calendars.
    pub(super) fn open_from(&self, from: UnixMillis) -> Option<UnixMillis> {
        // What opened a whole duration ago has just closed.
        self.opening_after(from.minus(self.duration))
    }

    /// The first opening after a moment.
    fn opening_after(&self, moment: UnixMillis) -> Option<UnixMillis> {
        let timestamp = Timestamp::from_millisecond(moment.as_i64()).ok()?;
        // Whatever the clock showed until now has opened until now.
        let mut shown = self.zone.to_datetime(timestamp);
        loop {
            shown = self.after(shown)?;
            let opening = self.first_shown(shown)?;
            if opening > moment {
                return Some(opening);
            }
        }
    }

    /// The first time of cron after another, on a clock that is never turned.
    fn after(&self, shown: DateTime) -> Option<DateTime> {
        let moment = TimeZone::UTC.to_timestamp(shown).ok()?;
        let next = self.cron.find_next(MakeTimestamp(moment)).ok()?;
        Some(next.datetime())
    }

    /// When the clock of the time zone first shows a time or a later one.
    fn first_shown(&self, time: DateTime) -> Option<UnixMillis> {
        let ambiguous = self.zone.to_ambiguous_timestamp(time);
        let moment = match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                ambiguous.earlier().ok()?
            }
            AmbiguousOffset::Gap { after, .. } => {
                let before_the_skip = after.to_timestamp(time).ok()?;
                self.zone.following(before_the_skip).next()?.timestamp()
            }
        };
        Some(UnixMillis::new(moment.as_millisecond()))
    }
}

/// The five fields that all crons know. Extensions (`L`, `W`, `#`, `H`, `@daily`) mean different things to different ones.
fn parse(text: &str) -> Option<Crontab> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b" *,-/".contains(&byte);
    let names = text.split(|letter: char| !letter.is_ascii_alphabetic());
    let is_name = |name: &str| name.is_empty() || name.len() == 3;
    let plain = text.len() <= CRON_MAX
        && text.bytes().all(known)
        && names.into_iter().all(is_name)
        && text.split(' ').filter(|field| !field.is_empty()).count() == 5;
    let mut options = ParseOptions::default();
    options.fallback_timezone_option = FallbackTimezoneOption::UTC;
    plain
        .then(|| cronexpr::parse_crontab_with(text, options).ok())
        .flatten()
}

#[cfg(test)]
mod tests;
