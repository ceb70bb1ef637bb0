//! What init left in the key service's folder: which instance it made, once it has finished.

use std::path::Path;

use serde::Deserialize;

use super::{
    host::{LookError, Root},
    layout::STATE,
};

/// What an instance is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: String,
    /// Fingerprint of the key that certifies checkpoints of the audit log.
    pub(super) audit_fingerprint: String,
}

/// `pin.json`, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pin {
    instance_id: String,
    checkpoint_certifying_key: String,
}

/// Looks for an instance.
pub(super) fn look(root: &Root) -> Result<Option<Identity>, LookError> {
    let path = |name: &str| Path::new(STATE).join("key-service").join(name);
    let is_there = |name: &str| root.at(path(name)).exists();
    // Init keeps a mark from its beginning to its end.
    let is_made = is_there("store.db") && !is_there("init-intent.json");
    let pin = root.read(path("pin.json"))?;
    Ok(pin.filter(|_| is_made).as_deref().and_then(identity))
}

fn identity(pin: &str) -> Option<Identity> {
    let pin: Pin = serde_json::from_str(pin).ok()?;
    let key = hex::decode(pin.checkpoint_certifying_key).ok()?;
    Some(Identity {
        id: pin.instance_id,
        audit_fingerprint: strongroom_audit::spki_fingerprint(&key).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_counts_when_its_mark_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root(folder.path().to_owned());
        let at = |name: &str| root.at(Path::new(STATE).join("key-service").join(name));
        std::fs::create_dir_all(at("")).unwrap();
        assert_eq!(look(&root).unwrap(), None);
        std::fs::write(at("store.db"), "").unwrap();
        std::fs::write(at("init-intent.json"), "{}").unwrap();
        let pin =
            r#"{"instanceId": "aa", "recordSigningKey": "", "checkpointCertifyingKey": "00"}"#;
        std::fs::write(at("pin.json"), pin).unwrap();
        assert_eq!(look(&root).unwrap(), None);
        std::fs::remove_file(at("init-intent.json")).unwrap();
        assert_eq!(look(&root).unwrap().unwrap().id, "aa");
    }
}
