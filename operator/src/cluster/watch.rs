//! One watch: lists in pages, then follows, and begins anew where it was.
//!
//! Each has its own pauses, and an error of one is counted and ends here, so that a kind whose rights were revoked or whose
//! definition is gone holds up no other. Bookmarks show that a quiet watch is alive.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    api::{ListParams, WatchEvent, WatchParams},
    core::{DeserializeGuard, Status},
};
use serde::de::DeserializeOwned;

use crate::progress::Pulse;

/// Objects in one answer to a list.
const PAGE: u32 = 200;
/// After this time the API server ends a watch, which begins again where it was.
const WATCH: Duration = Duration::from_secs(180);
/// A watch that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(190);
/// Longest time for one page or for the beginning of a watch.
const ANSWER: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Who takes what a watch sees.
pub trait Sink<K>: Send {
    /// These are all objects.
    fn replaced(&mut self, objects: Vec<K>);
    /// This one is as it is now.
    fn applied(&mut self, object: K);
    /// This one is gone.
    fn deleted(&mut self, object: K);
}

/// Why a watch pauses.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the API server cannot be asked")]
    Ask(#[source] kube::Error),
    #[error("the API server ended the watch: {0}")]
    Ended(Box<Status>),
    #[error("the API server does not answer in time")]
    Silent,
    #[error("the API server gave no resource version")]
    NoVersion,
}

/// A watch of one kind.
pub struct Watch<K> {
    /// Where its objects are.
    pub api: Api<DeserializeGuard<K>>,
    /// Which of them; empty for all.
    pub fields: Option<String>,
    /// Who is told that it lives.
    pub pulse: Pulse,
}

impl<K> Watch<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    /// Follows for ever.
    pub async fn run(self, mut sink: impl Sink<K>) {
        let mut version = None;
        let mut pause = PAUSE_MIN;
        loop {
            let began = tokio::time::Instant::now();
            let outcome = self.follow(&mut version, &mut sink).await;
            if let Err(error) = &outcome {
                self.pulse.failed(error);
            }
            // One that held for a while begins its pauses anew; one that ended as it should needs none.
            let held = began.elapsed() > PAUSE_MAX;
            if held {
                pause = PAUSE_MIN;
            }
            if outcome.is_err() || !held {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    async fn follow(
        &self,
        version: &mut Option<String>,
        sink: &mut impl Sink<K>,
    ) -> Result<(), WatchError> {
        let from = match version {
            Some(version) => version.clone(),
            None => {
                let (objects, listed) = self.list().await?;
                sink.replaced(objects);
                self.pulse.beat();
                version.insert(listed).clone()
            }
        };
        let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
        let mut parameters = WatchParams::default().timeout(seconds);
        parameters.field_selector.clone_from(&self.fields);
        let stream = in_time(self.api.watch(&parameters, &from)).await?;
        self.pulse.beat();
        pin_mut!(stream);
        loop {
            let Ok(event) = tokio::time::timeout(SILENCE, stream.next()).await else {
                return Err(WatchError::Silent);
            };
            let Some(event) = event.transpose().map_err(WatchError::Ask)? else {
                return Ok(());
            };
            self.pulse.beat();
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    object.meta().resource_version.clone_into(version);
                    if let Some(object) = valid(object) {
                        sink.applied(object);
                    }
                }
                WatchEvent::Deleted(object) => {
                    object.meta().resource_version.clone_into(version);
                    if let Some(object) = valid(object) {
                        sink.deleted(object);
                    }
                }
                WatchEvent::Bookmark(mark) => *version = Some(mark.metadata.resource_version),
                WatchEvent::Error(status) => {
                    // Whatever it is, a list mends it; often it is that the version is too old.
                    *version = None;
                    return Err(WatchError::Ended(status));
                }
            }
        }
    }

    async fn list(&self) -> Result<(Vec<K>, String), WatchError> {
        let mut parameters = ListParams::default().limit(PAGE);
        parameters.field_selector.clone_from(&self.fields);
        let mut objects = Vec::new();
        loop {
            let page = in_time(self.api.list(&parameters)).await?;
            objects.extend(page.items.into_iter().filter_map(valid));
            parameters.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if parameters.continue_token.is_none() {
                let version = page.metadata.resource_version;
                return Ok((objects, version.ok_or(WatchError::NoVersion)?));
            }
        }
    }
}

async fn in_time<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, WatchError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(answer) => answer.map_err(WatchError::Ask),
        Err(_) => Err(WatchError::Silent),
    }
}

/// An object that cannot be read is one of another version of its definition; the others can.
fn valid<K>(DeserializeGuard(object): DeserializeGuard<K>) -> Option<K> {
    object
        .inspect_err(|invalid| {
            tracing::warn!(
                namespace = invalid.metadata.namespace,
                name = invalid.metadata.name,
                error = invalid.error,
                "an object cannot be read"
            );
        })
        .ok()
}
