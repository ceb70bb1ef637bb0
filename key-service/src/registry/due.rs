//! What schedules will rotate, in order of time: nobody has to look at every head to find what is due.
//!
//! It is made from the heads and kept nowhere else.

use std::{
    collections::{BTreeSet, HashMap},
    sync::PoisonError,
    time::Duration,
};

use strongroom_core::{KeyId, Resource, RingId, SecretId, UnixMillis};

use super::Registry;

/// What has a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rotating {
    /// A key.
    Key(RingId, KeyId),
    /// A secret.
    Secret(RingId, SecretId),
}

/// One of them whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    /// Which.
    pub(crate) rotating: Rotating,
    /// The same as policies see it.
    pub(crate) resource: Resource,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    at: UnixMillis,
    failures: u32,
}

/// The order.
#[derive(Debug, Default)]
pub(super) struct Turns {
    order: BTreeSet<(UnixMillis, Rotating)>,
    turns: HashMap<Rotating, Turn>,
    failing: usize,
}

/// How long after a failure it is tried again, twice as long after each further one.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(10 * 60);

impl Turns {
    /// Takes over from a head when its turn is; none: no schedule.
    pub(super) fn put(&mut self, rotating: Rotating, at: Option<UnixMillis>) {
        let turn = |at| Turn { at, failures: 0 };
        self.set(rotating, at.map(turn));
    }

    /// The first whose turn has come.
    fn due(&self, now: UnixMillis) -> Option<Rotating> {
        let (at, first) = self.order.first()?;
        (*at <= now).then_some(*first)
    }

    fn put_off(&mut self, rotating: Rotating, at: Option<UnixMillis>) {
        let failures = self.failures(rotating);
        self.set(rotating, at.map(|at| Turn { at, failures }));
    }

    fn failed(&mut self, rotating: Rotating, now: UnixMillis) -> u32 {
        let failures = self.failures(rotating).saturating_add(1);
        let doubled = RETRY_MIN.saturating_mul(1 << (failures - 1).min(16));
        let at = now.plus(doubled.min(RETRY_MAX));
        self.set(rotating, Some(Turn { at, failures }));
        failures
    }

    fn failures(&self, rotating: Rotating) -> u32 {
        self.turns.get(&rotating).map_or(0, |turn| turn.failures)
    }

    fn set(&mut self, rotating: Rotating, turn: Option<Turn>) {
        if let Some(former) = self.turns.remove(&rotating) {
            self.order.remove(&(former.at, rotating));
            self.failing -= usize::from(former.failures > 0);
        }
        if let Some(turn) = turn {
            self.order.insert((turn.at, rotating));
            self.failing += usize::from(turn.failures > 0);
            self.turns.insert(rotating, turn);
        }
    }
}

impl Registry {
    /// What is due first, to ask the policy about it. Tells nothing else about it.
    pub(crate) fn first_due(&self, now: UnixMillis) -> Option<Due> {
        let state = self.state();
        let rotating = state.turns.due(now)?;
        let resource = match rotating {
            Rotating::Key(ring, key) => state.key_resource(ring, key),
            Rotating::Secret(ring, secret) => {
                let stored = state.secrets.head(ring, secret)?;
                state.resource(stored)
            }
        }?;
        Some(Due { rotating, resource })
    }

    /// Another turn for what is not due after all; none until its head changes.
    pub(crate) fn put_off(&self, rotating: Rotating, at: Option<UnixMillis>) {
        self.with_turns(|turns| turns.put_off(rotating, at));
    }

    /// Another try for what could not be rotated, later each time; says how often it could not.
    pub(crate) fn rotation_failed(&self, rotating: Rotating, now: UnixMillis) -> u32 {
        self.with_turns(|turns| turns.failed(rotating, now))
    }

    /// How many could not be rotated when they were tried last.
    pub(crate) fn failing_rotations(&self) -> usize {
        self.state().turns.failing
    }

    fn with_turns<T>(&self, act: impl FnOnce(&mut Turns) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        act(&mut state.turns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> Rotating {
        Rotating::Key(RingId::from_bytes([1; 16]), KeyId::from_bytes([number; 16]))
    }

    fn at(seconds: i64) -> UnixMillis {
        UnixMillis::new(seconds * 1000)
    }

    #[test]
    fn the_earliest_is_the_first_once_its_time_has_come() {
        let mut turns = Turns::default();
        turns.put(key(1), Some(at(20)));
        turns.put(key(2), Some(at(10)));
        turns.put(key(3), None);
        assert_eq!(turns.due(at(9)), None);
        assert_eq!(turns.due(at(10)), Some(key(2)));
        turns.put(key(2), Some(at(30)));
        assert_eq!(turns.due(at(30)), Some(key(1)));
        turns.put(key(1), None);
        assert_eq!(turns.due(at(30)), Some(key(2)));
    }

    #[test]
    fn what_fails_makes_room_for_others_and_comes_back_ever_later() {
        let mut turns = Turns::default();
        turns.put(key(1), Some(at(1)));
        turns.put(key(2), Some(at(2)));
        assert_eq!(turns.failed(key(1), at(10)), 1);
        assert_eq!(turns.due(at(10)), Some(key(2)));
        turns.put(key(2), None);
        assert_eq!((turns.due(at(14)), turns.due(at(15))), (None, Some(key(1))));
        assert_eq!(turns.failed(key(1), at(15)), 2);
        assert_eq!((turns.due(at(24)), turns.due(at(25))), (None, Some(key(1))));
        for failures in 3..50 {
            assert_eq!(turns.failed(key(1), at(0)), failures);
        }
        assert_eq!(
            (turns.due(at(599)), turns.due(at(600))),
            (None, Some(key(1)))
        );
        assert_eq!(turns.failing, 1);
        turns.put(key(1), Some(at(1000)));
        assert_eq!(turns.failing, 0);
    }
}
