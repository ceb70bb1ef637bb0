//! What a process still waits for. Any task sets its own named condition; `/readyz` prints those that are missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Conditions = BTreeMap<&'static str, State>;

/// How a condition is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Met,
    /// The reason.
    Missing(String),
    /// What the process waits for, while nothing else is expected of it.
    Awaiting(&'static str),
}

/// All conditions of a process. A clone is another handle to the same conditions.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Conditions>>);

impl Readiness {
    /// Registers a condition, which is missing until its holder says otherwise.
    pub fn condition(&self, name: &'static str) -> Condition {
        let condition = Condition {
            name,
            readiness: self.clone(),
        };
        condition.missing("not yet checked");
        condition
    }

    /// Names each missing condition with its reason, ordered by name; empty when the process is ready.
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let conditions = self.lock();
        let missing = conditions.iter().filter_map(|(name, state)| match state {
            State::Missing(reason) => Some((*name, reason.clone())),
            State::Met | State::Awaiting(_) => None,
        });
        missing.collect()
    }

    /// What a ready process waits for before it does its work, in the order of the conditions; usually nothing.
    pub fn awaiting(&self) -> Option<&'static str> {
        self.lock().values().find_map(|state| match state {
            State::Awaiting(what) => Some(*what),
            State::Met | State::Missing(_) => None,
        })
    }

    /// Tells whether no condition is missing.
    pub fn is_ready(&self) -> bool {
        let conditions = self.lock();
        let is_missing = |state: &State| matches!(state, State::Missing(_));
        !conditions.values().any(is_missing)
    }

    fn set(&self, name: &'static str, state: State) {
        self.lock().insert(name, state);
    }

    // A poisoned map is still a whole map: each change is one insert.
    fn lock(&self) -> MutexGuard<'_, Conditions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to set one condition.
#[derive(Clone, Debug)]
pub struct Condition {
    name: &'static str,
    readiness: Readiness,
}

impl Condition {
    /// Says that the condition holds.
    pub fn met(&self) {
        self.readiness.set(self.name, State::Met);
    }

    /// Says that the process is as it should be before somebody does what it waits for, as `awaiting init`: it is ready, and
    /// says this in place of `ok`.
    pub fn awaits(&self, what: &'static str) {
        self.readiness.set(self.name, State::Awaiting(what));
    }

    /// Says what is missing, without secrets: anybody who reaches the probe address reads it.
    pub fn missing(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, State::Missing(reason.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_condition_is_missing() {
        let readiness = Readiness::default();
        let _condition = readiness.condition("store");
        assert_eq!(
            readiness.missing(),
            [("store", "not yet checked".to_owned())]
        );
    }

    #[test]
    fn every_condition_must_hold() {
        let readiness = Readiness::default();
        let (store, hsm) = (readiness.condition("store"), readiness.condition("hsm"));
        store.met();
        hsm.missing("agent does not answer");
        assert!(!readiness.is_ready());
        assert_eq!(
            readiness.missing(),
            [("hsm", "agent does not answer".to_owned())]
        );
        hsm.met();
        assert!(readiness.is_ready());
    }

    #[test]
    fn a_met_condition_can_be_lost_again() {
        let readiness = Readiness::default();
        let store = readiness.condition("store");
        store.met();
        store.missing("disk is full");
        assert!(!readiness.is_ready());
    }

    #[test]
    fn a_process_that_awaits_something_is_ready_and_says_so() {
        let readiness = Readiness::default();
        let (start, hsm) = (readiness.condition("start"), readiness.condition("hsm"));
        start.awaits("awaiting init");
        hsm.missing("agent does not answer");
        assert!(!readiness.is_ready());
        hsm.met();
        assert!(readiness.is_ready());
        assert_eq!(readiness.awaiting(), Some("awaiting init"));
        start.met();
        assert_eq!(readiness.awaiting(), None);
    }
}
