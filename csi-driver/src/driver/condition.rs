//! Whether a volume holds what it should, in one sentence.

use std::time::Duration;

use crate::table::{Failure, State};

/// What kubelet is told of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether somebody should look.
    pub abnormal: bool,
    /// Why, or that all is well.
    pub message: String,
}

/// Judges a volume by what is known of it.
pub fn condition(state: &State, now: Duration, stale_after: Duration) -> Condition {
    let age = now.saturating_sub(state.confirmed);
    let is_stale = age > stale_after;
    let since = format!("last confirmed {} s ago", age.as_secs());
    let (abnormal, message) = match &state.failure {
        Some(Failure::Refused(sentence)) => (true, format!("{sentence}; {since}")),
        Some(Failure::Absent(sentence)) => (
            is_stale,
            format!("{sentence}; the pod may run without; {since}"),
        ),
        Some(Failure::Away(sentence)) => (is_stale, format!("{sentence}; {since}")),
        None if is_stale => (
            true,
            format!("kubelet has not published the volume again; {since}"),
        ),
        None => (false, since),
    };
    Condition { abnormal, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(failure: Option<Failure>, age: u64, abnormal: bool, message: &str) {
        let state = State {
            failure,
            confirmed: Duration::from_secs(100),
            ..State::default()
        };
        let now = Duration::from_secs(100 + age);
        let expected = Condition {
            abnormal,
            message: message.to_owned(),
        };
        assert_eq!(condition(&state, now, Duration::from_secs(180)), expected);
    }

    #[test]
    fn a_volume_of_which_the_key_service_has_just_spoken_is_fine() {
        check(None, 60, false, "last confirmed 60 s ago");
    }

    #[test]
    fn an_outage_is_abnormal_only_after_its_time() {
        let away = || Some(Failure::Away("nobody answers".to_owned()));
        check(
            away(),
            180,
            false,
            "nobody answers; last confirmed 180 s ago",
        );
        check(
            away(),
            181,
            true,
            "nobody answers; last confirmed 181 s ago",
        );
    }

    #[test]
    fn a_refusal_is_abnormal_at_once() {
        let refused = Some(Failure::Refused("no role".to_owned()));
        check(refused, 1, true, "no role; last confirmed 1 s ago");
    }

    #[test]
    fn what_the_pod_may_run_without_is_no_reason_to_look() {
        let absent = Some(Failure::Absent("there is no secret".to_owned()));
        let message = "there is no secret; the pod may run without; last confirmed 1 s ago";
        check(absent, 1, false, message);
    }

    #[test]
    fn a_volume_that_kubelet_forgot_is_abnormal() {
        check(
            None,
            181,
            true,
            "kubelet has not published the volume again; last confirmed 181 s ago",
        );
    }
}
