//! Folds refusals: beyond ten a second of one caller they become one record for that second.
//! Pure; time is passed in, and the number of callers held is bounded.

use std::collections::HashMap;

use crate::record::Folded;

/// Refusals that one record stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// The caller; `None` stands for all callers beyond the bound.
    pub caller: Option<String>,
    /// How many, and when.
    pub folded: Folded,
}

/// What to do about one refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// Give it a record of its own.
    Record,
    /// It is counted and comes with the fold of its second.
    Held,
}

/// Counts refusals of callers within one second.
#[derive(Debug)]
pub struct Folder {
    per_second: u64,
    callers_max: usize,
    second: i64,
    callers: HashMap<String, Window>,
    /// All callers beyond `callers_max` together.
    others: Window,
}

#[derive(Debug, Default)]
struct Window {
    recorded: u64,
    held: Option<Folded>,
}

impl Folder {
    /// Records of their own that a caller gets each second.
    pub const PER_SECOND: u64 = 10;

    /// Makes a folder that tells at most `callers_max` callers apart.
    pub fn new(callers_max: usize) -> Self {
        Self {
            per_second: Self::PER_SECOND,
            callers_max,
            second: i64::MIN,
            callers: HashMap::new(),
            others: Window::default(),
        }
    }

    /// Counts a refusal of `caller` at `now` (milliseconds since 1970). Call [`Self::due`] first:
    /// until then refusals of a new second count to the old one.
    pub fn refuse(&mut self, caller: &str, now: i64) -> Observed {
        if self.callers.is_empty() && self.others.recorded == 0 {
            self.second = now.div_euclid(1000);
        }
        let full = self.callers.len() >= self.callers_max;
        let window = match self.callers.get_mut(caller) {
            Some(window) => window,
            None if full => &mut self.others,
            None => self.callers.entry(caller.to_owned()).or_default(),
        };
        if window.recorded < self.per_second {
            window.recorded += 1;
            return Observed::Record;
        }
        let folded = window.held.get_or_insert(Folded {
            count: 0,
            first: now,
            last: now,
        });
        folded.count += 1;
        folded.last = folded.last.max(now);
        Observed::Held
    }

    /// Returns the folds of a second that has passed, by caller. Call it at least once a second,
    /// and with [`i64::MAX`] before the end.
    pub fn due(&mut self, now: i64) -> Vec<Fold> {
        // A clock that was set back also ends the second.
        if now.div_euclid(1000) == self.second {
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
