//! What is said about an object, as conditions that `kubectl wait`, Flux and Argo CD understand.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{AccessVerdict, Blocked, Reason};
use crate::crds::{Condition, Truth};

/// Longest message that is written.
const MESSAGE_MAX_CHARS: usize = 500;

/// Whether an object will be ready by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Nothing more is done.
    Settled,
    /// It will, once something else is there.
    Reconciling,
    /// Not before its spec is changed.
    Stalled,
}

/// What is said about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it is as it is written.
    pub ready: bool,
    /// Why.
    pub reason: Reason,
    /// In a sentence; may be empty.
    pub message: String,
    /// What will be.
    pub course: Course,
    /// What is said about bindings, where it is known.
    pub access: Option<AccessVerdict>,
}

impl Verdict {
    /// It is as it is written.
    pub fn ready(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            ready: true,
            reason,
            message: message.into(),
            course: Course::Settled,
            access: None,
        }
    }

    /// It is not, and that is how it `course` is.
    pub fn not_ready(reason: Reason, message: impl Into<String>, course: Course) -> Self {
        Self {
            ready: false,
            course,
            ..Self::ready(reason, message)
        }
    }

    /// With what is said about bindings.
    #[must_use]
    pub fn with_access(mut self, access: &AccessVerdict) -> Self {
        self.access = Some(access.clone());
        self
    }
}

impl From<Blocked> for Verdict {
    fn from(Blocked { reason, message }: Blocked) -> Self {
        Self::not_ready(reason, message, Course::Reconciling)
    }
}

/// Returns the conditions of an object; what has not changed keeps its time.
pub fn conditions(
    before: &[Condition],
    verdict: &Verdict,
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    let ready = if verdict.ready {
        Truth::True
    } else {
        Truth::False
    };
    let reason = verdict.reason;
    let mut all = vec![("Ready", ready, reason, verdict.message.as_str())];
    match verdict.course {
        Course::Settled => {}
        Course::Reconciling => {
            all.push(("Reconciling", Truth::True, reason, verdict.message.as_str()));
        }
        Course::Stalled => all.push(("Stalled", Truth::True, reason, verdict.message.as_str())),
    }
    match reason {
        Reason::RingNotFound
        | Reason::RingAmbiguous
        | Reason::SecretNotFound
        | Reason::SecretsMissing => {
            all.push(("ResolvedRefs", Truth::False, reason, &verdict.message));
        }
        _ => all.push((
            "ResolvedRefs",
            Truth::True,
            Reason::Resolved,
            "what it names is there",
        )),
    }
    if let Some(access) = &verdict.access {
        all.push((
            "AccessApplied",
            access.status,
            access.reason,
            &access.message,
        ));
    } else if let Some(kept) = find(before, "AccessApplied") {
        // Nothing new is known.
        let mut found = all
            .into_iter()
            .map(|it| condition(before, it, generation, now))
            .collect::<Vec<_>>();
        found.push(kept.clone());
        return found;
    }
    all.into_iter()
        .map(|it| condition(before, it, generation, now))
        .collect()
}

fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

fn condition(
    before: &[Condition],
    (type_, status, reason, message): (&str, Truth, Reason, &str),
    generation: i64,
    now: Timestamp,
) -> Condition {
    let unchanged = find(before, type_).filter(|condition| condition.status == status);
    Condition {
        type_: type_.to_owned(),
        status,
        observed_generation: generation,
        last_transition_time: match unchanged {
            Some(condition) => condition.last_transition_time.clone(),
            None => to_the_second(now),
        },
        reason: reason.word().to_owned(),
        message: message.chars().take(MESSAGE_MAX_CHARS).collect(),
    }
}

/// A time as the API server keeps it: otherwise each comparison would find a difference.
pub fn to_the_second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Says whether people were told how this generation of an object is.
pub fn is_told(conditions: &[Condition], generation: i64) -> bool {
    find(conditions, "Ready").is_some_and(|ready| ready.observed_generation == generation)
}

/// Returns reason and message of each condition that has become bad.
pub fn warnings(before: &[Condition], after: &[Condition]) -> Vec<(String, String)> {
    let bad = |condition: &&Condition| {
        condition.status == Truth::False
            && ["Ready", "AccessApplied"].contains(&condition.type_.as_str())
    };
    let is_new = |condition: &&Condition| {
        find(before, &condition.type_).is_none_or(|before| {
            before.status != condition.status || before.reason != condition.reason
        })
    };
    after
        .iter()
        .filter(bad)
        .filter(is_new)
        .map(|condition| (condition.reason.clone(), condition.message.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn told(conditions: &[Condition]) -> Vec<String> {
        let text = |it: &Condition| format!("{} {:?} {}", it.type_, it.status, it.reason);
        conditions.iter().map(text).collect()
    }

    fn blocked() -> Verdict {
        Verdict::from(Blocked {
            reason: Reason::RingNotFound,
            message: "no ring".to_owned(),
        })
    }

    #[test]
    fn what_waits_is_reconciling_and_what_is_wrong_is_stalled() {
        let conditions_of = |verdict| told(&conditions(&[], &verdict, 1, at(0)));
        assert_eq!(
            conditions_of(blocked()),
            [
                "Ready False RingNotFound",
                "Reconciling True RingNotFound",
                "ResolvedRefs False RingNotFound"
            ]
        );
        let wrong = Verdict::not_ready(Reason::Invalid, "", Course::Stalled);
        assert_eq!(
            conditions_of(wrong),
            [
                "Ready False Invalid",
                "Stalled True Invalid",
                "ResolvedRefs True Resolved"
            ]
        );
        assert_eq!(
            conditions_of(Verdict::ready(Reason::Applied, "")),
            ["Ready True Applied", "ResolvedRefs True Resolved"]
        );
    }

    #[test]
    fn time_is_that_of_the_last_change_of_status() {
        let first = conditions(&[], &blocked(), 1, at(10));
        let other = Verdict::not_ready(Reason::RingAmbiguous, "two", Course::Reconciling);
        let second = conditions(&first, &other, 2, at(20));
        assert!(second.iter().all(|it| it.last_transition_time.0 == at(10)));
        let third = conditions(&second, &Verdict::ready(Reason::Applied, ""), 2, at(30));
        assert!(third.iter().all(|it| it.last_transition_time.0 == at(30)));
    }

    #[test]
    fn what_is_known_of_bindings_outlives_an_outage() {
        let access = AccessVerdict {
            status: Truth::False,
            reason: Reason::AccountNotFound,
            message: String::new(),
        };
        let ready = Verdict::ready(Reason::Applied, "").with_access(&access);
        let before = conditions(&[], &ready, 1, at(0));
        let after = conditions(&before, &blocked(), 2, at(1));
        assert_eq!(
            find(&after, "AccessApplied"),
            find(&before, "AccessApplied")
        );
    }

    #[test]
    fn only_what_has_become_bad_is_warned_of() {
        let bad = conditions(&[], &blocked(), 1, at(0));
        assert_eq!(
            warnings(&[], &bad),
            [("RingNotFound".to_owned(), "no ring".to_owned())]
        );
        assert_eq!(warnings(&bad, &bad), []);
        let good = conditions(&bad, &Verdict::ready(Reason::Applied, ""), 1, at(0));
        assert_eq!(warnings(&bad, &good), []);
    }

    proptest! {
        #[test]
        fn saying_the_same_again_changes_nothing(
            ready: bool, course in 0..3_usize, earlier in 0..1_000_i64, later in 0..1_000_i64,
        ) {
            let course = [Course::Settled, Course::Reconciling, Course::Stalled][course];
            let verdict = Verdict { ready, course, ..blocked() };
            let first = conditions(&[], &verdict, 3, at(earlier));
            prop_assert_eq!(&conditions(&first, &verdict, 3, at(later)), &first);
        }
    }
}
