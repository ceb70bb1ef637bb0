//! Many secrets at once: how long each takes, and what an operator asks of its API server.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Operated, SYSTEM};

/// Manifests of so many generated secrets in the namespace `payments`.
#[must_use]
pub fn secrets(objects: usize) -> String {
    let secret = |number| {
        json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": "ManagedSecret",
            "metadata": {"name": format!("s-{number:04}"), "namespace": "payments"},
            "spec": {"source": {"generate": {"fields": [{"name": "password"}]}}},
        })
    };
    let items: Vec<Value> = (0..objects).map(secret).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// From when each secret that is ready was made to when it became ready, in seconds: times of the API server have no more.
///
/// # Errors
/// As kubectl.
pub fn seconds_to_ready(story: &Operated) -> Result<Vec<i64>> {
    let shown = story.kubectl(&["get", "msec", "-o", "json"])?;
    let list: Value = serde_json::from_str(&shown)?;
    let second = |text: &Value| -> Result<i64> {
        let text = text.as_str().context("a time")?;
        Ok(text.parse::<jiff::Timestamp>()?.as_second())
    };
    let items = list["items"].as_array().context("a list")?;
    let mut delays = Vec::new();
    for item in items {
        let conditions = item["status"]["conditions"].as_array();
        let ready = conditions
            .into_iter()
            .flatten()
            .find(|it| it["type"] == "Ready" && it["status"] == "True");
        if let Some(ready) = ready {
            let made = second(&item["metadata"]["creationTimestamp"])?;
            delays.push(second(&ready["lastTransitionTime"])? - made);
        }
    }
    delays.sort_unstable();
    Ok(delays)
}

/// What the operator asks of the API server in that time, as `VERB RESOURCE`, each with how often.
///
/// # Errors
/// When the API server's audit log cannot be read.
pub fn requests_in(story: &Operated, time: Duration) -> Result<BTreeMap<String, usize>> {
    let before = requests(story)?;
    thread::sleep(time);
    let mut requests = requests(story)?;
    for (request, count) in &mut requests {
        *count -= before.get(request).copied().unwrap_or(0);
    }
    requests.retain(|_, count| *count > 0);
    Ok(requests)
}

fn requests(story: &Operated) -> Result<BTreeMap<String, usize>> {
    let operator = format!("system:serviceaccount:{SYSTEM}:strongroom-operator");
    let log = fs::read_to_string(story.cluster.layout().audit_log())?;
    let mut requests = BTreeMap::new();
    // The last line may not be whole yet.
    let records = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    for record in records {
        let record: Value = record;
        if record["user"]["username"] == operator.as_str() && record["stage"] == "ResponseComplete"
        {
            let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
            let request = format!(
                "{} {}",
                word(&record["verb"]),
                word(&record["objectRef"]["resource"])
            );
            *requests.entry(request).or_default() += 1;
        }
    }
    Ok(requests)
}
