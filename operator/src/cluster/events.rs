//! Events of objects, from a closed list of reasons: what was done, and each condition that has become bad.

use kube::{
    Client, Resource,
    runtime::events::{self, Event, EventType, Reporter},
};
use strum::{IntoStaticStr, VariantNames};

use super::FIELD_MANAGER;

/// What was done about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantNames)]
pub enum Notice {
    /// The key service made what it describes.
    Created,
    /// It took up what a former object of its name held.
    Adopted,
    /// The key service changed what it describes.
    Updated,
    /// A service account that was made anew has its roles again.
    Rebound,
    /// A new version is current.
    Rotated,
    /// Somebody has set its value.
    ValueSet,
    /// The key service has let go of it, and keeps it.
    Released,
    /// The object ends although the key service could not be told.
    Orphaned,
}

/// Longest note that is written.
const NOTE_MAX_CHARS: usize = 500;

/// Writes events.
pub struct Recorder(events::Recorder);

impl Recorder {
    /// Writes as this pod.
    pub fn new(client: Client, pod: String) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: Some(pod),
        };
        Self(events::Recorder::new(client, reporter))
    }

    /// Tells of something that was done.
    pub async fn notice<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        notice: Notice,
        note: &str,
    ) {
        let type_ = match notice {
            Notice::Orphaned => EventType::Warning,
            _ => EventType::Normal,
        };
        self.publish(object, type_, notice.into(), note).await;
    }

    /// Tells of a condition that has become bad.
    pub async fn warn<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, note: &str) {
        self.publish(object, EventType::Warning, reason, note).await;
    }

    async fn publish<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        type_: EventType,
        reason: &str,
        note: &str,
    ) {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE_MAX_CHARS).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        // An event is lost in a namespace that ends, and then the log has it.
        if let Err(error) = self.0.publish(&event, &object.object_ref(&())).await {
            tracing::info!(reason, note, error = %error, "an event could not be written");
        }
    }
}
