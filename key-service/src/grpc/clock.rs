//! `strongroom.v1.Clock`, over TLS for administrators.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::Jump;
use tonic::{Request, Response, Status};

use super::{
    identity::by_certificate,
    parse::{moment, timestamp},
};
use crate::{
    service::{CallError, ConfirmedClock, Service},
    timekeeper::TimeView,
};

/// Confirms the clock.
pub(crate) struct ClockServer(pub Arc<Service>);

#[tonic::async_trait]
impl wire::clock_server::Clock for ClockServer {
    async fn confirm(
        &self,
        request: Request<wire::ConfirmClockRequest>,
    ) -> Result<Response<wire::ConfirmClockResponse>, Status> {
        let context = by_certificate(&request)?;
        let seen = moment("now", request.get_ref().now)?;
        let confirmed = self
            .0
            .confirm_clock(&context, seen)
            .await
            .map_err(CallError::into_status)?;
        let ConfirmedClock { now, jump } = confirmed;
        Ok(Response::new(wire::ConfirmClockResponse {
            service_time: Some(timestamp(now)),
            confirmed: jump.map(wire_jump),
        }))
    }
}

/// What administrators see of the time.
pub(super) fn view(time: TimeView) -> wire::ServiceClock {
    let TimeView { now, wall, jump } = time;
    wire::ServiceClock {
        service_time: Some(timestamp(now)),
        wall_clock: Some(timestamp(wall)),
        jump: jump.map(wire_jump),
    }
}

fn wire_jump(jump: Jump) -> wire::ClockJump {
    let millis = jump.ahead_millis;
    wire::ClockJump {
        noticed_at: Some(timestamp(jump.noticed)),
        // Both parts have the sign of the whole, and the remainder of a division by 1000 fits.
        ahead: Some(prost_types::Duration {
            seconds: millis / 1000,
            nanos: i32::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        }),
    }
}
