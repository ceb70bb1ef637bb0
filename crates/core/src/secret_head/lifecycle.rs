//! The steps in a secret's life: each takes the head as it is and returns the head as it shall be.

use std::sync::Arc;

use super::{FieldName, SecretHead, SecretSource, SecretStage, SecretValue, SecretVersion};
use crate::{
    Access, HandledRequest, RequestId, RotationSchedule, StoreEpoch, UnixMillis, VersionId,
    VersionNumber,
};

/// Why a step is refused. All are the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretStepError {
    /// The key service makes the values of this secret.
    #[error("the values of this secret are generated; rotate it instead")]
    Generated,
    /// People set the values of this secret.
    #[error("the values of this secret are set by people; set them instead")]
    Manual,
    /// Nobody but people can make the values of this secret.
    #[error("the values of this secret are set by people; it cannot have a rotation schedule")]
    ManualSchedule,
    /// A field of the source was not given.
    #[error("the field {0} is missing; all fields are set together")]
    FieldMissing(FieldName),
    /// A field was given that the source does not have.
    #[error("the secret has no field {0}")]
    FieldUnknown(FieldName),
    /// The numbers of one epoch are used up.
    #[error("the secret has used up its version numbers")]
    VersionsExhausted,
}

/// A step that makes a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextVersion {
    /// The head with it.
    pub head: SecretHead,
    /// The new version, current from now on.
    pub version: VersionId,
    /// The version that has no stage any more.
    pub dropped: Option<VersionId>,
}

impl SecretHead {
    /// The next version of a manual secret.
    ///
    /// # Errors
    /// The secret must be manual, and the value must have its fields, all of them and no other.
    pub fn set(
        &self,
        value: &SecretValue,
        epoch: StoreEpoch,
        now: UnixMillis,
    ) -> Result<NextVersion, SecretStepError> {
        let SecretSource::Manual(fields) = &self.source else {
            return Err(SecretStepError::Generated);
        };
        if let Some(missing) = fields.iter().find(|name| value.field(name).is_none()) {
            return Err(SecretStepError::FieldMissing(missing.clone()));
        }
        let known = |name: &FieldName| fields.iter().any(|field| field == name);
        if let Some(unknown) = value.names().find(|name| !known(name)) {
            return Err(SecretStepError::FieldUnknown(unknown.clone()));
        }
        self.advanced(epoch, now)
    }

    /// The next version of a generated secret, or its first.
    ///
    /// # Errors
    /// The secret must be generated.
    pub fn rotated(
        &self,
        epoch: StoreEpoch,
        now: UnixMillis,
    ) -> Result<NextVersion, SecretStepError> {
        match self.source {
            SecretSource::Generate(_) => self.advanced(epoch, now),
            SecretSource::Manual(_) => Err(SecretStepError::Manual),
        }
    }

    /// The next version of a generated secret for a request, which is remembered with it.
    ///
    /// # Errors
    /// As `rotated`.
    pub fn rotated_for(
        &self,
        id: RequestId,
        epoch: StoreEpoch,
        now: UnixMillis,
    ) -> Result<NextVersion, SecretStepError> {
        let mut next = self.rotated(epoch, now)?;
        next.head.requests = self.requests.with(HandledRequest {
            id,
            version: next.version,
            time: now,
        });
        Ok(next)
    }

    /// A secret that is rotated by another schedule, or by request only.
    ///
    /// # Errors
    /// A schedule is for generated secrets.
    pub fn with_rotation(
        &self,
        rotation: Option<RotationSchedule>,
    ) -> Result<Self, SecretStepError> {
        match (&self.source, &rotation) {
            (SecretSource::Manual(_), Some(_)) => Err(SecretStepError::ManualSchedule),
            (SecretSource::Generate(_), _) | (_, None) => Ok(Self {
                rotation,
                ..self.clone()
            }),
        }
    }

    /// From when on the schedule lets a new version be made, as it looks at `now`; see `RotationSchedule::next`. None: by
    /// request only.
    #[must_use]
    pub fn next_rotation(&self, now: UnixMillis) -> Option<UnixMillis> {
        let newest = self.staged(SecretStage::Current)?;
        self.rotation.as_ref()?.next(newest.created, now)
    }

    /// Others who may read it. Nothing of the former list is left.
    #[must_use]
    pub fn with_access(&self, access: Arc<Access>) -> Self {
        Self {
            access,
            ..self.clone()
        }
    }

    fn advanced(&self, epoch: StoreEpoch, now: UnixMillis) -> Result<NextVersion, SecretStepError> {
        let version = self.next_version(epoch)?;
        let dropped = self.staged(SecretStage::Previous).map(|former| former.id);
        let mut head = self.clone();
        head.versions.retain(|kept| Some(kept.id) != dropped);
        for former in &mut head.versions {
            former.stage = SecretStage::Previous;
        }
        head.versions.push(SecretVersion {
            id: version,
            stage: SecretStage::Current,
            created: now,
        });
        Ok(NextVersion {
            head,
            version,
            dropped,
        })
    }

    /// The number after the newest of this epoch; the newest version of all always has a stage, so it is known.
    fn next_version(&self, epoch: StoreEpoch) -> Result<VersionId, SecretStepError> {
        let of_epoch = self.versions.iter().filter(|it| it.id.epoch == epoch);
        let number = match of_epoch.map(|it| it.id.number).max() {
            None => VersionNumber::FIRST,
            Some(newest) => newest.next().ok_or(SecretStepError::VersionsExhausted)?,
        };
        Ok(VersionId { epoch, number })
    }
}

#[cfg(test)]
mod tests;
