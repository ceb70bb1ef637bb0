//! Clocks that are turned, slow and fast, and machines that are switched off.

use proptest::prelude::*;

use super::*;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const MONTH: i64 = 31 * DAY;
const START: i64 = 1_800_000_000_000;

/// That many seconds after the start by the wall clock and by the boot clock.
fn reading(wall: i64, boot: i64) -> Reading {
    Reading {
        wall: UnixMillis::new(START + wall * 1000),
        elapsed: Duration::from_secs(boot.unsigned_abs()),
        boot: BootId([1; 16]),
    }
}

fn after_boot(wall: i64, boot: i64) -> Reading {
    Reading {
        boot: BootId([2; 16]),
        ..reading(wall, boot)
    }
}

fn at(wall: i64) -> UnixMillis {
    reading(wall, 0).wall
}

fn jump(noticed: i64, ahead: i64) -> Jump {
    Jump {
        noticed: at(noticed),
        ahead_millis: ahead * 1000,
    }
}

/// Begins at 0 with the boot clock at 100.
fn begun() -> ServiceTime {
    ServiceTime::resume(None, reading(0, 100))
}

#[test]
fn a_month_forwards_or_back_is_a_jump_until_it_is_confirmed() {
    for turned in [MONTH, -MONTH, 61, -61] {
        let mut time = begun();
        time.observe(reading(turned + 10, 110));
        assert_eq!(time.settled(), Err(jump(10, turned)));
        // Set right again: somebody must still look what happened meanwhile.
        time.observe(reading(20, 120));
        assert_eq!(time.settled(), Err(jump(10, turned)));
        let mut restarted = ServiceTime::resume(Some(time.mark()), reading(30, 130));
        assert_eq!(restarted.settled(), Err(jump(10, turned)));
        restarted.confirm(TimeMark::believing(reading(40, 140)));
        assert_eq!(restarted.settled(), Ok(at(40)));
        assert_eq!(restarted.now(), at(40));
    }
}

#[test]
fn a_clock_that_is_turned_back_does_not_stop_the_time() {
    let mut time = begun();
    time.observe(reading(-MONTH, 110));
    assert_eq!(time.now(), at(10));
    time.observe(reading(HOUR - MONTH, 110 + HOUR));
    assert_eq!(time.now(), at(10 + HOUR));
    // Also in the next boot, of which nothing else is known.
    let mut booted = ServiceTime::resume(Some(time.mark()), after_boot(HOUR - MONTH, 5));
    assert_eq!(booted.now(), at(10 + HOUR));
    booted.observe(after_boot(HOUR - MONTH, 5 + HOUR));
    assert_eq!(booted.now(), at(10 + 2 * HOUR));
}

#[test]
fn a_confirmed_clock_that_was_ahead_goes_back() {
    let mut time = begun();
    time.observe(reading(MONTH, 100));
    time.confirm(TimeMark::believing(reading(MONTH, 100)));
    time.observe(reading(10, 110));
    assert_eq!(time.settled(), Err(jump(MONTH + 10, -MONTH)));
    time.confirm(TimeMark::believing(reading(20, 120)));
    assert_eq!(time.now(), at(20));
}

#[test]
fn a_correction_of_a_minute_is_no_jump() {
    for turned in [MINUTE, -MINUTE] {
        let mut time = begun();
        time.observe(reading(turned + 1, 101));
        assert_eq!(time.settled(), Ok(at(turned + 1).max(at(0))));
    }
}

#[test]
fn many_small_steps_are_a_jump() {
    let mut time = begun();
    for step in 1..=10 {
        time.observe(reading(step * 11, 100 + step));
    }
    assert!(time.settled().is_err());
}

#[test]
fn a_clock_that_is_slightly_fast_is_believed_for_ever() {
    let mut time = ServiceTime::resume(None, reading(0, 0));
    for hour in 1..10_000 {
        let boot = hour * HOUR;
        // 100 ppm.
        time.observe(reading(boot + boot / 10_000, boot));
        assert!(time.settled().is_ok());
    }
}

#[test]
fn a_jump_while_the_service_was_away_is_seen_at_its_start() {
    let before = begun().mark();
    let time = ServiceTime::resume(Some(before), reading(7_000, 200));
    assert_eq!(time.settled(), Err(jump(100, 6_900)));
}

#[test]
fn a_long_time_without_power_is_no_jump_but_a_clock_behind_is() {
    let before = begun().mark();
    let time = ServiceTime::resume(Some(before), after_boot(365 * DAY, 5));
    assert_eq!(time.settled(), Ok(at(365 * DAY)));
    let time = ServiceTime::resume(Some(before), after_boot(-MONTH, 5));
    assert_eq!(time.settled(), Err(jump(0, -MONTH)));
    assert_eq!(time.now(), before.floor);
}

#[test]
fn a_boot_begins_a_comparison_of_its_own() {
    let before = begun().mark();
    let mut time = ServiceTime::resume(Some(before), after_boot(DAY, 5));
    time.observe(after_boot(DAY + MONTH, 6));
    assert_eq!(time.settled(), Err(jump(DAY + 1, MONTH - 1)));
}

#[test]
fn a_month_ahead_does_not_become_the_floor() {
    let mut time = begun();
    time.observe(reading(MONTH, 101));
    assert_eq!(time.now(), at(MONTH));
    assert_eq!(time.believed(), at(1));
}

#[test]
fn what_is_written_is_replaced_in_time() {
    let an_hour = Duration::from_secs(HOUR.unsigned_abs());
    let mut time = begun();
    let written = time.mark();
    let replaces = |mark: TimeMark| mark.replaces(&written, an_hour);
    assert!(!replaces(written));
    time.observe(reading(HOUR - 1, 100 + HOUR - 1));
    assert!(!replaces(time.mark()));
    time.observe(reading(HOUR, 100 + HOUR));
    assert!(replaces(time.mark()));

    let booted = ServiceTime::resume(Some(written), after_boot(1, 5));
    assert!(replaces(booted.mark()));
    let mut turned = begun();
    turned.observe(reading(MONTH, 101));
    assert!(replaces(turned.mark()));
    assert!(written.replaces(&turned.mark(), an_hour), "a confirmation");
}

proptest! {
    #[test]
    fn service_time_of_an_unturned_clock_never_goes_back(
        steps in prop::collection::vec((0_i64..200_000, -20_i64..20), 1..50)
    ) {
        let mut boot = 0;
        let mut time = ServiceTime::resume(None, reading(0, 0));
        for (step, noise) in steps {
            boot += step;
            let before = time.now();
            time.observe(reading(boot + noise, boot));
            prop_assert!(time.settled().is_ok());
            prop_assert!(time.now() >= before);
            // What is written down and read again says the same.
            let again = ServiceTime::resume(Some(time.mark()), reading(boot + noise, boot));
            prop_assert_eq!(again.now(), time.now());
            time = again;
        }
    }

    #[test]
    fn whatever_the_clock_does_time_is_never_before_what_was_believed(
        readings in prop::collection::vec(
            (-10_000_000_i64..10_000_000, 0_i64..10_000_000, 0_u8..3),
            1..50,
        )
    ) {
        let mut time = ServiceTime::resume(None, reading(0, 0));
        for (wall, boot_clock, boot) in readings {
            let floor = time.mark().floor;
            time.observe(Reading { boot: BootId([boot; 16]), ..reading(wall, boot_clock) });
            prop_assert!(time.now() >= floor);
            prop_assert!(time.mark().floor >= floor);
        }
    }

    #[test]
    fn a_jump_stays_the_same_whatever_follows(
        readings in prop::collection::vec((-10_000_000_i64..10_000_000, 0_i64..10_000_000), 1..50)
    ) {
        let mut time = begun();
        time.observe(reading(MONTH, 100));
        for (wall, boot_clock) in readings {
            time.observe(reading(wall, 100 + boot_clock));
            prop_assert_eq!(time.settled(), Err(jump(0, MONTH)));
        }
    }
}
