//! The service's side of the audit log: who did what with which outcome, on disk before any answer leaves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_audit::{
    self as audit, AppendError, Draft, Fold, Folder, Item, Kind, Log, MAX_RECORD_BYTES, Observed,
    Outcome, Share,
};
use strongroom_core::{ActionKind, Caller, Clock, Fence, StoreEpoch, UnixMillis};
use strongroom_runtime::Chain;

/// The audit log did not take a record; whatever it is about must not be answered as a success.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// No space for this kind of caller.
    #[error(
        "the audit log has no space left for {0}: raise audit.capacityMib, or add space to its disk"
    )]
    Full(Share),
    /// It cannot be written at all.
    #[error("the audit log cannot be written")]
    Failed(#[source] AppendError),
}

/// Where a call comes from, beside its caller.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Correlates record, log lines and answer.
    pub request_id: String,
    /// Which process of the operator it is, when it is the operator.
    pub fence: Option<Fence>,
}

impl Origin {
    /// One of our own jobs; it has no request.
    #[must_use]
    pub fn job() -> Self {
        Self::default()
    }
}

/// One call, before its outcome is known.
pub struct Call<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// Does what.
    pub action: ActionKind,
    /// To what: a path of ids.
    pub resource: &'a (dyn fmt::Display + Sync),
    /// From where.
    pub origin: &'a Origin,
}

/// Writes the audit log of this replica.
pub struct Trail {
    log: Log,
    clock: Arc<dyn Clock>,
    administrators: BTreeSet<String>,
    folder: Mutex<Folder>,
    unchanged: Mutex<Folder>,
    failed: AtomicBool,
    lost: AtomicU64,
}

/// One line for this many lost refusals after the first: whoever insists must not fill the disk with our log instead.
const LOG_EVERY: u64 = 1000;

/// Callers whose refusals are told apart within one second.
const FOLDED_CALLERS: usize = 1024;
/// Pods whose reads that gave nothing new are told apart within one hour. An entry has a few hundred bytes.
const FOLDED_READERS: usize = 16 * 1024;

impl Trail {
    /// Takes over an open log. The holders of certificates other than the administrators' are tenants.
    #[must_use]
    pub fn new(log: Log, clock: Arc<dyn Clock>, administrators: BTreeSet<String>) -> Self {
        Self {
            log,
            clock,
            administrators,
            folder: Mutex::new(Folder::new(FOLDED_CALLERS)),
            unchanged: Mutex::new(Folder::by_the_hour(FOLDED_READERS)),
            failed: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        }
    }

    /// The log itself.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Whether the log takes no more records until a restart.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The time that records get.
    #[must_use]
    pub fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// Refuses when the system's share of the space is used up.
    ///
    /// # Errors
    /// `Full`.
    pub fn check_room(&self) -> Result<(), TrailError> {
        let usage = self.log.usage();
        let system = usage.capacity_bytes / 10 * 9;
        let room = usage.reserve_held && usage.used_bytes + MAX_RECORD_BYTES as u64 <= system;
        if room {
            Ok(())
        } else {
            Err(TrailError::Full(Share::System))
        }
    }

    /// Refuses when the share of the space that a change's record comes out of is used up.
    ///
    /// # Errors
    /// `Full`.
    pub fn check_room_for(&self, caller: &Caller, change: ActionKind) -> Result<(), TrailError> {
        if has_reserve(change) {
            self.check_reserve()
        } else if let Caller::Operator(_) = caller {
            self.check_tenants_room()
        } else {
            self.check_room()
        }
    }

    /// Whoever writes custom resources must not end the administrators' changes.
    fn check_tenants_room(&self) -> Result<(), TrailError> {
        let usage = self.log.usage();
        let tenants = usage.capacity_bytes / 10 * 7;
        let room = usage.reserve_held && usage.used_bytes + MAX_RECORD_BYTES as u64 <= tenants;
        if room {
            Ok(())
        } else {
            Err(TrailError::Full(Share::Tenant))
        }
    }

    /// Refuses when not even the reserve has space.
    ///
    /// # Errors
    /// `Full`.
    pub fn check_reserve(&self) -> Result<(), TrailError> {
        let usage = self.log.usage();
        let room = usage.used_bytes + MAX_RECORD_BYTES as u64 <= usage.capacity_bytes;
        if room {
            Ok(())
        } else {
            Err(TrailError::Full(Share::Reserve))
        }
    }

    /// Records that a call succeeded. Only after this may it be answered.
    ///
    /// # Errors
    /// The record is not on disk.
    pub async fn succeeded(
        &self,
        call: &Call<'_>,
        detail: BTreeMap<String, String>,
    ) -> Result<(), TrailError> {
        self.record(call, Outcome::Succeeded, "Ok", detail).await
    }

    /// Records that a batch succeeded, with the outcome of each item. Only after this may it be answered.
    ///
    /// # Errors
    /// The record is not on disk.
    pub async fn succeeded_batch(
        &self,
        call: &Call<'_>,
        detail: BTreeMap<String, String>,
        items: Vec<Item>,
    ) -> Result<(), TrailError> {
        let mut draft = self.draft(call, Outcome::Batch, "Ok");
        draft.detail = detail;
        draft.items = items;
        self.append(draft, self.share(call.caller, call.action))
            .await
    }

    /// Counts a read that gave nothing, since the reader has what there is. One record an hour says how many there were.
    pub fn unchanged(&self, reader: &Caller) {
        lock(&self.unchanged).observe(&reader.to_string(), self.now().as_i64());
    }

    /// Records that a call was refused or failed. Beyond ten a second of one caller they are counted into one record.
    ///
    /// # Errors
    /// The record is not on disk.
    pub async fn refused(
        &self,
        call: &Call<'_>,
        outcome: Outcome,
        code: &str,
    ) -> Result<(), TrailError> {
        self.record_folds(self.now().as_i64()).await?;
        let caller = call.caller.to_string();
        let observed = lock(&self.folder).observe(&caller, self.now().as_i64());
        match observed {
            Observed::Record => {
                let share = of_refusal(call.caller, self.share(call.caller, call.action));
                self.append(self.draft(call, outcome, code), share).await
            }
            Observed::Held => Ok(()),
        }
    }

    /// Counts a refusal that the log did not take. It was answered all the same: nothing was done.
    pub fn lose_refusal(&self, error: &TrailError) {
        let before = self.lost.fetch_add(1, Ordering::Relaxed);
        if before.is_multiple_of(LOG_EVERY) {
            let (error, lost) = (Chain(error), before + 1);
            tracing::error!(%error, lost, "a refusal is not in the audit log");
        }
    }

    /// How many refusals the log did not take since the start.
    #[must_use]
    pub fn lost_refusals(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Records what was counted in seconds and hours that have passed at `now`; once a second, and with `i64::MAX` at
    /// the end.
    ///
    /// # Errors
    /// A record is not on disk.
    pub async fn record_folds(&self, now: i64) -> Result<(), TrailError> {
        let refusals = lock(&self.folder).due(now);
        for fold in refusals {
            let mut draft = Draft::new(Kind::Refusals, fold.folded.last, "Refused");
            draft.outcome = Outcome::Denied;
            draft.code = "Folded".to_owned();
            self.append_fold(draft, fold).await?;
        }
        let unchanged = lock(&self.unchanged).due(now);
        for fold in unchanged {
            let action = ActionKind::ReadSecret.as_str();
            let mut draft = Draft::new(Kind::Call, fold.folded.last, action);
            draft.outcome = Outcome::Succeeded;
            draft.code = "Unchanged".to_owned();
            self.append_fold(draft, fold).await?;
        }
        Ok(())
    }

    async fn append_fold(&self, mut draft: Draft, fold: Fold) -> Result<(), TrailError> {
        draft.caller = fold.caller.unwrap_or_else(|| "others".to_owned());
        draft.folded = Some(fold.folded);
        self.append(draft, Share::Tenant).await
    }

    fn draft(&self, call: &Call<'_>, outcome: Outcome, code: &str) -> Draft {
        let mut draft = Draft::new(Kind::Call, self.now().as_i64(), call.action.as_str());
        draft.request_id.clone_from(&call.origin.request_id);
        draft.caller = text(call.caller);
        draft.resource = text(call.resource);
        draft.outcome = outcome;
        draft.code = code.to_owned();
        draft
    }

    async fn record(
        &self,
        call: &Call<'_>,
        outcome: Outcome,
        code: &str,
        detail: BTreeMap<String, String>,
    ) -> Result<(), TrailError> {
        let mut draft = self.draft(call, outcome, code);
        draft.detail = detail;
        self.append(draft, self.share(call.caller, call.action))
            .await
    }

    /// The last change of this epoch that the log has without a gap.
    #[must_use]
    pub fn recorded_changes(&self, epoch: StoreEpoch) -> u64 {
        let complete = self.log.changes().complete();
        complete
            .filter(|change| change.epoch == epoch.get())
            .map_or(0, |change| change.seq)
    }

    /// Records a change of the control plane.
    ///
    /// # Errors
    /// The record is not on disk; the outbox still has it.
    pub async fn record_change(
        &self,
        epoch: StoreEpoch,
        seq: u64,
        change: wire::ControlChange,
    ) -> Result<(), TrailError> {
        let kind = if change.action == ActionKind::AnchorCheckpoint.as_str() {
            Kind::Anchor
        } else {
            Kind::Change
        };
        let kept = ActionKind::ALL
            .iter()
            .any(|action| action.as_str() == change.action && has_reserve(*action));
        let share = if kept { Share::Reserve } else { Share::System };
        let mut draft = Draft::new(kind, change.time_ms, change.action);
        draft.request_id = change.request_id;
        draft.caller = change.caller;
        draft.resource = change.resource;
        draft.outcome = Outcome::Succeeded;
        draft.code = "Ok".to_owned();
        draft.detail = change.detail.into_iter().collect();
        draft.change = Some(audit::Change {
            epoch: epoch.get(),
            seq,
        });
        self.append(draft, share).await
    }

    async fn append(&self, draft: Draft, share: Share) -> Result<(), TrailError> {
        match self.log.append(draft, share).await {
            Ok(_) => Ok(()),
            Err(AppendError::Full { share, .. }) => Err(TrailError::Full(share)),
            Err(error) => {
                // A record that is too large is one call's failure; everything else closes the log until a restart.
                if matches!(error, AppendError::Io(_) | AppendError::Closed) {
                    self.failed.store(true, Ordering::Relaxed);
                }
                Err(TrailError::Failed(error))
            }
        }
    }

    /// On whose account a record is written: the API server's plugin has the reserve, so that a full log never keeps a
    /// cluster from starting; administration comes next. Whatever a tenant asks for counts as his, or describing a key
    /// often enough would stop administration.
    fn share(&self, caller: &Caller, action: ActionKind) -> Share {
        match caller {
            Caller::KmsSocket { .. } | Caller::KmsPlugin(_) => Share::Reserve,
            // Whoever has a secret that was used has nothing of the installation yet.
            // What the operator asks for is in custom resources, which tenants write.
            Caller::Enrolment(_) | Caller::Pod(_) | Caller::CsiDriver(_) | Caller::Operator(_) => {
                Share::Tenant
            }
            Caller::AdminSocket { .. } | Caller::System(_) => Share::System,
            Caller::Certificate(identity) => {
                let uses_data = matches!(
                    action,
                    ActionKind::Encrypt | ActionKind::Decrypt | ActionKind::RevealSecret
                );
                if uses_data || !self.administrators.contains(&*identity.name) {
                    Share::Tenant
                } else {
                    Share::System
                }
            }
        }
    }
}

/// On whose account a refusal is written. The reserve is for what was done: a refusal is answered with or without a record,
/// and a copy of a node's certificate that was revoked long ago can make one after the other.
fn of_refusal(caller: &Caller, share: Share) -> Share {
    match caller {
        Caller::KmsPlugin(_) => Share::Tenant,
        Caller::KmsSocket { .. } => Share::System,
        _ => share,
    }
}

fn lock(folder: &Mutex<Folder>) -> MutexGuard<'_, Folder> {
    // Each step leaves whole counters behind.
    folder.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one record says, in one allocation: a key's path has 69 characters.
fn text(part: &dyn fmt::Display) -> String {
    let mut text = String::with_capacity(80);
    // Nothing that a record names fails to be written, and a `String` takes everything.
    let _ = write!(text, "{part}");
    text
}

/// Whether a change is made for the API server's plugin: without its certificates another node's API server is cut off.
fn has_reserve(change: ActionKind) -> bool {
    matches!(
        change,
        ActionKind::RenewNodeCertificate
            | ActionKind::ConfirmNodeCertificate
            | ActionKind::RevokeNode
    )
}

#[cfg(test)]
mod tests {
    use strongroom_core::{Job, NodeCredential, NodeIdentity, NodeRole};

    use super::*;

    #[test]
    fn no_refusal_is_written_into_the_reserve() {
        let node = Caller::KmsPlugin(NodeCredential {
            identity: NodeIdentity {
                role: NodeRole::KmsPlugin,
                node: "cp-2".parse().unwrap(),
            },
            serial: "01".to_owned(),
        });
        assert_eq!(of_refusal(&node, Share::Reserve), Share::Tenant);
        let socket = Caller::KmsSocket { uid: 2002 };
        assert_eq!(of_refusal(&socket, Share::Reserve), Share::System);
        let job = Caller::System(Job::Anchor);
        assert_eq!(of_refusal(&job, Share::System), Share::System);
    }
}
