//! Schedules and requests of rotations, from their messages.

use std::time::Duration;

use strongroom_api::strongroom::v1::{self as wire, request_rotation_request::Target};
use strongroom_core::{HandledRequest, RotationSchedule, RotationWindow, UnixMillis};
use tonic::Status;

use crate::{
    grpc::parse::{duration, field, timestamp},
    service::{RotationRequest, RotationTarget},
};

/// None: by request only.
pub(super) fn schedule(
    given: Option<wire::RotationSchedule>,
) -> Result<Option<RotationSchedule>, Status> {
    let Some(wire::RotationSchedule { period, window }) = given else {
        return Ok(None);
    };
    let Some(period) = period else {
        return match window {
            None => Ok(None),
            Some(_) => Err(Status::invalid_argument(
                "rotation.window: needs a period, since it says when a rotation that is due may happen",
            )),
        };
    };
    let period = duration("rotation.period", period)?;
    let window = window.map(self::window).transpose()?;
    let schedule = RotationSchedule::new(period, window);
    let schedule = schedule.map_err(|error| wrong("rotation.period", &error))?;
    Ok(Some(schedule))
}

fn window(given: wire::RotationWindow) -> Result<RotationWindow, Status> {
    let wire::RotationWindow {
        cron,
        time_zone,
        duration: open,
    } = given;
    let open = open.map(|open| duration("rotation.window.duration", open));
    let open = open.transpose()?.unwrap_or(Duration::ZERO);
    RotationWindow::new(&cron, &time_zone, open).map_err(|error| wrong("rotation.window", &error))
}

fn wrong(field: &str, error: &dyn std::error::Error) -> Status {
    Status::invalid_argument(format!("{field}: {error}"))
}

pub(super) fn target(given: Option<Target>, ring: &str) -> Result<RotationTarget, Status> {
    match given {
        Some(Target::Key(key)) => Ok(RotationTarget::Key {
            ring: field("ring", ring)?,
            key: field("key", &key)?,
        }),
        Some(Target::Secret(secret)) => Ok(RotationTarget::Secret(field("secret", &secret)?)),
        None => Err(Status::invalid_argument("target: is required")),
    }
}

pub(super) fn request(id: &str, reason: &str) -> Result<RotationRequest, Status> {
    let reason = Some(reason).filter(|reason| !reason.is_empty());
    Ok(RotationRequest {
        id: field("request_id", id)?,
        reason: reason.map(|reason| field("reason", reason)).transpose()?,
    })
}

pub(super) fn response(handled: &HandledRequest) -> wire::RequestRotationResponse {
    wire::RequestRotationResponse {
        version: handled.version.to_string(),
        time: Some(timestamp(handled.time)),
    }
}

pub(super) fn next(rotation: Option<UnixMillis>) -> Option<prost_types::Timestamp> {
    rotation.map(timestamp)
}

#[cfg(test)]
mod tests {
    use prost_types::Duration as WireDuration;

    use super::*;

    fn seconds(seconds: i64) -> Option<WireDuration> {
        Some(WireDuration { seconds, nanos: 0 })
    }

    fn nightly() -> Option<wire::RotationWindow> {
        Some(wire::RotationWindow {
            cron: "0 3 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            duration: seconds(7200),
        })
    }

    fn parse(
        period: Option<WireDuration>,
        window: Option<wire::RotationWindow>,
    ) -> Result<Option<RotationSchedule>, String> {
        let given = wire::RotationSchedule { period, window };
        schedule(Some(given)).map_err(|status| status.message().to_owned())
    }

    #[test]
    fn without_a_period_there_is_no_schedule_and_no_window() {
        assert_eq!(schedule(None).unwrap(), None);
        assert_eq!(parse(None, None), Ok(None));
        let refused = parse(None, nightly()).unwrap_err();
        assert!(refused.starts_with("rotation.window: needs a period"));
    }

    #[test]
    fn a_schedule_is_what_was_given() {
        let schedule = parse(seconds(3600), nightly()).unwrap().unwrap();
        assert_eq!(schedule.period(), Duration::from_secs(3600));
        let window = schedule.window().unwrap();
        assert_eq!(window.cron(), "0 3 * * *");
        assert_eq!(window.time_zone(), "Europe/Berlin");
        assert_eq!(window.duration(), Duration::from_secs(7200));
    }

    #[test]
    fn what_is_wrong_is_said_by_field() {
        let wrong = |period, change: fn(&mut wire::RotationWindow)| {
            let mut window = nightly();
            window.as_mut().map(change);
            parse(period, window).unwrap_err()
        };
        for (said, words) in [
            (
                wrong(seconds(60), |_| {}),
                "rotation.period: a rotation period is",
            ),
            (
                wrong(seconds(-1), |_| {}),
                "rotation.period: a duration is not",
            ),
            (
                wrong(seconds(3600), |it| it.cron.clear()),
                "rotation.window: \"\" is not a time of cron",
            ),
            (
                wrong(seconds(3600), |it| it.duration = None),
                "rotation.window: a window is open for",
            ),
            (
                wrong(seconds(3600), |it| "Berlin".clone_into(&mut it.time_zone)),
                "rotation.window: \"Berlin\" is no name",
            ),
        ] {
            assert!(said.starts_with(words), "{said}");
        }
    }
}
