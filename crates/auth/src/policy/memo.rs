//! Decisions that were already made. A policy never changes, so that none of them gets old.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use strongroom_core::{ActionKind, Caller, Decision, Question, Resource};

/// When so many tuples are known, all are forgotten: a flood costs evaluations, never memory.
const ENTRIES_MAX: usize = 4096;

type Tuple = (Caller, ActionKind, Resource);

#[derive(Debug, Default)]
pub(super) struct Memo(RwLock<HashMap<Tuple, Decision>>);

impl Memo {
    pub(super) fn find(&self, question: Question<'_>) -> Option<Decision> {
        // Each change is a single call on the map, so that a poisoned lock still guards a whole one.
        let decisions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        decisions.get(&tuple(question)).copied()
    }

    pub(super) fn insert(&self, question: Question<'_>, decision: Decision) {
        let mut decisions = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if decisions.len() >= ENTRIES_MAX {
            decisions.clear();
        }
        decisions.insert(tuple(question), decision);
    }
}

fn tuple(question: Question<'_>) -> Tuple {
    let Question {
        caller,
        action,
        resource,
    } = question;
    (caller.clone(), action, resource.clone())
}

#[cfg(test)]
mod tests {
    use strongroom_core::Job;

    use super::*;

    #[test]
    fn a_flood_of_callers_is_forgotten_and_not_kept() {
        let memo = Memo::default();
        let insert = |uid| {
            let caller = Caller::KmsSocket { uid };
            let question = Question {
                caller: &caller,
                action: ActionKind::DecryptSeed,
                resource: &Resource::Instance,
            };
            memo.insert(question, Decision::Deny);
        };
        for uid in 0..10_000 {
            insert(uid);
        }
        assert!(memo.0.read().unwrap().len() <= ENTRIES_MAX);
    }

    #[test]
    fn an_answer_is_for_its_own_tuple() {
        let memo = Memo::default();
        let (first, second) = (Caller::System(Job::Anchor), Caller::System(Job::Initialize));
        let ask = |caller| Question {
            caller,
            action: ActionKind::AnchorCheckpoint,
            resource: &Resource::Instance,
        };
        memo.insert(ask(&first), Decision::Allow);
        assert_eq!(memo.find(ask(&first)), Some(Decision::Allow));
        assert_eq!(memo.find(ask(&second)), None);
    }
}
