//! The steps in a key's life: each takes the head as it is and returns the head as it shall be.

use std::{sync::Arc, time::Duration};

use super::{Activation, KeyHead, Version, VersionState};
use crate::{
    Access, HandledRequest, RequestId, RotationSchedule, StoreEpoch, UnixMillis, VersionId,
    VersionNumber,
};

/// Shortest waiting window of a destruction.
pub const DESTROY_WINDOW_MIN: Duration = Duration::from_secs(24 * 3600);
/// Longest waiting window of a destruction.
pub const DESTROY_WINDOW_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Waiting window when none is given.
pub const DESTROY_WINDOW_DEFAULT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Why a step is refused. All are the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LifecycleError {
    /// The key has no such version.
    #[error("the key has no version {0}")]
    UnknownVersion(VersionId),
    /// The version is the primary one.
    #[error("version {0} is primary; rotate the key or make another version primary first")]
    VersionIsPrimary(VersionId),
    /// The version is disabled.
    #[error("version {0} is disabled; enable it first")]
    VersionDisabled(VersionId),
    /// The version waits for its destruction.
    #[error("version {0} is scheduled for destruction; cancel that first")]
    VersionScheduled(VersionId),
    /// The version does not wait for its destruction.
    #[error("version {0} is not scheduled for destruction")]
    VersionNotScheduled(VersionId),
    /// The version is primary already.
    #[error("version {0} is primary already")]
    AlreadyPrimary(VersionId),
    /// The window is too short or too long.
    #[error("a destruction window is between 24h and 8760h (365 days)")]
    WindowOutOfRange,
    /// The numbers of one epoch are used up.
    #[error("the key has used up its version numbers")]
    VersionsExhausted,
}

impl KeyHead {
    /// The id that the next version gets: the next number of the store's epoch.
    ///
    /// # Errors
    /// `VersionsExhausted` after 2³² − 1 versions.
    pub fn next_version(&self, epoch: StoreEpoch) -> Result<VersionId, LifecycleError> {
        next_version(&self.versions, epoch)
    }

    /// A new version, primary from now on.
    ///
    /// # Errors
    /// `VersionsExhausted`.
    pub fn rotated(&self, epoch: StoreEpoch, now: UnixMillis) -> Result<Self, LifecycleError> {
        let id = self.next_version(epoch)?;
        let mut next = self.clone();
        next.versions.push(Version {
            id,
            state: VersionState::Enabled,
            created: now,
        });
        next.activate(id, epoch)?;
        Ok(next)
    }

    /// A new version for a request, which is remembered with it. A key that somebody has stopped is not set going again by
    /// that.
    ///
    /// # Errors
    /// The primary version must be enabled; `VersionsExhausted`.
    pub fn rotated_for(
        &self,
        id: RequestId,
        epoch: StoreEpoch,
        now: UnixMillis,
    ) -> Result<Self, LifecycleError> {
        let primary = self.primary().version;
        if self.find(primary)?.state != VersionState::Enabled {
            return Err(LifecycleError::VersionDisabled(primary));
        }
        let mut next = self.rotated(epoch, now)?;
        next.requests = self.requests.with(HandledRequest {
            id,
            version: next.primary().version,
            time: now,
        });
        Ok(next)
    }

    /// Others who may use it. Nothing of the former list is left.
    #[must_use]
    pub fn with_access(&self, access: Arc<Access>) -> Self {
        Self {
            access,
            ..self.clone()
        }
    }

    /// A key that is rotated by another schedule, or by request only.
    #[must_use]
    pub fn with_rotation(&self, rotation: Option<RotationSchedule>) -> Self {
        Self {
            rotation,
            ..self.clone()
        }
    }

    /// From when on the schedule lets a new version be made, as it looks at `now`; see `RotationSchedule::next`. None: by
    /// request only, also while the primary version is disabled.
    #[must_use]
    pub fn next_rotation(&self, now: UnixMillis) -> Option<UnixMillis> {
        let primary = self.version(self.primary().version)?;
        let runs = primary.state == VersionState::Enabled;
        let newest = self.versions.iter().map(|version| version.created).max()?;
        let schedule = self.rotation.as_ref().filter(|_| runs)?;
        schedule.next(newest, now)
    }

    /// An existing version, primary from now on, under a new activation.
    ///
    /// # Errors
    /// The version must exist, be enabled and not be primary.
    pub fn with_primary(&self, id: VersionId, epoch: StoreEpoch) -> Result<Self, LifecycleError> {
        match self.find(id)?.state {
            VersionState::Disabled => return Err(LifecycleError::VersionDisabled(id)),
            VersionState::DestroyScheduled { .. } => {
                return Err(LifecycleError::VersionScheduled(id));
            }
            VersionState::Enabled => {}
        }
        if self.primary().version == id {
            return Err(LifecycleError::AlreadyPrimary(id));
        }
        let mut next = self.clone();
        next.activate(id, epoch)?;
        Ok(next)
    }

    /// A version that may be used. Enabling an enabled one changes nothing.
    ///
    /// # Errors
    /// The version must exist and not be scheduled for destruction.
    pub fn enabled(&self, id: VersionId) -> Result<Self, LifecycleError> {
        if let VersionState::DestroyScheduled { .. } = self.find(id)?.state {
            return Err(LifecycleError::VersionScheduled(id));
        }
        Ok(self.with_state(id, VersionState::Enabled))
    }

    /// A version that may not be used. The primary one may be disabled too: then nothing can be encrypted until it is
    /// enabled or another becomes primary. Disabling a disabled one changes nothing.
    ///
    /// # Errors
    /// The version must exist and not be scheduled for destruction.
    pub fn disabled(&self, id: VersionId) -> Result<Self, LifecycleError> {
        if let VersionState::DestroyScheduled { .. } = self.find(id)?.state {
            return Err(LifecycleError::VersionScheduled(id));
        }
        Ok(self.with_state(id, VersionState::Disabled))
    }

    /// A version that waits for its destruction. Time alone never destroys it.
    ///
    /// # Errors
    /// The version must exist, not be primary and not be scheduled; the window must be within its limits.
    pub fn destruction_scheduled(
        &self,
        id: VersionId,
        window: Duration,
        now: UnixMillis,
    ) -> Result<Self, LifecycleError> {
        if let VersionState::DestroyScheduled { .. } = self.find(id)?.state {
            return Err(LifecycleError::VersionScheduled(id));
        }
        if self.primary().version == id {
            return Err(LifecycleError::VersionIsPrimary(id));
        }
        if !(DESTROY_WINDOW_MIN..=DESTROY_WINDOW_MAX).contains(&window) {
            return Err(LifecycleError::WindowOutOfRange);
        }
        Ok(self.with_state(
            id,
            VersionState::DestroyScheduled {
                window_ends: now.plus(window),
            },
        ))
    }

    /// A version that no longer waits for its destruction; it is disabled until somebody enables it.
    ///
    /// # Errors
    /// The version must exist and be scheduled.
    pub fn destruction_cancelled(&self, id: VersionId) -> Result<Self, LifecycleError> {
        match self.find(id)?.state {
            VersionState::DestroyScheduled { .. } => {
                Ok(self.with_state(id, VersionState::Disabled))
            }
            VersionState::Enabled | VersionState::Disabled => {
                Err(LifecycleError::VersionNotScheduled(id))
            }
        }
    }

    fn find(&self, id: VersionId) -> Result<&Version, LifecycleError> {
        self.version(id).ok_or(LifecycleError::UnknownVersion(id))
    }

    fn activate(&mut self, version: VersionId, epoch: StoreEpoch) -> Result<(), LifecycleError> {
        let number = self
            .primary()
            .number
            .checked_add(1)
            .ok_or(LifecycleError::VersionsExhausted)?;
        self.activations.push(Activation {
            number,
            version,
            epoch,
        });
        Ok(())
    }

    fn with_state(&self, id: VersionId, state: VersionState) -> Self {
        let mut next = self.clone();
        for version in &mut next.versions {
            if version.id == id {
                version.state = state;
            }
        }
        next
    }
}

fn next_version(versions: &[Version], epoch: StoreEpoch) -> Result<VersionId, LifecycleError> {
    let used = versions
        .iter()
        .filter(|version| version.id.epoch == epoch)
        .map(|version| version.id.number);
    let number = match used.max() {
        None => VersionNumber::FIRST,
        Some(newest) => newest.next().ok_or(LifecycleError::VersionsExhausted)?,
    };
    Ok(VersionId { epoch, number })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Algorithm, KeyId, KeyRole, NewKey, ProtectionLevel, Purpose, RingId};

    const EPOCH: StoreEpoch = StoreEpoch::FIRST;

    fn key() -> KeyHead {
        KeyHead::new(NewKey {
            id: KeyId::from_bytes([1; 16]),
            ring: RingId::from_bytes([2; 16]),
            name: "orders".parse().expect("a DNS label"),
            purpose: Purpose::EncryptDecrypt,
            algorithm: Algorithm::Aes256Gcm,
            protection: ProtectionLevel::HsmWrapped,
            role: KeyRole::Api,
            epoch: EPOCH,
            now: at(0),
        })
    }

    fn at(milliseconds: i64) -> UnixMillis {
        UnixMillis::new(milliseconds)
    }

    fn version(number: u32) -> VersionId {
        VersionId {
            epoch: EPOCH,
            number: VersionNumber::new(number).expect("at least 1"),
        }
    }

    #[test]
    fn rotation_makes_the_next_version_primary_and_keeps_the_old_one_readable() {
        let rotated = key().rotated(EPOCH, at(1)).expect("can be rotated");
        assert_eq!(
            rotated.primary(),
            Activation {
                number: 2,
                version: version(2),
                epoch: EPOCH
            }
        );
        assert_eq!(rotated.readable().count(), 2);
    }

    #[test]
    fn version_that_is_primary_again_gets_a_third_activation() {
        let rotated = key().rotated(EPOCH, at(1)).expect("can be rotated");
        let back = rotated
            .with_primary(version(1), EPOCH)
            .expect("can be primary again");
        assert_eq!(
            back.primary(),
            Activation {
                number: 3,
                version: version(1),
                epoch: EPOCH
            }
        );
    }

    #[test]
    fn version_of_a_later_epoch_starts_at_one_again() {
        let rotated = key()
            .rotated(StoreEpoch::new(7), at(1))
            .expect("can be rotated");
        assert_eq!(rotated.primary().version.to_string(), "7.1");
    }

    #[test]
    fn primary_version_is_never_scheduled_for_destruction() {
        assert_eq!(
            key().destruction_scheduled(version(1), DESTROY_WINDOW_DEFAULT, at(0)),
            Err(LifecycleError::VersionIsPrimary(version(1))),
        );
    }

    #[test]
    fn window_has_limits() {
        let rotated = key().rotated(EPOCH, at(1)).expect("can be rotated");
        for window in [
            DESTROY_WINDOW_MIN - Duration::from_millis(1),
            DESTROY_WINDOW_MAX + Duration::from_millis(1),
        ] {
            let refused = rotated.destruction_scheduled(version(1), window, at(1));
            assert_eq!(refused, Err(LifecycleError::WindowOutOfRange));
        }
    }

    #[test]
    fn cancelled_destruction_leaves_the_version_disabled() {
        let rotated = key().rotated(EPOCH, at(1)).expect("can be rotated");
        let scheduled = rotated
            .destruction_scheduled(version(1), DESTROY_WINDOW_MIN, at(1))
            .expect("can be scheduled");
        assert_eq!(scheduled.readable().count(), 1);
        let cancelled = scheduled
            .destruction_cancelled(version(1))
            .expect("can be cancelled");
        assert_eq!(
            cancelled.version(version(1)).expect("is there").state,
            VersionState::Disabled
        );
    }

    #[test]
    fn disabled_primary_is_not_readable_and_comes_back_under_the_same_activation() {
        let disabled = key().disabled(version(1)).expect("can be disabled");
        assert_eq!(disabled.readable().count(), 0);
        assert_eq!(disabled.enabled(version(1)).expect("can be enabled"), key());
    }

    fn daily() -> KeyHead {
        let schedule = RotationSchedule::new(Duration::from_hours(24), None);
        key().with_rotation(Some(schedule.expect("is long enough")))
    }

    const DAY: i64 = 24 * 3_600_000;

    #[test]
    fn next_rotation_counts_from_the_newest_version_whichever_is_primary() {
        assert_eq!(key().next_rotation(at(0)), None);
        assert_eq!(daily().next_rotation(at(0)), Some(at(DAY)));
        let rotated = daily().rotated(EPOCH, at(3 * DAY)).expect("can be rotated");
        let back = rotated
            .with_primary(version(1), EPOCH)
            .expect("can be primary again");
        for head in [rotated, back] {
            assert_eq!(head.next_rotation(at(3 * DAY)), Some(at(4 * DAY)));
        }
    }

    #[test]
    fn a_key_that_was_stopped_is_set_going_by_neither_schedule_nor_request() {
        let stopped = daily().disabled(version(1)).expect("can be disabled");
        assert_eq!(stopped.next_rotation(at(9 * DAY)), None);
        let request = || "INC-42".parse().expect("an id");
        assert_eq!(
            stopped.rotated_for(request(), EPOCH, at(9 * DAY)),
            Err(LifecycleError::VersionDisabled(version(1)))
        );
        let again = stopped.enabled(version(1)).expect("can be enabled");
        assert_eq!(again.next_rotation(at(9 * DAY)), Some(at(DAY)));
        assert!(again.rotated_for(request(), EPOCH, at(9 * DAY)).is_ok());
    }

    #[test]
    fn a_request_is_remembered_with_the_version_that_it_made() {
        let id: RequestId = "INC-42".parse().expect("an id");
        let rotated = key().rotated_for(id.clone(), EPOCH, at(7));
        let rotated = rotated.expect("can be rotated");
        let handled = rotated.requests.find(&id).expect("is remembered");
        assert_eq!((handled.version, handled.time), (version(2), at(7)));
        assert_eq!(rotated.primary().version, version(2));
        let later = rotated.rotated(EPOCH, at(8)).expect("can be rotated");
        assert_eq!(later.requests, rotated.requests);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Rotate(u32),
        Primary(u32),
        Enable(u32),
        Disable(u32),
        Schedule(u32),
        Cancel(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1..3u32).prop_map(Step::Rotate),
            (1..6u32).prop_map(Step::Primary),
            (1..6u32).prop_map(Step::Enable),
            (1..6u32).prop_map(Step::Disable),
            (1..6u32).prop_map(Step::Schedule),
            (1..6u32).prop_map(Step::Cancel),
        ]
    }

    fn take(head: &KeyHead, step: &Step) -> Result<KeyHead, LifecycleError> {
        match *step {
            Step::Rotate(epoch) => head.rotated(StoreEpoch::new(epoch), at(1)),
            Step::Primary(number) => head.with_primary(version(number), EPOCH),
            Step::Enable(number) => head.enabled(version(number)),
            Step::Disable(number) => head.disabled(version(number)),
            Step::Schedule(number) => {
                head.destruction_scheduled(version(number), DESTROY_WINDOW_MIN, at(1))
            }
            Step::Cancel(number) => head.destruction_cancelled(version(number)),
        }
    }

    proptest! {
        #[test]
        fn any_life_keeps_the_invariants(steps in proptest::collection::vec(step(), 0..40)) {
            let mut head = key();
            for step in &steps {
                let Ok(next) = take(&head, step) else { continue };
                prop_assert!(next.activations.starts_with(&head.activations), "the ledger only grows");
                prop_assert!(next.versions.len() >= head.versions.len(), "no version is lost");
                head = next;
            }
            let numbers: Vec<u32> = head.activations.iter().map(|activation| activation.number).collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "numbers are dense: {numbers:?}");
            let primary = head.version(head.primary().version).expect("the primary version exists");
            let scheduled = matches!(primary.state, VersionState::DestroyScheduled { .. });
            prop_assert!(!scheduled, "the primary version is never about to be destroyed");
            let mut ids: Vec<_> = head.versions.iter().map(|version| version.id).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), head.versions.len(), "version ids are unique");
        }
    }
}
