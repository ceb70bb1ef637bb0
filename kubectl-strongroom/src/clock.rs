//! `clock confirm`, and the clock of the key service as `status` shows it.

use std::io::Write;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use strongroom_api::strongroom::v1::{
    ClockJump, ConfirmClockRequest, ConfirmClockResponse, ServiceClock, clock_client::ClockClient,
};

use crate::{
    args::{ConfirmClockArgs, Format},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{Structured, write_structured},
    rpc::CallError,
};

/// Asks the key service to believe its machine's clock, and prints what came of it.
pub(crate) async fn confirm(
    args: ConfirmClockArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let ConfirmClockArgs { output, connection } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let mut client = ClockClient::new(connect(&settings).await?);
    let now = (environment.now)();
    let request = ConfirmClockRequest {
        now: Some(prost_types::Timestamp {
            seconds: now.as_second(),
            nanos: now.subsec_nanosecond(),
        }),
    };
    let answer = client
        .confirm(request)
        .await
        .map_err(|status| CallError::new("confirm the clock", status))?
        .into_inner();
    let report = Confirmation::new(answer);
    match output {
        Format::Json => write_structured(out, Structured::Json, &report)?,
        Format::Yaml => write_structured(out, Structured::Yaml, &report)?,
        Format::Table => writeln!(out, "{}", report.sentence())?,
    }
    Ok(Exit::Ok)
}

/// What `clock confirm -o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Confirmation {
    service_time: Option<Timestamp>,
    confirmed: Option<JumpReport>,
}

impl Confirmation {
    fn new(answer: ConfirmClockResponse) -> Self {
        let ConfirmClockResponse {
            service_time,
            confirmed,
        } = answer;
        Self {
            service_time: service_time.and_then(time),
            confirmed: confirmed.map(JumpReport::new),
        }
    }

    fn sentence(&self) -> String {
        let now = text(self.service_time);
        match &self.confirmed {
            Some(jump) => format!("confirmed: it is {now}; the clock {jump}"),
            None => format!("nothing to confirm: it is {now}, and the clock has not jumped"),
        }
    }
}

/// The clock of the key service, as `status -o json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClockReport {
    service_time: Option<Timestamp>,
    wall_clock: Option<Timestamp>,
    jump: Option<JumpReport>,
}

impl ClockReport {
    pub(crate) fn new(clock: ServiceClock) -> Self {
        let ServiceClock {
            service_time,
            wall_clock,
            jump,
        } = clock;
        Self {
            service_time: service_time.and_then(time),
            wall_clock: wall_clock.and_then(time),
            jump: jump.map(JumpReport::new),
        }
    }

    /// One line for people.
    pub(crate) fn summary(&self) -> String {
        let now = text(self.wall_clock);
        match &self.jump {
            Some(jump) => format!("{now}, not believed: it {jump}"),
            None => now,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct JumpReport {
    noticed_at: Option<Timestamp>,
    ahead_seconds: i64,
}

impl JumpReport {
    fn new(jump: ClockJump) -> Self {
        let ClockJump { noticed_at, ahead } = jump;
        Self {
            noticed_at: noticed_at.and_then(time),
            ahead_seconds: ahead.map_or(0, |ahead| ahead.seconds),
        }
    }
}

impl std::fmt::Display for JumpReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            noticed_at,
            ahead_seconds,
        } = self;
        let way = if *ahead_seconds < 0 {
            "behind"
        } else {
            "ahead"
        };
        let distance = SignedDuration::from_secs(*ahead_seconds).abs();
        write!(f, "was {distance:#} {way} at {}", text(*noticed_at))
    }
}

/// To the second: what people compare with another clock.
fn time(at: prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(at.seconds, 0).ok()
}

fn text(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "unknown".to_owned(), |at| at.to_string())
}
