//! What is written down of the time, and the word of an administrator after the machine's clock jumped.

use std::time::Duration;

use strongroom_core::{
    Action, Caller, ContextDigest, Denied, Job, Jump, Permit, Resource, TimeMark, UnixMillis,
    action, authorize,
};

use super::{CallContext, CallError, Detail, Service, detail};
use crate::{
    registry::{Change, ChangeError},
    timekeeper::distance,
    trail::Origin,
};

/// What became of a confirmation.
#[derive(Clone, Copy, Debug)]
pub struct ConfirmedClock {
    /// Service time after it.
    pub now: UnixMillis,
    /// The jump that was confirmed; none when there was none.
    pub jump: Option<Jump>,
}

/// The time was not written down.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordTimeError {
    #[error("the policy does not let the time be written down")]
    Denied(#[source] Denied),
    #[error("the store did not take the time")]
    Change(#[source] ChangeError),
}

impl Service {
    /// Believes the machine's clock after it jumped, if it agrees with what the administrator has seen elsewhere.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn confirm_clock(
        &self,
        context: &CallContext,
        seen: UnixMillis,
    ) -> Result<ConfirmedClock, CallError> {
        let resource = Resource::Instance;
        let none = ContextDigest::default();
        let permit = self
            .admit::<action::ConfirmClock>(context, &resource, Some(resource.clone()), none)
            .await?;
        let mut written = self.time.written().await;
        let view = self.time.view();
        let Some(jump) = view.jump else {
            let nothing = ConfirmedClock {
                now: view.now,
                jump: None,
            };
            let outcome = Ok((nothing, Detail::new()));
            return self.conclude(context, &permit, outcome).await;
        };
        let outcome = self.believe(context, &permit, jump, seen).await;
        let believed = self.conclude_change(context, &permit, outcome).await?;
        self.time.confirm(believed);
        *written = Some(believed);
        tracing::warn!(
            caller = %context.caller,
            jump = distance(jump),
            "the machine's clock is believed again"
        );
        Ok(ConfirmedClock {
            now: self.time.now(),
            jump: Some(jump),
        })
    }

    async fn believe(
        &self,
        context: &CallContext,
        permit: &Permit<action::ConfirmClock>,
        jump: Jump,
        seen: UnixMillis,
    ) -> Result<TimeMark, CallError> {
        let believed = self.time.believe(seen).map_err(CallError::ClocksDiffer)?;
        let mut told = told(jump);
        told.insert("clock_ms".to_owned(), believed.floor.to_string());
        let change = Change::default().time(&believed);
        self.registry
            .commit(permit, change, &context.origin, told)
            .await?;
        Ok(believed)
    }

    /// Writes the time down when the store's is older than `interval`, and a jump as soon as it is noticed.
    ///
    /// # Errors
    /// See `RecordTimeError`; the time is kept in memory all the same.
    pub(crate) async fn record_time(&self, interval: Duration) -> Result<(), RecordTimeError> {
        let mut written = self.time.written().await;
        let mark = self.time.mark();
        if written.is_some_and(|written| !mark.replaces(&written, interval)) {
            return Ok(());
        }
        let known = written.and_then(|written| written.jump);
        match mark.jump {
            Some(jump) if known != Some(jump) => {
                tracing::error!(
                    jump = distance(jump),
                    "the machine's clock jumped; nothing is destroyed by time until `kubectl strongroom clock confirm`"
                );
                self.write_time::<action::RecordClockJump>(&mark, told(jump))
                    .await?;
            }
            _ => {
                self.write_time::<action::RecordTime>(&mark, Detail::new())
                    .await?;
            }
        }
        *written = Some(mark);
        Ok(())
    }

    async fn write_time<A: Action>(
        &self,
        mark: &TimeMark,
        told: Detail,
    ) -> Result<(), RecordTimeError> {
        let caller = Caller::System(Job::Time);
        let none = ContextDigest::default();
        let permit = authorize::<A>(&self.policy, &caller, Resource::Instance, none)
            .map_err(RecordTimeError::Denied)?;
        let change = Change::default().time(mark);
        self.registry
            .commit(&permit, change, &Origin::job(), told)
            .await
            .map_err(RecordTimeError::Change)?;
        Ok(())
    }
}

fn told(jump: Jump) -> Detail {
    detail([
        ("noticed_ms", jump.noticed.to_string()),
        ("ahead_ms", jump.ahead_millis.to_string()),
    ])
}
