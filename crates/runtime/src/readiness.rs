//! What a process still waits for. Any task sets its own named condition; `/readyz` prints those that are missing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

type Conditions = BTreeMap<&'static str, Option<String>>;

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
        self.lock()
            .iter()
            .filter_map(|(name, reason)| Some((*name, reason.clone()?)))
            .collect()
    }

    /// Tells whether every condition is met.
    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.lock().insert(name, reason);
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
        self.readiness.set(self.name, None);
    }

    /// Says what is missing, without secrets: anybody who reaches the probe address reads it.
    pub fn missing(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
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
}
