//! Decisions that were already made. None of them gets old: a policy never changes, and what a record says about access is
//! part of the resource that was asked about.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use strongroom_core::{ActionKind, Caller, Decision, Question, Resource, ServiceAccount};

/// When so many tuples are known, all are forgotten: a flood costs evaluations, never memory.
const ENTRIES_MAX: usize = 4096;

type Tuple = (Subject, ActionKind, Resource);

/// A caller as policies see him. A pod is its account here, or each renewal of a token would be a tuple of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    Pod(ServiceAccount),
    CsiDriver(ServiceAccount),
    Operator(ServiceAccount),
    Other(Caller),
}

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
    (subject(caller), action, resource.clone())
}

fn subject(caller: &Caller) -> Subject {
    match caller {
        Caller::Pod(identity) => Subject::Pod(identity.account.clone()),
        Caller::CsiDriver(identity) => Subject::CsiDriver(identity.account.clone()),
        Caller::Operator(identity) => Subject::Operator(identity.account.clone()),
        other => Subject::Other(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use strongroom_core::{Job, ObjectId, PodIdentity, Tenant};

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

    #[test]
    fn pods_of_one_account_are_remembered_once() {
        let memo = Memo::default();
        let callers: Vec<_> = (0..3).map(|number| Caller::Pod(pod(number))).collect();
        for caller in &callers {
            let question = Question {
                caller,
                action: ActionKind::ReadSecret,
                resource: &Resource::Instance,
            };
            memo.insert(question, Decision::Deny);
        }
        assert_eq!(memo.0.read().unwrap().len(), 1);

        let driver = Caller::CsiDriver(pod(0));
        let question = Question {
            caller: &driver,
            action: ActionKind::ReadSecret,
            resource: &Resource::Instance,
        };
        assert_eq!(memo.find(question), None, "a driver is another caller");
    }

    fn pod(number: u32) -> Arc<PodIdentity> {
        let object = |name: &str| ObjectId {
            name: name.parse().unwrap(),
            uid: format!("uid-{number}").parse().unwrap(),
        };
        Arc::new(PodIdentity {
            account: ServiceAccount {
                tenant: Tenant {
                    cluster: "east".parse().unwrap(),
                    namespace: "payments".parse().unwrap(),
                },
                id: ObjectId {
                    uid: "uid".parse().unwrap(),
                    ..object("api")
                },
            },
            pod: object("pod"),
            node: object("node"),
            token: format!("token-{number}").parse().unwrap(),
        })
    }
}
