//! Schedules and handled requests, from and to the bytes of the store.

use std::time::Duration;

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{
    HandledRequest, HandledRequests, RotationSchedule, RotationWindow, UnixMillis,
};

use super::codec::{DecodeError, Decoded, version_id};

pub(super) fn encode_schedule(schedule: &RotationSchedule) -> wire::RotationSchedule {
    let window = schedule.window().map(|window| wire::RotationWindow {
        cron: window.cron().to_owned(),
        time_zone: window.time_zone().to_owned(),
        duration_ms: millis(window.duration()),
    });
    wire::RotationSchedule {
        period_ms: millis(schedule.period()),
        window,
    }
}

pub(super) fn decode_schedule(
    record: Option<wire::RotationSchedule>,
) -> Decoded<Option<RotationSchedule>> {
    let Some(wire::RotationSchedule { period_ms, window }) = record else {
        return Ok(None);
    };
    let window = window.map(|window| {
        let duration = Duration::from_millis(window.duration_ms);
        RotationWindow::new(&window.cron, &window.time_zone, duration)
    });
    let window = window.transpose().map_err(|_| DecodeError("window"))?;
    let schedule = RotationSchedule::new(Duration::from_millis(period_ms), window);
    schedule.map(Some).map_err(|_| DecodeError("period_ms"))
}

pub(super) fn encode_requests(requests: &HandledRequests) -> Vec<wire::HandledRequest> {
    let encode = |handled: &HandledRequest| wire::HandledRequest {
        id: handled.id.to_string(),
        epoch: handled.version.epoch.get(),
        number: handled.version.number.get(),
        time_ms: handled.time.as_i64(),
    };
    requests.iter().map(encode).collect()
}

pub(super) fn decode_requests(records: &[wire::HandledRequest]) -> Decoded<HandledRequests> {
    let decode = |record: &wire::HandledRequest| {
        Ok(HandledRequest {
            id: record.id.parse().map_err(|_| DecodeError("request"))?,
            version: version_id(record.epoch, record.number)?,
            time: UnixMillis::new(record.time_ms),
        })
    };
    records.iter().map(decode).collect()
}

/// Schedules are bounded far below the range.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windowed() -> wire::RotationSchedule {
        wire::RotationSchedule {
            period_ms: 3_600_000,
            window: Some(wire::RotationWindow {
                cron: "0 3 * * *".to_owned(),
                time_zone: "Europe/Berlin".to_owned(),
                duration_ms: 600_000,
            }),
        }
    }

    #[test]
    fn a_schedule_reads_back_what_it_wrote() {
        let schedule = decode_schedule(Some(windowed())).expect("is one");
        let schedule = schedule.expect("is there");
        assert!(encode_schedule(&schedule) == windowed());
        assert_eq!(decode_schedule(None).expect("is none"), None);
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let refused = |change: fn(&mut wire::RotationSchedule)| {
            let mut record = windowed();
            change(&mut record);
            decode_schedule(Some(record)).expect_err("is refused").0
        };
        assert_eq!(refused(|it| it.period_ms = 1), "period_ms");
        let cron =
            |it: &mut wire::RotationSchedule| it.window = Some(wire::RotationWindow::default());
        assert_eq!(refused(cron), "window");
        let handled = |id: &str, number| wire::HandledRequest {
            id: id.to_owned(),
            epoch: 1,
            number,
            time_ms: 7,
        };
        let refused = |record| decode_requests(&[record]).expect_err("is refused").0;
        assert_eq!(refused(handled("", 1)), "request");
        assert_eq!(refused(handled("a", 0)), "version number");
        let kept = decode_requests(&[handled("a", 1)]).expect("is one");
        assert!(encode_requests(&kept) == [handled("a", 1)]);
    }
}
