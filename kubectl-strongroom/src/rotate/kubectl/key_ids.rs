//! Which key ids an API server got from Status, and when.

use std::collections::BTreeMap;

use crate::metrics_text::{Sample, samples};

/// The time of the last Status answer with that key id.
const METRIC: &str = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds";

/// What one API server reported: for each provider of its encryption configuration the latest key id.
#[derive(Debug, Default, PartialEq)]
pub(super) struct KeyIds(BTreeMap<String, Latest>);

#[derive(Debug, PartialEq)]
struct Latest {
    key_id_hash: String,
    at: f64,
}

impl KeyIds {
    /// The key id of each provider.
    pub(super) fn latest(&self) -> Vec<String> {
        self.0
            .values()
            .map(|latest| latest.key_id_hash.clone())
            .collect()
    }

    fn note(&mut self, provider: String, key_id_hash: String, at: f64) {
        if self.0.get(&provider).is_none_or(|latest| latest.at < at) {
            self.0.insert(provider, Latest { key_id_hash, at });
        }
    }
}

/// Reads the key ids out of an API server's metrics, by the hash of the API server's identity.
pub(super) fn by_identity(metrics: &str) -> BTreeMap<String, KeyIds> {
    let mut key_ids: BTreeMap<String, KeyIds> = BTreeMap::new();
    for Sample { mut labels, value } in samples(metrics, METRIC) {
        let mut label = |name| labels.remove(name).unwrap_or_default();
        let identity = label("apiserver_id_hash");
        let (provider, key_id_hash) = (label("provider_name"), label("key_id_hash"));
        key_ids
            .entry(identity)
            .or_default()
            .note(provider, key_id_hash, value);
    }
    key_ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(server: &str, provider: &str, key: &str, at: &str) -> String {
        format!(
            "{METRIC}{{apiserver_id_hash=\"{server}\",key_id_hash=\"{key}\",provider_name=\"{provider}\"}} {at}\n"
        )
    }

    #[test]
    fn latest_key_id_of_each_provider_counts() {
        let text = [
            line("a", "strongroom", "new", "1.674865558833728e+09"),
            line("a", "strongroom", "old", "1.674865498833728e+09"),
            line("a", "other", "its-own", "1.674865558833728e+09"),
            line("b", "strongroom", "old", "1.674865558833728e+09"),
        ]
        .concat();
        let key_ids = by_identity(&text);
        assert_eq!(key_ids["a"].latest(), ["its-own", "new"]);
        assert_eq!(key_ids["b"].latest(), ["old"]);
    }
}
