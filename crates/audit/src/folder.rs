//! Folds what callers do too often to be told one by one: refusals beyond ten a second of one caller become one record for
//! that second, and reads that gave nothing one for each hour. Pure; time is passed in, and the number of callers is bounded.

use std::collections::HashMap;

use crate::record::Folded;

/// Calls that one record stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The caller; `None` stands for all callers beyond the bound.
    pub caller: Option<String>,
    /// How many, and when.
    pub folded: Folded,
}

/// What to do about one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Give it a record of its own.
    Record,
    /// It is counted and comes with the fold of its time.
    Held,
}

/// Counts calls of each caller within one second or hour.
#[derive(Debug)]
pub struct Folder {
    /// Calls of one caller that get records of their own.
    own_records: u64,
    /// Milliseconds that one fold is about.
    span: i64,
    callers_max: usize,
    /// The span that is counted now: its place among all spans since 1970.
    current: i64,
    callers: HashMap<String, Window>,
    /// All callers beyond `callers_max` together.
    others: Window,
}

#[derive(Debug, Default)]
struct Window {
    recorded: u64,
    held: Option<Folded>,
}

impl Window {
    const fn is_empty(&self) -> bool {
        self.recorded == 0 && self.held.is_none()
    }
}

impl Folder {
    /// Records of their own that a caller gets each second.
    pub const PER_SECOND: u64 = 10;

    /// Makes a folder for refusals that tells at most `callers_max` callers apart.
    pub fn new(callers_max: usize) -> Self {
        Self::of(Self::PER_SECOND, 1000, callers_max)
    }

    /// Makes a folder for calls of which each hour has one record for each caller, and no call one of its own.
    pub fn by_the_hour(callers_max: usize) -> Self {
        Self::of(0, 3_600_000, callers_max)
    }

    fn of(own_records: u64, span: i64, callers_max: usize) -> Self {
        Self {
            own_records,
            span,
            callers_max,
            current: i64::MIN,
            callers: HashMap::new(),
            others: Window::default(),
        }
    }

    /// Counts a call of `caller` at `now` (milliseconds since 1970). Call [`Self::due`] first: until then calls of a new
    /// second or hour count to the old one.
    pub fn observe(&mut self, caller: &str, now: i64) -> Observed {
        if self.callers.is_empty() && self.others.is_empty() {
            self.current = now.div_euclid(self.span);
        }
        let full = self.callers.len() >= self.callers_max;
        let window = match self.callers.get_mut(caller) {
            Some(window) => window,
            None if full => &mut self.others,
            None => self.callers.entry(caller.to_owned()).or_default(),
        };
        if window.recorded < self.own_records {
            window.recorded += 1;
            return Observed::Record;
        }
        let folded = window.held.get_or_insert(Folded {
            count: 0,
            first: now,
            last: now,
        });
        folded.count += 1;
        folded.first = folded.first.min(now);
        folded.last = folded.last.max(now);
        Observed::Held
    }

    /// Returns the folds of a second or hour that has passed, by caller. Call it at least once a second, and with
    /// [`i64::MAX`] before the end.
    pub fn due(&mut self, now: i64) -> Vec<Fold> {
        // A clock that was set back also ends it.
        if now.div_euclid(self.span) == self.current {
            return Vec::new();
        }
        let others = std::mem::take(&mut self.others).held;
        let mut folds: Vec<Fold> = self
            .callers
            .drain()
            .filter_map(|(caller, w)| {
                Some(Fold {
                    caller: Some(caller),
                    folded: w.held?,
                })
            })
            .collect();
        folds.sort_by(|a, b| a.caller.cmp(&b.caller));
        folds.extend(others.map(|folded| Fold {
            caller: None,
            folded,
        }));
        folds
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Refuses `caller` at each of these times; returns how many got records of their own.
    fn refuse(folder: &mut Folder, caller: &str, times: impl IntoIterator<Item = i64>) -> u64 {
        let own = |now| folder.observe(caller, now) == Observed::Record;
        times.into_iter().map(own).map(u64::from).sum()
    }

    fn fold(caller: Option<&str>, count: u64, first: i64, last: i64) -> Fold {
        let caller = caller.map(str::to_owned);
        Fold {
            caller,
            folded: Folded { count, first, last },
        }
    }

    #[test]
    fn ten_refusals_a_second_have_their_own_records_and_the_rest_one_together() {
        let mut folder = Folder::new(100);
        assert_eq!(refuse(&mut folder, "a", 5000..5025), 10);
        assert_eq!(refuse(&mut folder, "b", 5030..5033), 3);
        assert_eq!(folder.due(5999), []);
        assert_eq!(folder.due(6000), [fold(Some("a"), 15, 5010, 5024)]);
        assert_eq!(folder.due(6001), []);
        assert_eq!(refuse(&mut folder, "a", 6002..6020), 10);
        assert_eq!(folder.due(i64::MAX), [fold(Some("a"), 8, 6012, 6019)]);
    }

    #[test]
    fn callers_beyond_the_bound_are_folded_together() {
        let mut folder = Folder::new(2);
        let recorded: u64 = ["a", "b", "c", "d"]
            .iter()
            .map(|caller| refuse(&mut folder, caller, 0..12))
            .sum();
        assert_eq!(recorded, 30);
        assert_eq!(
            folder.due(1000),
            [
                fold(Some("a"), 2, 10, 11),
                fold(Some("b"), 2, 10, 11),
                fold(None, 14, 0, 11),
            ]
        );
    }

    #[test]
    fn by_the_hour_no_call_has_a_record_of_its_own() {
        let mut folder = Folder::by_the_hour(1);
        assert_eq!(refuse(&mut folder, "a", [7_200_000, 7_260_000]), 0);
        assert_eq!(refuse(&mut folder, "b", [10_799_999]), 0);
        assert_eq!(folder.due(10_799_999), []);
        assert_eq!(
            folder.due(10_800_000),
            [
                fold(Some("a"), 2, 7_200_000, 7_260_000),
                fold(None, 1, 10_799_999, 10_799_999),
            ]
        );
        assert_eq!(folder.due(i64::MAX), []);
    }

    #[test]
    fn a_clock_that_was_set_back_ends_the_second_too() {
        let mut folder = Folder::new(2);
        refuse(&mut folder, "a", 9000..9011);
        assert_eq!(folder.due(3000), [fold(Some("a"), 1, 9010, 9010)]);
        assert_eq!(refuse(&mut folder, "a", 3000..3001), 1);
        assert_eq!(folder.due(3001), []);
    }

    proptest! {
        #[test]
        fn every_refusal_is_recorded_or_counted_once(
            refusals in vec((0..5u8, 0..400i64), 0..400),
            callers_max in 0..6usize,
        ) {
            let mut folder = Folder::new(callers_max);
            let (mut now, mut recorded, mut counted) = (0, 0, 0);
            for (caller, pause) in &refusals {
                now += pause / 10;
                counted += folder.due(now).iter().map(|f| f.folded.count).sum::<u64>();
                let observed = folder.observe(&caller.to_string(), now);
                recorded += u64::from(observed == Observed::Record);
            }
            counted += folder.due(i64::MAX).iter().map(|f| f.folded.count).sum::<u64>();
            prop_assert_eq!(recorded + counted, refusals.len() as u64);
        }
    }
}
