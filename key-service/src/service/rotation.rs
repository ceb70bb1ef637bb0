//! Rotation by schedule, as a job of our own; by request: `request`.
//!
//! A decision and what follows from it meet in one transaction: it is refused when the head was changed in between, so that
//! neither a moment nor a request makes two versions.

mod metrics;
mod request;

pub use metrics::RotationMetrics;
pub use request::RotationRequest;
use strongroom_core::{
    Action, Caller, ContextDigest, Job, Permit, Resource, RotationSchedule, UnixMillis, action,
};
use strongroom_runtime::Chain;

use super::{CallContext, CallError, Detail, Service, detail};
use crate::{
    registry::{Due, Rotating},
    trail::Origin,
};

const NO_CONTEXT: ContextDigest = ContextDigest([0; 32]);

/// What a turn came to.
enum Turn {
    Rotated,
    /// It is not due after all, and will be then.
    NotYet(Option<UnixMillis>),
}

impl Service {
    /// Rotates what is due first and says whether there was anything. What cannot be rotated is tried again later and keeps
    /// nothing else waiting.
    pub(crate) async fn rotate_next(&self) -> bool {
        let rotated = self.try_next().await;
        let failing = self.registry.failing_rotations();
        self.rotation_metrics.failing(failing);
        rotated
    }

    async fn try_next(&self) -> bool {
        loop {
            // While the machine's clock is doubted, time goes on by the clock that nobody sets.
            let now = self.time.believed();
            let Some(due) = self.registry.first_due(now) else {
                return false;
            };
            match self.take_turn(&due, now).await {
                Ok(Turn::NotYet(next)) => {
                    self.registry.put_off(due.rotating, next);
                    continue;
                }
                Ok(Turn::Rotated) => self.rotation_metrics.scheduled(),
                // Somebody changed it, and so gave it another turn.
                Err(CallError::Stale) => {}
                Err(error) => self.turn_failed(&due, now, &error),
            }
            return true;
        }
    }

    fn turn_failed(&self, due: &Due, now: UnixMillis, error: &CallError) {
        let failures = self.registry.rotation_failed(due.rotating, now);
        self.rotation_metrics.failed();
        tracing::error!(
            resource = %due.resource,
            failures,
            error = %Chain(error),
            "a scheduled rotation failed; it is tried again"
        );
    }

    async fn take_turn(&self, due: &Due, now: UnixMillis) -> Result<Turn, CallError> {
        let context = CallContext {
            caller: Caller::System(Job::Rotate),
            origin: Origin::job(),
        };
        match due.rotating {
            Rotating::Key(..) => {
                let permit = self.admit_turn(&context, &due.resource).await?;
                let outcome = self.turn_of_key(&permit, &context, now).await;
                self.conclude_turn(&context, &permit, outcome).await
            }
            Rotating::Secret(..) => {
                let permit = self.admit_turn(&context, &due.resource).await?;
                let outcome = self.turn_of_secret(&permit, &context, now).await;
                self.conclude_turn(&context, &permit, outcome).await
            }
        }
    }

    async fn admit_turn<A: Action>(
        &self,
        context: &CallContext,
        resource: &Resource,
    ) -> Result<Permit<A>, CallError> {
        self.admit(context, resource, Some(resource.clone()), NO_CONTEXT)
            .await
    }

    /// A change in between is no failure that the log should tell of.
    async fn conclude_turn<A: Action>(
        &self,
        context: &CallContext,
        permit: &Permit<A>,
        outcome: Result<Turn, CallError>,
    ) -> Result<Turn, CallError> {
        match outcome {
            Err(CallError::Stale) => Err(CallError::Stale),
            outcome => self.conclude_change(context, permit, outcome).await,
        }
    }

    async fn turn_of_key(
        &self,
        permit: &Permit<action::RotateKey>,
        context: &CallContext,
        now: UnixMillis,
    ) -> Result<Turn, CallError> {
        let stored = self.stored(permit)?;
        match stored.head.next_rotation(now) {
            Some(next) if next <= now => {}
            later => return Ok(Turn::NotYet(later)),
        }
        let next = stored.head.rotated(self.registry.position().epoch, now)?;
        self.commit_rotation(permit, context, &stored, next, by_schedule())
            .await?;
        Ok(Turn::Rotated)
    }

    async fn turn_of_secret(
        &self,
        permit: &Permit<action::RotateSecret>,
        context: &CallContext,
        now: UnixMillis,
    ) -> Result<Turn, CallError> {
        let stored = self.stored_secret(permit, None)?;
        match stored.head.next_rotation(now) {
            Some(next) if next <= now => {}
            later => return Ok(Turn::NotYet(later)),
        }
        let next = stored.head.rotated(self.registry.position().epoch, now)?;
        self.commit_generated(permit, context, &stored, next, by_schedule())
            .await?;
        Ok(Turn::Rotated)
    }
}

/// What the audit log says of a schedule.
pub(super) fn when(schedule: Option<&RotationSchedule>) -> String {
    schedule.map_or_else(|| "by request only".to_owned(), ToString::to_string)
}

fn by_schedule() -> Detail {
    detail([("cause", "Schedule".to_owned())])
}
