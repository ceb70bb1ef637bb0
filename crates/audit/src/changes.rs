//! Which control-plane changes a log holds. Handlers answer in any order, so a counter may come
//! before a lower one; at the end no counter may be missing and none may come twice.

use std::collections::BTreeSet;

use crate::record::Change;

/// How many counters may wait for a lower one. Many more than calls can be in flight.
const AHEAD_MAX: usize = 65_536;

/// The changes seen so far, in bounded memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The highest change below which none is missing.
    complete: Option<Change>,
    /// Later counters of the same epoch.
    ahead: BTreeSet<u64>,
}

/// A change that does not belong at this place.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum ChangeError {
    /// It was there before.
    #[error("change {} of epoch {} was recorded before", .0.seq, .0.epoch)]
    Repeated(Change),
    /// Its epoch is lower than that of an earlier record.
    #[error("change {} of epoch {} comes after a later epoch", .0.seq, .0.epoch)]
    EpochWentBack(Change),
    /// A new epoch began while this change of the old one was missing.
    #[error("change {} of epoch {} is missing", .0.seq, .0.epoch)]
    Missing(Change),
    /// Too many changes wait for a lower one.
    #[error("change {} of epoch {} is too far ahead of the others", .0.seq, .0.epoch)]
    TooFarAhead(Change),
}

impl Changes {
    /// The highest change below which none is missing, if there is any change.
    pub fn complete(&self) -> Option<Change> {
        self.complete
    }

    /// Whether this change is in the log.
    pub fn contains(&self, change: Change) -> bool {
        self.complete.is_some_and(|complete| {
            change <= complete
                || (change.epoch == complete.epoch && self.ahead.contains(&change.seq))
        })
    }

    /// The lowest change that is missing below a later one.
    pub fn missing(&self) -> Option<Change> {
        let Change { epoch, seq } = self.complete?;
        (!self.ahead.is_empty()).then_some(Change {
            epoch,
            seq: seq + 1,
        })
    }

    /// Takes the next change of the log.
    pub(crate) fn admit(&mut self, change: Change) -> Result<(), ChangeError> {
        let Some(complete) = self.complete.filter(|c| c.epoch == change.epoch) else {
            return self.begin_epoch(change);
        };
        if change.seq <= complete.seq || self.ahead.contains(&change.seq) {
            return Err(ChangeError::Repeated(change));
        }
        if change.seq > complete.seq + 1 {
            if self.ahead.len() == AHEAD_MAX {
                return Err(ChangeError::TooFarAhead(change));
            }
            self.ahead.insert(change.seq);
            return Ok(());
        }
        let mut seq = change.seq;
        while seq < u64::MAX && self.ahead.remove(&(seq + 1)) {
            seq += 1;
        }
        self.complete = Some(Change {
            epoch: change.epoch,
            seq,
        });
        Ok(())
    }

    /// Forgets what was: after a gap the sequence begins anew.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self::default();
    }

    fn begin_epoch(&mut self, change: Change) -> Result<(), ChangeError> {
        if self
            .complete
            .is_some_and(|complete| change.epoch < complete.epoch)
        {
            return Err(ChangeError::EpochWentBack(change));
        }
        if let Some(missing) = self.missing() {
            return Err(ChangeError::Missing(missing));
        }
        self.complete = Some(change);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit_all(changes: &[(u32, u64)]) -> Result<Changes, ChangeError> {
        let mut state = Changes::default();
        for &(epoch, seq) in changes {
            state.admit(Change { epoch, seq })?;
        }
        Ok(state)
    }

    #[test]
    fn changes_may_overtake_each_other() {
        let state = admit_all(&[(1, 7), (1, 9), (1, 10), (1, 8), (1, 11)]).unwrap();
        assert_eq!(state.complete(), Some(Change { epoch: 1, seq: 11 }));
        assert_eq!(state.missing(), None);
    }

    #[test]
    fn a_hole_is_named() {
        let state = admit_all(&[(1, 7), (1, 9)]).unwrap();
        assert_eq!(state.complete(), Some(Change { epoch: 1, seq: 7 }));
        assert_eq!(state.missing(), Some(Change { epoch: 1, seq: 8 }));
        assert!(state.contains(Change { epoch: 1, seq: 9 }));
        assert!(!state.contains(Change { epoch: 1, seq: 8 }));
    }

    #[test]
    fn repeated_changes_are_refused() {
        let again = |seq| Err(ChangeError::Repeated(Change { epoch: 1, seq }));
        assert_eq!(admit_all(&[(1, 7), (1, 7)]), again(7));
        assert_eq!(admit_all(&[(1, 7), (1, 9), (1, 9)]), again(9));
        assert_eq!(admit_all(&[(1, 7), (1, 6)]), again(6));
    }

    #[test]
    fn an_epoch_begins_anywhere_but_not_over_a_hole_and_never_returns() {
        let state = admit_all(&[(1, 7), (2, 3), (2, 4)]).unwrap();
        assert_eq!(state.complete(), Some(Change { epoch: 2, seq: 4 }));
        assert_eq!(
            admit_all(&[(1, 7), (1, 9), (2, 3)]),
            Err(ChangeError::Missing(Change { epoch: 1, seq: 8 }))
        );
        assert_eq!(
            admit_all(&[(2, 7), (1, 8)]),
            Err(ChangeError::EpochWentBack(Change { epoch: 1, seq: 8 }))
        );
    }
}
