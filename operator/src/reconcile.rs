//! One look at one object: observe, decide, ask the key service, say what came of it. Statuses are written only when they
//! differ, events only when something happened.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::ResourceExt;
use strongroom_api::strongroom::v1::{ObjectKind, ReleaseRequest};
use strongroom_core::Clock;

use crate::{
    cluster::{Caches, FINALIZER, Notice, Recorder, WriteError, Writer},
    counters::{Counters, Outcome},
    crds::{CryptoKey, KeyRing, ManagedSecret, SecretBundle, SecretRotation},
    kinds::{Managed, Status, Told, object_ref, refused},
    leadership::Term,
    object::{Key, Kind},
    plan::{Course, Reason, Verdict, conditions, is_told, warnings},
    queue::{Again, Lane, Queue},
    service::{Failure, Service},
};

/// An object that ends waits so long for the key service. Then it ends all the same, so that namespaces do.
pub const ORPHAN_AFTER: Duration = Duration::from_secs(30);
/// How often it asks in that time.
const RELEASE_AGAIN: Duration = Duration::from_secs(5);
/// What the key service refuses is asked again after that time, in case that an event was lost.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// Rings count what is in them; many objects in a row make one look.
const COUNT_AFTER: Duration = Duration::from_secs(2);

/// Everything that a look needs.
pub struct Reconciler {
    /// What is kept of the cluster.
    pub caches: Arc<Caches>,
    /// What waits.
    pub queue: Arc<Queue>,
    /// The key service.
    pub service: Arc<Service>,
    /// Writes statuses and finalizers.
    pub writer: Writer,
    /// Writes events.
    pub recorder: Recorder,
    /// What is counted.
    pub counters: Counters,
    /// The time of conditions.
    pub clock: Arc<dyn Clock>,
}

/// Why a look was not brought to its end.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the API server was not written to")]
    Write(#[from] WriteError),
    #[error("the key service was not asked to the end")]
    Service(#[from] Failure),
}

impl Reconciler {
    /// Looks at one object.
    pub async fn look(&self, key: &Key, term: &Term) -> Again {
        match key.kind {
            Kind::KeyRing => self.look_at::<KeyRing>(key, term).await,
            Kind::CryptoKey => self.look_at::<CryptoKey>(key, term).await,
            Kind::ManagedSecret => self.look_at::<ManagedSecret>(key, term).await,
            Kind::SecretBundle => self.look_at::<SecretBundle>(key, term).await,
            Kind::SecretRotation => self.look_at::<SecretRotation>(key, term).await,
        }
    }

    async fn look_at<K: Managed>(&self, key: &Key, term: &Term) -> Again {
        let Some(object) = K::store(&self.caches).get(key) else {
            return Again::No;
        };
        let mut observed = self.counters.observe(K::KIND);
        let looked = if object.meta().deletion_timestamp.is_some() {
            self.end(&object, term).await
        } else {
            self.keep(&object, key, term).await
        };
        match looked {
            Ok(again) => {
                observed.outcome(Outcome::Ok);
                again
            }
            Err(LookError::Service(Failure::Stale)) => {
                observed.outcome(Outcome::Stale);
                term.is_stale();
                Again::Failed
            }
            Err(LookError::Write(WriteError::Changed)) => {
                observed.outcome(Outcome::Conflict);
                Again::Failed
            }
            // KeyService says so, and it would be said of each object.
            Err(LookError::Service(failure)) => {
                observed.outcome(Outcome::Failed);
                tracing::debug!(object = %key, error = %failure, "not done yet");
                Again::Failed
            }
            Err(error) => {
                observed.outcome(Outcome::Failed);
                tracing::warn!(object = %key, error = %strongroom_runtime::Chain(&error), "not done yet");
                Again::Failed
            }
        }
    }

    async fn keep<K: Managed>(
        &self,
        object: &Arc<K>,
        key: &Key,
        term: &Term,
    ) -> Result<Again, LookError> {
        if object.is_done() {
            return Ok(Again::No);
        }
        let facts = self.caches.facts(key.namespace(), object.subjects());
        let wish = match object.wish(&facts) {
            Ok(wish) => wish,
            Err(blocked) => {
                let verdict = Verdict::from(blocked);
                self.say(object.as_ref(), object.status(), &verdict, term)
                    .await?;
                return Ok(Again::No);
            }
        };
        let fence = match term.fence() {
            Ok(fence) => fence,
            Err(failure) => {
                self.say_away(object.as_ref(), &failure, term).await?;
                return Err(failure.into());
            }
        };
        let object = self.hold(object).await?;
        match K::ask(&self.service, fence, &wish).await {
            Ok(state) => {
                let Told {
                    status,
                    verdict,
                    notices,
                    is_new,
                } = object.told(&wish, &state);
                if is_new {
                    self.wake(key);
                }
                self.say(object.as_ref(), status, &verdict, term).await?;
                for (notice, note) in notices {
                    self.recorder.notice(object.as_ref(), notice, &note).await;
                }
                Ok(Again::No)
            }
            Err(Failure::Refused { reason, sentence }) => {
                let verdict = refused(&reason, sentence);
                let again = match verdict.course {
                    Course::Reconciling => Again::Failed,
                    Course::Settled => Again::After(REFUSED_AGAIN),
                    Course::Stalled => Again::No,
                };
                self.say(object.as_ref(), object.status(), &verdict, term)
                    .await?;
                Ok(again)
            }
            Err(Failure::Stale) => Err(Failure::Stale.into()),
            Err(failure) => {
                self.say_away(object.as_ref(), &failure, term).await?;
                Err(failure.into())
            }
        }
    }

    /// An outage is said once of what nobody was told about yet; KeyService says it of everything.
    async fn say_away<K: Managed>(
        &self,
        object: &K,
        failure: &Failure,
        term: &Term,
    ) -> Result<(), LookError> {
        let status = object.status();
        if is_told(status.conditions(), generation(object)) {
            return Ok(());
        }
        let reason = match failure {
            Failure::NotWelcome(_) => Reason::KeyServiceRefuses,
            _ => Reason::KeyServiceUnreachable,
        };
        let verdict = Verdict::not_ready(reason, failure.to_string(), Course::Reconciling);
        self.say(object, status, &verdict, term).await
    }

    /// Adds the finalizer before anything is made outside.
    async fn hold<K: Managed>(&self, object: &Arc<K>) -> Result<Arc<K>, LookError> {
        let is_held = object.finalizers().iter().any(|it| it == FINALIZER);
        if K::HELD.is_none() || is_held {
            return Ok(object.clone());
        }
        let held = self.writer.add_finalizer(object.as_ref()).await?;
        K::store(&self.caches).put(held.clone());
        Ok(Arc::new(held))
    }

    /// Writes the status if it differs, and tells of conditions that have become bad.
    async fn say<K: Managed>(
        &self,
        object: &K,
        status: K::Status,
        verdict: &Verdict,
        term: &Term,
    ) -> Result<(), LookError> {
        let before = object.status();
        let generation = generation(object);
        let now = Timestamp::from_millisecond(self.clock.now().as_i64()).unwrap_or_default();
        let conditions = conditions(before.conditions(), verdict, generation, now);
        let warnings = warnings(before.conditions(), &conditions);
        let status = status.observed(generation, conditions);
        // What was never written differs from a default that looks the same.
        if status != before {
            if !term.is_current() {
                return Err(Failure::Stale.into());
            }
            let written = self.writer.write_status(object, &status).await?;
            self.counters.wrote(K::KIND);
            K::store(&self.caches).put(written);
        }
        for (reason, note) in warnings {
            self.recorder.warn(object, &reason, &note).await;
        }
        Ok(())
    }

    /// Looks at whatever may have waited for this object.
    fn wake(&self, key: &Key) {
        let namespace = key.namespace();
        let caches = &self.caches;
        match key.kind {
            Kind::KeyRing => {
                for waiting in caches.in_rings(namespace) {
                    self.queue.add(waiting, Lane::Changed);
                }
            }
            Kind::ManagedSecret => {
                for waiting in caches.naming_secret(&key.place) {
                    self.queue.add(waiting, Lane::Changed);
                }
                self.count(namespace);
            }
            Kind::CryptoKey => self.count(namespace),
            Kind::SecretBundle | Kind::SecretRotation => {}
        }
    }

    fn count(&self, namespace: &str) {
        for ring in self.caches.rings(namespace) {
            self.queue.add_after(ring, Lane::Resync, COUNT_AFTER);
        }
    }

    /// Lets go of what an object held, and then lets it end.
    async fn end<K: Managed>(&self, object: &Arc<K>, term: &Term) -> Result<Again, LookError> {
        let is_held = object.finalizers().iter().any(|it| it == FINALIZER);
        let (Some(kind), true) = (K::HELD, is_held) else {
            return Ok(Again::No);
        };
        match self.release(object.as_ref(), kind, term).await {
            Ok(kept) => {
                tracing::info!(kind = %K::KIND, object = %object.name_any(), kept, "released");
                if !kept.is_empty() {
                    self.recorder
                        .notice(object.as_ref(), Notice::Released, &kept)
                        .await;
                }
            }
            Err(Failure::Stale) => return Err(Failure::Stale.into()),
            // What it does not know it does not hold.
            Err(Failure::Refused { sentence, .. }) => {
                tracing::info!(kind = %K::KIND, object = %object.name_any(), sentence, "nothing to release");
            }
            Err(failure) => {
                if !self.may_be_orphaned(object.as_ref()) {
                    return Ok(Again::After(RELEASE_AGAIN));
                }
                self.counters.orphaned(K::KIND);
                let note = format!(
                    "the object ends although the key service could not be told, which keeps what it held: {failure}"
                );
                tracing::warn!(kind = %K::KIND, object = %object.name_any(), note, "orphaned");
                self.recorder
                    .notice(object.as_ref(), Notice::Orphaned, &note)
                    .await;
            }
        }
        self.writer.remove_finalizer(object.as_ref()).await?;
        if K::KIND != Kind::KeyRing {
            self.count(&object.namespace().unwrap_or_default());
        }
        Ok(Again::No)
    }

    async fn release<K: Managed>(
        &self,
        object: &K,
        kind: ObjectKind,
        term: &Term,
    ) -> Result<String, Failure> {
        let namespace = object.namespace().unwrap_or_default();
        let facts = self.caches.facts(&namespace, []);
        // A namespace that is gone has nothing in it that could end.
        let object =
            object_ref(object, &facts).map_err(|blocked| Failure::Away(blocked.message))?;
        let request = ReleaseRequest {
            fence: Some(term.fence()?),
            kind: kind.into(),
            object: Some(object),
        };
        self.service.release(request).await
    }

    fn may_be_orphaned<K: Managed>(&self, object: &K) -> bool {
        let Some(ended) = &object.meta().deletion_timestamp else {
            return false;
        };
        let waited = self.clock.now().as_i64() - ended.0.as_millisecond();
        u128::try_from(waited).is_ok_and(|waited| waited >= ORPHAN_AFTER.as_millis())
    }
}

fn generation<K: Managed>(object: &K) -> i64 {
    object.meta().generation.unwrap_or_default()
}
