//! The one call that gives a value to a person: with a role of its own, and a reason that is in the audit log.

use std::str::FromStr;

use strongroom_core::{
    FieldName, Permit, SecretStage, SecretStepError, SecretValue, VersionId, action,
};

use crate::{
    registry::SecretLocator,
    service::{CallContext, CallError, Detail, Service, detail},
};

/// A value that a person wants to see.
#[derive(Clone, Debug)]
pub struct RevealRequest {
    /// The secret.
    pub secret: SecretLocator,
    /// One field, or all of them.
    pub field: Option<FieldName>,
    /// Which version.
    pub stage: SecretStage,
    /// Why; it is in the audit log.
    pub reason: Reason,
}

/// What was revealed.
pub struct Revealed {
    /// The version.
    pub version: VersionId,
    /// All its fields.
    pub value: SecretValue,
}

/// Why somebody wants to see a value, in one line.
#[derive(Clone, Debug)]
pub struct Reason(String);

/// The text is no reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason has 1 to 256 characters and no control characters")]
pub struct InvalidReason;

impl Reason {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        let fits = (1..=256).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidReason)
        }
    }
}

impl Service {
    /// Gives the value of a version to a person; with a field, what was asked for must be there.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn reveal_secret(
        &self,
        context: &CallContext,
        request: &RevealRequest,
    ) -> Result<Revealed, CallError> {
        let permit = self
            .admit_secret::<action::RevealSecret>(context, &request.secret)
            .await?;
        let outcome = self.reveal_with(&permit, request).await;
        self.conclude(context, &permit, outcome).await
    }

    async fn reveal_with(
        &self,
        permit: &Permit<action::RevealSecret>,
        request: &RevealRequest,
    ) -> Result<(Revealed, Detail), CallError> {
        let RevealRequest {
            field,
            stage,
            reason,
            ..
        } = request;
        let stored = self.stored_secret(permit, None)?;
        let version = stored
            .head
            .staged(*stage)
            .ok_or(CallError::AwaitingValue)?
            .id;
        let value = self.open_value(permit, &stored, version).await?;
        if let Some(unknown) = field.as_ref().filter(|name| value.field(name).is_none()) {
            let unknown = SecretStepError::FieldUnknown(unknown.clone());
            return Err(CallError::from(unknown));
        }
        let mut detail = detail([
            ("name", stored.head.name.to_string()),
            ("version", version.to_string()),
            ("reason", reason.0.clone()),
        ]);
        if let Some(field) = field {
            detail.insert("field".to_owned(), field.to_string());
        }
        Ok((Revealed { version, value }, detail))
    }
}
