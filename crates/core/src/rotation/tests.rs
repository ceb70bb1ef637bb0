//! The decision: what is due when, and what holds whatever happened in between.

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// 2026-11-22T00:00:00Z, a Sunday.
const MIDNIGHT: i64 = 1_795_305_600_000;

fn at(millis: i64) -> UnixMillis {
    UnixMillis::new(millis)
}

fn millis(duration: i64) -> Duration {
    Duration::from_millis(duration.unsigned_abs())
}

fn every(period: i64) -> RotationSchedule {
    RotationSchedule::new(millis(period), None).unwrap()
}

fn within(period: i64, cron: &str, duration: i64) -> RotationSchedule {
    let window = RotationWindow::new(cron, "", millis(duration)).unwrap();
    RotationSchedule::new(millis(period), Some(window)).unwrap()
}

/// As a job does it that looks at the schedule at these moments.
fn rotated(schedule: &RotationSchedule, created: i64, looks: &[i64]) -> Vec<i64> {
    let (mut last, mut rotated) = (at(created), Vec::new());
    for look in looks {
        let now = at(*look);
        if schedule.next(last, now).is_some_and(|next| next <= now) {
            rotated.push(*look);
            last = now;
        }
    }
    rotated
}

#[test]
fn a_version_is_replaced_when_it_is_as_old_as_the_period() {
    let daily = every(DAY);
    let due = at(MIDNIGHT + DAY);
    for now in [
        MIDNIGHT,
        MIDNIGHT + DAY - 1,
        MIDNIGHT + DAY,
        MIDNIGHT + 9 * DAY,
    ] {
        assert_eq!(daily.next(at(MIDNIGHT), at(now)), Some(due));
    }
}

#[test]
fn a_rotation_that_is_due_waits_for_its_window() {
    let nightly = within(10 * DAY, "0 3 * * *", 2 * HOUR);
    let (created, opens) = (MIDNIGHT + 12 * HOUR, MIDNIGHT + 11 * DAY + 3 * HOUR);
    assert_eq!(nightly.next(at(created), at(created)), Some(at(opens)));
    assert_eq!(
        rotated(
            &nightly,
            created,
            &[opens - 15 * HOUR, opens - 1, opens, opens + 1]
        ),
        [opens]
    );
}

#[test]
fn a_rotation_that_is_due_within_its_window_happens_at_once() {
    let nightly = within(DAY, "0 3 * * *", 2 * HOUR);
    let created = MIDNIGHT + 4 * HOUR;
    assert_eq!(
        nightly.next(at(created), at(created)),
        Some(at(created + DAY))
    );
}

#[test]
fn a_window_that_was_missed_is_made_up_for_in_the_next_one() {
    let weekly = within(DAY, "0 2 * * 6", 4 * HOUR);
    let saturday = MIDNIGHT + 6 * DAY;
    let closed = saturday + 6 * HOUR;
    assert_eq!(
        weekly.next(at(MIDNIGHT), at(closed - 1)),
        Some(at(saturday + 2 * HOUR))
    );
    assert_eq!(
        weekly.next(at(MIDNIGHT), at(closed)),
        Some(at(saturday + 7 * DAY + 2 * HOUR))
    );
}

#[test]
fn however_many_periods_passed_one_rotation_makes_up_for_them() {
    let back = MIDNIGHT + 30 * DAY + 17;
    let looks = [back, back + 1, back + DAY - MINUTE, back + DAY];
    assert_eq!(rotated(&every(DAY), MIDNIGHT, &looks), [back, back + DAY]);
}

#[test]
fn a_clock_that_went_backwards_rotates_nothing() {
    let next = every(HOUR).next(at(MIDNIGHT + 10 * DAY), at(MIDNIGHT));
    assert_eq!(next, Some(at(MIDNIGHT + 10 * DAY + HOUR)));
}

#[test]
fn schedules_are_told_in_words() {
    assert_eq!(every(90 * MINUTE).to_string(), "every 1h 30m");
    let window = RotationWindow::new("0 3 * * 1-5", "Europe/Berlin", millis(2 * HOUR)).unwrap();
    let weekdays = RotationSchedule::new(millis(30 * DAY), Some(window)).unwrap();
    assert_eq!(
        weekdays.to_string(),
        "every 720h, in 2h from 0 3 * * 1-5 Europe/Berlin"
    );
}

#[test]
fn periods_have_limits() {
    for seconds in [0, 3599, 3650 * 24 * 3600 + 1] {
        let refused = RotationSchedule::new(Duration::from_secs(seconds), None);
        assert_eq!(refused, Err(InvalidPeriod), "{seconds}");
    }
    for seconds in [3600, 3650 * 24 * 3600] {
        assert!(RotationSchedule::new(Duration::from_secs(seconds), None).is_ok());
    }
}

fn schedules() -> impl Strategy<Value = RotationSchedule> {
    let crons = prop::sample::select(vec![
        "0 3 * * *",
        "30 2 * * 6",
        "*/5 * * * *",
        "0 0 1 * *",
        "15 12 * JAN,JUL 1-5",
    ]);
    let zones = prop::sample::select(vec!["", "Europe/Berlin", "America/New_York"]);
    let window = (crons, zones, 10_i64..7 * 24 * 60).prop_map(|(cron, zone, minutes)| {
        RotationWindow::new(cron, zone, millis(minutes * MINUTE)).unwrap()
    });
    (1_i64..1000, prop::option::of(window))
        .prop_map(|(hours, window)| RotationSchedule::new(millis(hours * HOUR), window).unwrap())
}

/// Whether some window is open, looked up in another way than the decision does: by what opened in the last duration.
fn is_open(window: &RotationWindow, now: UnixMillis) -> bool {
    let opened = window.open_from(now);
    opened.is_some_and(|opened| opened <= now && now.since(opened) < window.duration())
}

proptest! {
    #[test]
    fn nothing_is_due_before_the_period_has_passed_or_outside_a_window(
        schedule in schedules(),
        last in 0_i64..DAY,
        later in 0_i64..100 * DAY,
    ) {
        let (last, now) = (at(MIDNIGHT + last), at(MIDNIGHT + last + later));
        let next = schedule.next(last, now).unwrap();
        prop_assert!(next.since(last) + millis(MINUTE) > schedule.period());
        if next <= now && let Some(window) = schedule.window() {
            prop_assert!(is_open(window, now));
        }
    }

    #[test]
    fn no_open_window_is_let_pass(
        schedule in schedules(),
        later in 0_i64..100 * DAY,
        between in 0.0..1.0_f64,
    ) {
        let (last, now) = (at(MIDNIGHT), at(MIDNIGHT + later));
        let next = schedule.next(last, now).unwrap();
        let from = now.max(last.plus(schedule.period()));
        // Somewhere between the earliest possible moment and the answer nothing is open.
        let passed = from.plus(next.since(from).mul_f64(between));
        if passed < next && let Some(window) = schedule.window() {
            prop_assert!(!is_open(window, passed));
        }
    }

    #[test]
    fn one_rotation_is_enough_whenever_it_happens(
        schedule in schedules(),
        later in 0_i64..1000 * DAY,
    ) {
        let now = at(MIDNIGHT + later);
        prop_assert!(schedule.next(now, now).unwrap() > now);
    }

    #[test]
    fn a_daily_rotation_that_takes_its_time_misses_no_window(
        delays in prop::collection::vec(0..MINUTE, 30),
    ) {
        let nightly = within(DAY, "0 3 * * *", 10 * MINUTE);
        let (mut last, mut rotations) = (at(MIDNIGHT), 0);
        for (day, delay) in (1..).zip(delays) {
            let opens = MIDNIGHT + day * DAY + 3 * HOUR;
            prop_assert_eq!(nightly.next(last, last), Some(at(opens)));
            last = at(opens + delay);
            rotations += 1;
        }
        prop_assert_eq!(rotations, 30);
    }
}
