//! What happens to a volume: first published, published again, told that it has changed, taken away.
//!
//! The first time fails closed, with the true code, and leaves nothing. Afterwards the files stay whatever happens, and
//! the answer is always that all is well: kubelets before 1.37 destroy a volume whose second publish fails
//! (kubernetes/kubernetes#121271).

mod condition;
mod error;

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use strongroom_api::strongroom::v1::VolumeFile;
use strongroom_core::{Clock, SecretBytes};
use strongroom_runtime::{Chain, fault};

use crate::{
    exposition::{Counters, Refresh},
    request::Publish,
    source::{Answer, Ask, Source},
    table::{Access, Failure, State, Table, Turn},
    volume::{
        File, FileSet, InvalidFile, Place, Pods, PublishedError, RemoveError, SystemError, Target,
        Tmpfs, Written, write,
    },
};

pub use condition::{Condition, condition};
pub use error::{PublishError, RefreshError};

/// Files without a mode are read by their owner and group.
const DEFAULT_MODE: u32 = 0o440;

/// Everything that a volume needs.
pub struct Driver {
    /// kubelet's folder of pods.
    pub pods: Pods,
    /// How volumes are made on this node.
    pub tmpfs: Tmpfs,
    /// What is known of them.
    pub table: Table,
    /// The key service.
    pub source: Source,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When a volume counts as stale.
    pub stale_after: Duration,
    /// What is counted.
    pub counters: Counters,
}

/// What an earlier driver left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Volumes that are still of use.
    pub volumes: usize,
    /// Volumes that were not, and are gone now.
    pub orphans: usize,
}

impl Driver {
    /// Takes over the volumes that an earlier driver published. Their tokens come with kubelet's next publish. Those that
    /// kubelet does not know of any more are taken away: nobody else will.
    ///
    /// # Errors
    ///
    /// When the list of mounts cannot be read.
    pub async fn take_over(&self) -> std::io::Result<TakenOver> {
        let mut found = TakenOver::default();
        for target in self.pods.published()? {
            if self.remove_orphan(&target) {
                found.orphans += 1;
                continue;
            }
            let turn = self.table.turn(&target).await;
            turn.update(|state| state.confirmed = self.clock.elapsed());
            found.volumes += 1;
        }
        Ok(found)
    }

    /// What cannot be told or done is left as it is: the volume may be in use.
    fn remove_orphan(&self, target: &Target) -> bool {
        let place = match self.place(target) {
            Ok(Some(place)) => place,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(volume = %target, error = %Chain(&error), "the volume was not examined");
                return false;
            }
        };
        if place.is_known_to_kubelet().unwrap_or(true) {
            return false;
        }
        match place.remove() {
            Ok(()) => {
                tracing::info!(volume = %target, "removed a volume that kubelet does not know of");
                true
            }
            Err(error) => {
                tracing::warn!(volume = %target, error = %Chain(&error), "an orphan was not removed");
                false
            }
        }
    }

    /// Publishes a volume.
    ///
    /// # Errors
    ///
    /// See [`PublishError`]; only when nothing was published before, and nothing is left then.
    pub async fn publish(&self, request: Publish) -> Result<(), PublishError> {
        let turn = self.table.turn(&request.target).await;
        let outcome = self.publish_in_turn(&turn, request).await;
        if outcome.is_err() && turn.volume().state().volume_id.is_empty() {
            self.table.forget(turn);
        }
        outcome
    }

    async fn publish_in_turn(&self, turn: &Turn, request: Publish) -> Result<(), PublishError> {
        let state = turn.volume().state();
        if !state.volume_id.is_empty() && state.volume_id != request.volume_id {
            return Err(PublishError::Taken);
        }
        let place = self
            .place(&request.target)
            .map_err(PublishError::Place)?
            .ok_or(PublishError::NoFolder)?;
        match place.published().map_err(PublishError::Published)? {
            None => {
                // What was known is of a volume that is gone.
                turn.update(|state| *state = State::default());
                self.publish_first(turn, &place, request).await
            }
            Some(root) => {
                self.publish_again(turn, &root, request).await;
                Ok(())
            }
        }
    }

    async fn publish_first(
        &self,
        turn: &Turn,
        place: &Place,
        request: Publish,
    ) -> Result<(), PublishError> {
        let token = request.token.map_err(PublishError::NoToken)?;
        let access = Access {
            token,
            wanted: request.wanted,
            optional: request.optional,
            group: request.group,
        };
        let ask = ask(&request.target, &access, String::new());
        let (etag, files, failure) = match self.source.read(&ask).await {
            Ok(Answer::Files { etag, files }) => (etag, files, None),
            Ok(Answer::Same) => return Err(PublishError::Empty),
            Err(error) if access.optional && error.is_absence() => {
                let absent = Failure::Absent(error.to_string());
                (String::new(), Vec::new(), Some(absent))
            }
            Err(error) => return Err(PublishError::Source(error)),
        };
        let files = file_set(files, access.group).map_err(PublishError::Files)?;
        self.mount(place, &files)?;
        turn.update(|state| {
            *state = State {
                volume_id: request.volume_id,
                access: Some(access),
                etag,
                confirmed: self.clock.elapsed(),
                failure,
                ..State::default()
            };
        });
        self.table.announce(turn);
        Ok(())
    }

    /// Fills a tmpfs that is nowhere, and then shows it.
    fn mount(&self, place: &Place, files: &FileSet) -> Result<(), PublishError> {
        if !self.tmpfs.room.takes(files) {
            return Err(PublishError::TooLarge);
        }
        let volume = self.tmpfs.create().map_err(PublishError::Mount)?;
        let root = volume.root().map_err(PublishError::Mount)?;
        fault::point!("csi.publish.created");
        write(&root, files).map_err(PublishError::Write)?;
        fault::point!("csi.publish.written");
        place
            .publish(volume, &self.tmpfs)
            .map_err(PublishError::Mount)?;
        fault::point!("csi.publish.mounted");
        Ok(())
    }

    async fn publish_again(&self, turn: &Turn, root: &OwnedFd, request: Publish) {
        turn.update(|state| state.volume_id = request.volume_id);
        let token = match request.token {
            Ok(token) => token,
            Err(error) => {
                turn.update(|state| state.failure = Some(Failure::Refused(error.to_string())));
                self.counters.refreshed(Refresh::Failed);
                return;
            }
        };
        let access = Access {
            token,
            wanted: request.wanted,
            optional: request.optional,
            group: request.group,
        };
        let before = turn.volume().state();
        let is_other = |other: fn(&Access, &Access) -> bool| {
            before
                .access
                .as_ref()
                .is_none_or(|before| other(before, &access))
        };
        let is_other_question = is_other(|a, b| a.wanted != b.wanted || a.group != b.group);
        let is_other_token = is_other(|a, b| a.token.expose() != b.token.expose());
        turn.update(|state| {
            if is_other_question {
                state.etag.clear();
            }
            state.access = Some(access);
        });
        let refreshed = self.refresh_in_turn(turn, root).await;
        // After a failure the stream may have ended for the volume.
        let has_recovered = before.failure.is_some() && refreshed.is_ok();
        if is_other_question || is_other_token || has_recovered {
            self.table.announce(turn);
        }
    }

    /// Reads again what a volume shall hold, after the key service said that it has changed. An error is remembered in the
    /// volume's state.
    pub async fn refresh(&self, target: &Target, etag: &str) {
        let Some(turn) = self.table.turn_of(target).await else {
            return;
        };
        if turn.volume().state().etag == etag {
            return;
        }
        if let Ok(Some(root)) = self.published(target) {
            // What it says is in the state, and the next publish tries again.
            let _ = self.refresh_in_turn(&turn, &root).await;
        }
    }

    async fn refresh_in_turn(&self, turn: &Turn, root: &OwnedFd) -> Result<(), RefreshError> {
        let outcome = self.read_and_write(turn, root).await;
        match &outcome {
            Ok(written) => self.counters.refreshed(match written {
                Written::Same => Refresh::Same,
                Written::Swapped => Refresh::Swapped,
            }),
            Err(error) => {
                let volume = turn.volume().target.to_string();
                let reason = error.reason();
                tracing::warn!(volume, reason, error = %Chain(error), "the volume was not refreshed");
                self.counters.refreshed(Refresh::Failed);
                turn.update(|state| self.fail(state, error));
            }
        }
        outcome.map(|_| ())
    }

    /// Notes why a volume was not refreshed. What never was there is not missed where it need not be.
    fn fail(&self, state: &mut State, error: &RefreshError) {
        let may_be_absent = state.access.as_ref().is_some_and(|access| access.optional);
        state.failure = Some(match error {
            RefreshError::Source(error)
                if may_be_absent && state.etag.is_empty() && error.is_absence() =>
            {
                state.confirmed = self.clock.elapsed();
                Failure::Absent(error.to_string())
            }
            error => error.failure(),
        });
    }

    async fn read_and_write(&self, turn: &Turn, root: &OwnedFd) -> Result<Written, RefreshError> {
        let state = turn.volume().state();
        let access = state.access.ok_or(RefreshError::NoAccess)?;
        let ask = ask(&turn.volume().target, &access, state.etag);
        let answer = self.source.read(&ask).await.map_err(RefreshError::Source)?;
        let (written, etag) = match answer {
            Answer::Same => (Written::Same, ask.have),
            Answer::Files { etag, files } => {
                let files = file_set(files, access.group).map_err(RefreshError::Files)?;
                if !self.tmpfs.room.takes(&files) {
                    return Err(RefreshError::TooLarge);
                }
                (write(root, &files).map_err(RefreshError::Write)?, etag)
            }
        };
        let is_other = turn.volume().state().etag != etag;
        turn.update(|state| {
            state.etag = etag;
            state.confirmed = self.clock.elapsed();
            state.failure = None;
        });
        if is_other {
            // The key service counts who holds what.
            self.table.announce(turn);
        }
        Ok(written)
    }

    /// Notes that the key service speaks no more of a volume until its token is newer, or kubelet publishes it again.
    pub async fn ended(&self, target: &Target, reason: &str) {
        if let Some(turn) = self.table.turn_of(target).await {
            let sentence = format!("the key service ended the subscription: {reason}");
            turn.update(|state| state.failure = Some(Failure::Away(sentence)));
        }
    }

    /// Takes a volume away, whatever it is; fine when there is none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub async fn unpublish(&self, target: &Target) -> Result<(), RemoveError> {
        let turn = self.table.turn(target).await;
        if let Some(place) = self.place(target).map_err(RemoveError::System)? {
            place.remove()?;
        }
        self.table.forget(turn);
        Ok(())
    }

    /// Opens the root of a published volume; none when there is none.
    ///
    /// # Errors
    ///
    /// As [`Place::published`].
    pub fn published(&self, target: &Target) -> Result<Option<OwnedFd>, PublishedError> {
        match self.place(target).map_err(PublishedError::System)? {
            Some(place) => place.published(),
            None => Ok(None),
        }
    }

    fn place(&self, target: &Target) -> Result<Option<Place>, SystemError> {
        self.pods.place(target)
    }
}

/// What is asked for a volume.
pub(crate) fn ask(target: &Target, access: &Access, have: String) -> Ask {
    Ask {
        token: access.token.clone(),
        pod_uid: target.pod_uid().to_owned(),
        wanted: access.wanted.clone(),
        have,
    }
}

/// Checks what the key service sent before anything of it is written.
fn file_set(files: Vec<VolumeFile>, group: u32) -> Result<FileSet, InvalidFile> {
    let mut set = FileSet::default();
    for VolumeFile {
        path,
        mode,
        uid,
        gid,
        content,
    } in files
    {
        let file = File {
            mode: if mode == 0 { DEFAULT_MODE } else { mode },
            uid: uid.unwrap_or(0),
            gid: gid.unwrap_or(group),
            content: SecretBytes::new(content),
        };
        set.add(&path, file)?;
    }
    Ok(set)
}
