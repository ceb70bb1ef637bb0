//! Windows: what is refused, what clocks that are turned do to them, and a slow reading of the same rule.

use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn window(cron: &str, zone: &str) -> RotationWindow {
    RotationWindow::new(cron, zone, HOUR).expect("is a window")
}

fn at(rfc3339: &str) -> UnixMillis {
    let time: Timestamp = rfc3339.parse().expect("is a time");
    UnixMillis::new(time.as_millisecond())
}

fn openings(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let window = window(cron, zone);
    let next = |moment: &UnixMillis| window.opening_after(*moment);
    let all = std::iter::successors(Some(at(after)), next).skip(1);
    let text = |moment: UnixMillis| Timestamp::from_millisecond(moment.as_i64()).unwrap();
    all.take(count).map(|it| text(it).to_string()).collect()
}

#[test]
fn a_window_opens_at_the_time_that_its_clock_shows() {
    assert_eq!(
        openings("0 3 * * 1-5", "Europe/Berlin", "2026-11-19T12:00:00Z", 3),
        [
            "2026-11-20T02:00:00Z",
            "2026-11-23T02:00:00Z",
            "2026-11-24T02:00:00Z"
        ]
    );
    assert_eq!(
        openings("30 22 1,15 JAN,JUL *", "", "2026-01-01T22:30:00Z", 2),
        ["2026-01-15T22:30:00Z", "2026-07-01T22:30:00Z"]
    );
}

#[test]
fn an_hour_that_the_clock_skips_opens_at_the_skip() {
    let berlin = |cron| openings(cron, "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
    let skip = "2026-03-29T01:00:00Z";
    assert_eq!(berlin("30 2 * * *"), [skip, "2026-03-30T00:30:00Z"]);
    assert_eq!(berlin("0 3 * * *"), [skip, "2026-03-30T01:00:00Z"]);
    // Half an hour is skipped here.
    assert_eq!(
        openings(
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00:00Z",
            1
        ),
        ["2026-10-03T15:30:00Z"]
    );
    // The 30th of December is.
    assert_eq!(
        openings("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", 1),
        ["2011-12-30T10:00:00Z"]
    );
}

#[test]
fn an_hour_that_the_clock_shows_twice_opens_once() {
    assert_eq!(
        openings("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
        ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // Also for somebody who asks while it is shown for the second time.
    assert_eq!(
        openings("*/30 2 * * *", "Europe/Berlin", "2026-10-25T01:15:00Z", 1),
        ["2026-10-26T01:00:00Z"]
    );
}

#[test]
fn a_window_stays_open_for_its_duration_whatever_the_clock_shows() {
    let window = window("30 1 * * *", "Europe/Berlin");
    let opened = at("2026-03-29T00:30:00Z");
    assert_eq!(
        window.open_from(at("2026-03-29T01:29:59.999Z")),
        Some(opened)
    );
    assert_eq!(
        window.open_from(at("2026-03-29T01:30:00Z")),
        Some(at("2026-03-29T23:30:00Z"))
    );
}

#[test]
fn what_only_some_crons_know_is_refused() {
    for cron in [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * * 13 *",
        "* * * * 8",
        "5-1 * * * *",
        "0 0 L * *",
        "0 0 15W * *",
        "0 0 * * 5L",
        "0 0 * * 5#2",
        "H * * * *",
        "*/0 * * * *",
        "0 0 * * * UTC",
        "0 3 * * 1-5\n",
        "* * * * X",
        &format!("{} * * * *", "0,".repeat(80)),
    ] {
        assert_eq!(
            RotationWindow::new(cron, "UTC", HOUR),
            Err(WindowError::Cron(cron.to_owned())),
            "{cron:?}"
        );
    }
}

#[test]
fn a_window_that_never_opens_is_refused() {
    let refused = RotationWindow::new("0 0 30 2 *", "", HOUR);
    assert_eq!(
        refused,
        Err(WindowError::NeverOpens("0 0 30 2 *".to_owned()))
    );
    assert!(RotationWindow::new("0 0 29 2 *", "", HOUR).is_ok());
}

#[test]
fn time_zones_are_those_of_the_database_wherever_the_program_runs() {
    for zone in ["UTC", "Asia/Shanghai", "America/Argentina/Ushuaia", "CET"] {
        assert!(
            RotationWindow::new("0 0 * * *", zone, HOUR).is_ok(),
            "{zone}"
        );
    }
    for zone in [
        "Europe/Bielefeld",
        "Local",
        "+02:00",
        "Etc/Unknown",
        "CET-1CEST",
        "../UTC",
    ] {
        let refused = RotationWindow::new("0 0 * * *", zone, HOUR);
        assert_eq!(refused, Err(WindowError::TimeZone(zone.to_owned())));
    }
}

#[test]
fn windows_are_open_for_ten_minutes_to_seven_days() {
    let open_for = |seconds| RotationWindow::new("0 0 * * *", "", Duration::from_secs(seconds));
    for seconds in [0, 599, 7 * 24 * 3600 + 1] {
        assert_eq!(open_for(seconds), Err(WindowError::Duration), "{seconds}");
    }
    for seconds in [600, 7 * 24 * 3600] {
        assert!(open_for(seconds).is_ok(), "{seconds}");
    }
}

/// The rule as it is told: minute by minute, whenever the clock shows what it never showed before.
fn slowly_opened(minute: i8, hour: i8, zone: &TimeZone, first: Timestamp) -> Vec<i64> {
    let minutes = (0..3 * 24 * 60).map(|passed| first + Duration::from_secs(60 * passed));
    let mut latest = zone.to_datetime(first - Duration::from_secs(60));
    let mut opened = Vec::new();
    for moment in minutes {
        let shows = zone.to_datetime(moment);
        while latest < shows {
            latest += Duration::from_secs(60);
            if (latest.hour(), latest.minute()) == (hour, minute) {
                opened.push(moment.as_millisecond());
            }
        }
    }
    opened.dedup();
    opened
}

proptest! {
    #[test]
    fn openings_are_those_of_the_rule_around_turns_of_the_clock(
        hour in 0_i8..24,
        minute in 0_i8..60,
        place in 0_usize..5,
        ask in 0_u64..2 * 24 * 60 * 60 * 1000,
    ) {
        let (zone, day) = [
            ("Europe/Berlin", date(2026, 3, 28)),
            ("Europe/Berlin", date(2026, 10, 24)),
            ("America/New_York", date(2026, 11, 1)),
            ("Australia/Lord_Howe", date(2026, 10, 3)),
            ("Africa/Casablanca", date(2026, 2, 14)),
        ][place];
        let clock = TimeZoneDatabase::bundled().get(zone).unwrap();
        let first = TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).unwrap();
        let asked = UnixMillis::new(first.as_millisecond()).plus(Duration::from_millis(ask));

        let expected = slowly_opened(minute, hour, &clock, first)
            .into_iter()
            .find(|opened| *opened > asked.as_i64());
        let opening = window(&format!("{minute} {hour} * * *"), zone).opening_after(asked);
        prop_assert_eq!(opening.map(UnixMillis::as_i64), expected);
    }
}
