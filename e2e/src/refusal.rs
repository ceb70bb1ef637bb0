//! What a driver answered to kubelet, as the events of a pod have it.

use anyhow::{Context, Result};
use serde_json::Value;

/// An answer that was no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC's word for it.
    pub code: String,
    /// For people.
    pub sentence: String,
}

impl Refusal {
    /// One of such a code and sentence.
    #[must_use]
    pub fn new(code: &str, sentence: &str) -> Self {
        Self {
            code: code.to_owned(),
            sentence: sentence.to_owned(),
        }
    }

    /// Those of a pod's events; `kubectl` is asked with words that depend on the pod alone.
    ///
    /// # Errors
    /// As kubectl.
    pub fn of_pod(pod: &str, kubectl: impl Fn(&[&str]) -> Result<String>) -> Result<Vec<Self>> {
        let of = format!("--field-selector=reason=FailedMount,involvedObject.name={pod}");
        let events: Value = serde_json::from_str(&kubectl(&["get", "events", &of, "-o", "json"])?)?;
        let items = events["items"].as_array().context("a list of events")?;
        let messages = items.iter().filter_map(|event| event["message"].as_str());
        Ok(messages.filter_map(Self::in_event).collect())
    }

    fn in_event(message: &str) -> Option<Self> {
        let (_, answer) = message.split_once("rpc error: code = ")?;
        let (code, sentence) = answer.split_once(" desc = ")?;
        Some(Self::new(code, sentence))
    }
}
