//! Values as custom resources write them and as the key service reads them.

use jiff::{SignedDuration, Timestamp};
use prost_types::Duration;
use strongroom_api::strongroom::v1 as wire;

use super::{Blocked, Reason};
use crate::crds::Window;

/// Reads when new versions are made.
///
/// # Errors
///
/// When a duration is none, which the API server has refused before.
pub fn rotation(
    period: Option<&str>,
    window: Option<&Window>,
) -> Result<Option<wire::RotationSchedule>, Blocked> {
    let Some(period) = period else {
        return Ok(None);
    };
    let window = window.map(|window| {
        Ok::<_, Blocked>(wire::RotationWindow {
            cron: window.cron.clone(),
            time_zone: window.time_zone.clone().unwrap_or_default(),
            duration: Some(duration(&window.duration)?),
        })
    });
    Ok(Some(wire::RotationSchedule {
        period: Some(duration(period)?),
        window: window.transpose()?,
    }))
}

fn duration(text: &str) -> Result<Duration, Blocked> {
    let parsed: Result<SignedDuration, _> = text.parse();
    parsed
        .map(|duration| Duration {
            seconds: duration.as_secs(),
            nanos: duration.subsec_nanos(),
        })
        .map_err(|_| Blocked {
            reason: Reason::Invalid,
            message: format!("{text:?} is no duration such as 720h"),
        })
}

/// Reads permission bits such as `0440`; nothing stands for the default.
pub fn file_mode(text: Option<&str>) -> u32 {
    // The API server lets octal digits through and nothing else.
    text.map_or(0, |text| u32::from_str_radix(text, 8).unwrap_or(0))
}

/// Writes a time of the key service.
pub fn time(time: Option<&prost_types::Timestamp>) -> Option<String> {
    version_time(time).map(|time| time.to_string())
}

/// Reads a time of the key service, to the second.
pub fn version_time(time: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    Timestamp::from_second(time?.seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, seconds) in [
            ("720h", 2_592_000),
            ("1h30m", 5400),
            ("90m", 5400),
            ("1.5h", 5400),
        ] {
            assert_eq!(duration(text).unwrap().seconds, seconds, "{text}");
        }
        assert_eq!(duration("soon").unwrap_err().reason, Reason::Invalid);
    }

    #[test]
    fn window_without_a_zone_is_in_utc() {
        let window = Window {
            cron: "0 3 * * 1-5".to_owned(),
            time_zone: None,
            duration: "2h".to_owned(),
        };
        let schedule = rotation(Some("720h"), Some(&window)).unwrap().unwrap();
        let window = schedule.window.unwrap();
        assert_eq!(
            (window.time_zone.as_str(), window.duration.unwrap().seconds),
            ("", 7200)
        );
        assert!(rotation(None, None).unwrap().is_none());
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!(file_mode(Some("0440")), 0o440);
        assert_eq!(file_mode(None), 0);
    }

    #[test]
    fn times_are_written_to_the_second() {
        let stamp = prost_types::Timestamp {
            seconds: 0,
            nanos: 5,
        };
        assert_eq!(time(Some(&stamp)).unwrap(), "1970-01-01T00:00:00Z");
    }
}
