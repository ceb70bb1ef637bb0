//! Rotation by request: once for each id, whenever and however often it is asked for.

use std::fmt;

use strongroom_core::{Action, HandledRequest, Permit, RequestId, Resource, action};

use super::NO_CONTEXT;
use crate::service::{CallContext, CallError, Detail, Reason, Service, detail};

/// Somebody else may change the head while a version is made; then it is looked at anew, so many times in all.
const TRIES: usize = 4;

/// Somebody wants one rotation.
#[derive(Clone, Debug)]
pub struct RotationRequest {
    /// What tells it from others.
    pub id: RequestId,
    /// Why; it is in the audit log.
    pub reason: Option<Reason>,
}

impl RotationRequest {
    /// What the audit log says beside the version.
    fn told(&self) -> Detail {
        let mut told = detail([
            ("cause", "Request".to_owned()),
            ("request", self.id.to_string()),
        ]);
        let reason = self.reason.as_ref().map(Reason::as_str);
        told.extend(reason.map(|reason| ("reason".to_owned(), reason.to_owned())));
        told
    }
}

/// What came of a request.
enum Answer {
    /// It made this version just now.
    Made(HandledRequest),
    /// It had made this version before.
    Known(HandledRequest),
}

impl Service {
    /// Rotates a key once for a request.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn rotate_key_for(
        &self,
        context: &CallContext,
        asked: &(dyn fmt::Display + Sync),
        key: Option<Resource>,
        request: &RotationRequest,
    ) -> Result<HandledRequest, CallError> {
        let permit = self
            .admit::<action::RotateKey>(context, asked, key, NO_CONTEXT)
            .await?;
        let mut outcome = self.key_version_for(&permit, context, request).await;
        for _ in 1..TRIES {
            if let Err(CallError::Stale) = outcome {
                outcome = self.key_version_for(&permit, context, request).await;
            }
        }
        self.conclude_request(context, &permit, request, outcome)
            .await
    }

    async fn key_version_for(
        &self,
        permit: &Permit<action::RotateKey>,
        context: &CallContext,
        request: &RotationRequest,
    ) -> Result<Answer, CallError> {
        let stored = self.stored(permit)?;
        if let Some(handled) = stored.head.requests.find(&request.id) {
            return Ok(Answer::Known(handled.clone()));
        }
        let (epoch, now) = (self.registry.position().epoch, self.time.now());
        let next = stored.head.rotated_for(request.id.clone(), epoch, now)?;
        let handled = HandledRequest {
            id: request.id.clone(),
            version: next.primary().version,
            time: now,
        };
        self.commit_rotation(permit, context, &stored, next, request.told())
            .await?;
        Ok(Answer::Made(handled))
    }

    /// Rotates a secret once for a request.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn rotate_secret_for(
        &self,
        context: &CallContext,
        asked: &(dyn fmt::Display + Sync),
        secret: Option<Resource>,
        request: &RotationRequest,
    ) -> Result<HandledRequest, CallError> {
        let permit = self
            .admit::<action::RotateSecret>(context, asked, secret, NO_CONTEXT)
            .await?;
        let mut outcome = self.secret_version_for(&permit, context, request).await;
        for _ in 1..TRIES {
            if let Err(CallError::Stale) = outcome {
                outcome = self.secret_version_for(&permit, context, request).await;
            }
        }
        self.conclude_request(context, &permit, request, outcome)
            .await
    }

    async fn secret_version_for(
        &self,
        permit: &Permit<action::RotateSecret>,
        context: &CallContext,
        request: &RotationRequest,
    ) -> Result<Answer, CallError> {
        let stored = self.stored_secret(permit, None)?;
        if let Some(handled) = stored.head.requests.find(&request.id) {
            return Ok(Answer::Known(handled.clone()));
        }
        let (epoch, now) = (self.registry.position().epoch, self.time.now());
        let next = stored.head.rotated_for(request.id.clone(), epoch, now)?;
        let handled = HandledRequest {
            id: request.id.clone(),
            version: next.version,
            time: now,
        };
        self.commit_generated(permit, context, &stored, next, request.told())
            .await?;
        Ok(Answer::Made(handled))
    }

    async fn conclude_request<A: Action>(
        &self,
        context: &CallContext,
        permit: &Permit<A>,
        request: &RotationRequest,
        outcome: Result<Answer, CallError>,
    ) -> Result<HandledRequest, CallError> {
        match outcome {
            Ok(Answer::Made(handled)) => {
                self.rotation_metrics.requested();
                Ok(handled)
            }
            Ok(Answer::Known(handled)) => {
                let mut told = request.told();
                told.insert("version".to_owned(), handled.version.to_string());
                self.conclude(context, permit, Ok((handled, told))).await
            }
            Err(error) => self.conclude_change(context, permit, Err(error)).await,
        }
    }
}
