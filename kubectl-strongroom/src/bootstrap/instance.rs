//! What init left in the data folders: whether there is a token, and which instance.

use std::path::Path;

use serde::Deserialize;

use super::{
    host::{LookError, Root},
    layout::STATE,
};

/// The state of the token and of the key service's folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Instance {
    /// `hsm-agent init` has finished.
    pub(super) token_is_made: bool,
    /// `key-service init` has finished, and this is what it pinned.
    pub(super) identity: Option<Identity>,
}

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

pub(super) fn look(root: &Root) -> Result<Instance, LookError> {
    let is_there = |path: &str| root.at(Path::new(STATE).join(path)).exists();
    // Each of the two keeps a mark from its beginning to its end.
    let token_is_made = is_there("hsm-agent/pin") && !is_there("hsm-agent/init-pending");
    let is_made = is_there("key-service/store.db") && !is_there("key-service/init-intent.json");
    let pin = root.read(Path::new(STATE).join("key-service/pin.json"))?;
    Ok(Instance {
        token_is_made,
        identity: pin.filter(|_| is_made).as_deref().and_then(identity),
    })
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
        let put = |path: &str, text: &str| {
            let path = root.at(Path::new(STATE).join(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(look(&root).unwrap(), Instance::default());
        put("hsm-agent/pin", "x");
        put("hsm-agent/init-pending", "x");
        put("key-service/store.db", "");
        put("key-service/init-intent.json", "{}");
        put(
            "key-service/pin.json",
            r#"{"instanceId": "aa", "recordSigningKey": "", "checkpointCertifyingKey": "00"}"#,
        );
        assert_eq!(look(&root).unwrap(), Instance::default());
        for mark in ["hsm-agent/init-pending", "key-service/init-intent.json"] {
            std::fs::remove_file(root.at(Path::new(STATE).join(mark))).unwrap();
        }
        let instance = look(&root).unwrap();
        assert!(instance.token_is_made);
        assert_eq!(instance.identity.unwrap().id, "aa");
    }
}
