//! Paths of records in the store. A path names what the record is about; the record's MAC covers it.

use strongroom_core::{
    Generation, KeyId, Name, NodeIdentity, NodeRole, RingId, SecretId, VersionId,
};
use strongroom_store::Key;

/// The record that commits to all others.
pub(crate) const ROOT: &str = "meta/root";
/// Identity of the instance and its certificate authority.
pub(crate) const INSTANCE: &str = "meta/instance";
/// The time that was believed.
pub(crate) const CLOCK: &str = "meta/clock";
/// Heartbeats and the like: neither under the root nor in audit.
pub(crate) const TEMPORARY: &str = "tmp/";
/// The outbox of the audit log.
pub(crate) const OUTBOX: &str = "audit/ctl/";

/// Bundles. They are sorted before the rings that own them.
pub(crate) const BUNDLES: &str = "bundle/";

/// A path that is composed of constants and hexadecimal ids, so it always is a valid key.
fn key(text: String) -> Key {
    Key::new(text).expect("a path of ids is short and printable")
}

pub(crate) fn root() -> Key {
    key(ROOT.to_owned())
}

pub(crate) fn instance() -> Key {
    key(INSTANCE.to_owned())
}

pub(crate) fn clock() -> Key {
    key(CLOCK.to_owned())
}

pub(crate) fn ring(ring: RingId) -> Key {
    key(format!("ring/{ring}"))
}

pub(crate) fn kek(ring: RingId, generation: Generation) -> Key {
    key(format!("kek/{ring}/{generation}"))
}

pub(crate) fn head(ring: RingId, id: KeyId) -> Key {
    key(format!("key/{ring}/{id}"))
}

pub(crate) fn material(id: KeyId, version: VersionId) -> Key {
    key(format!("ver/{id}/{version}"))
}

pub(crate) fn outbox(seq: u64) -> Key {
    key(format!("{OUTBOX}{seq:020}"))
}

/// The replica's name has at most 63 plain characters; configuration checked that.
pub(crate) fn anchor(replica: &str) -> Key {
    key(format!("audit/anchor/{replica}"))
}

/// A node's name has at most 253 plain characters and no slash.
pub(crate) fn node(identity: &NodeIdentity) -> Key {
    key(format!("node/{identity}"))
}

pub(crate) fn secret(ring: RingId, secret: SecretId) -> Key {
    key(format!("secret/{ring}/{secret}"))
}

/// A cluster's name is a DNS label.
pub(crate) fn cluster(name: &Name) -> Key {
    key(format!("cluster/{name}"))
}

pub(crate) fn sealed(secret: SecretId, version: VersionId) -> Key {
    key(format!("sver/{secret}/{version}"))
}

/// A bundle's name is a DNS label.
pub(crate) fn bundle(ring: RingId, name: &Name) -> Key {
    key(format!("{BUNDLES}{ring}/{name}"))
}

/// What a path is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    Root,
    Instance,
    Clock,
    Ring(RingId),
    Kek(RingId, Generation),
    Head(RingId, KeyId),
    Material(KeyId, VersionId),
    Outbox(u64),
    Anchor(&'a str),
    Node(NodeIdentity),
    Cluster(Name),
    Secret(RingId, SecretId),
    Sealed(SecretId, VersionId),
    Bundle(RingId, Name),
    Temporary,
}

/// Says what a path is about; `None` for a path that this version does not know.
pub(crate) fn place(path: &str) -> Option<Place<'_>> {
    if path.starts_with(TEMPORARY) {
        return Some(Place::Temporary);
    }
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["meta", "root"] => Some(Place::Root),
        ["meta", "instance"] => Some(Place::Instance),
        ["meta", "clock"] => Some(Place::Clock),
        ["ring", ring] => Some(Place::Ring(ring.parse().ok()?)),
        ["kek", ring, generation] => {
            let generation = Generation::new(generation.parse().ok()?).ok()?;
            Some(Place::Kek(ring.parse().ok()?, generation))
        }
        ["key", ring, key] => Some(Place::Head(ring.parse().ok()?, key.parse().ok()?)),
        ["ver", key, version] => Some(Place::Material(key.parse().ok()?, version.parse().ok()?)),
        ["audit", "ctl", seq] => Some(Place::Outbox(seq.parse().ok()?)),
        ["audit", "anchor", replica] => Some(Place::Anchor(replica)),
        ["node", "kms-plugin", node] => Some(Place::Node(NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: node.parse().ok()?,
        })),
        ["secret", ring, secret] => Some(Place::Secret(ring.parse().ok()?, secret.parse().ok()?)),
        ["cluster", name] => Some(Place::Cluster(name.parse().ok()?)),
        ["sver", secret, version] => {
            Some(Place::Sealed(secret.parse().ok()?, version.parse().ok()?))
        }
        ["bundle", ring, name] => Some(Place::Bundle(ring.parse().ok()?, name.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::{StoreEpoch, VersionNumber};

    use super::*;

    #[test]
    fn every_path_reads_back_what_it_is_about() {
        let id = KeyId::from_bytes([7; 16]);
        let ring_id = RingId::from_bytes([8; 16]);
        let secret_id = SecretId::from_bytes([9; 16]);
        let version = VersionId {
            epoch: StoreEpoch::FIRST,
            number: VersionNumber::FIRST,
        };
        let plugin = NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: "cp-2.example".parse().expect("a node's name"),
        };
        let bundle_name: Name = "api".parse().expect("a DNS label");
        let east: Name = "east".parse().expect("a DNS label");
        let cases = [
            (root(), Place::Root),
            (instance(), Place::Instance),
            (clock(), Place::Clock),
            (ring(ring_id), Place::Ring(ring_id)),
            (
                kek(ring_id, Generation::FIRST),
                Place::Kek(ring_id, Generation::FIRST),
            ),
            (head(ring_id, id), Place::Head(ring_id, id)),
            (material(id, version), Place::Material(id, version)),
            (outbox(42), Place::Outbox(42)),
            (anchor("cp-1"), Place::Anchor("cp-1")),
            (node(&plugin), Place::Node(plugin)),
            (cluster(&east), Place::Cluster(east)),
            (
                secret(ring_id, secret_id),
                Place::Secret(ring_id, secret_id),
            ),
            (
                sealed(secret_id, version),
                Place::Sealed(secret_id, version),
            ),
            (
                bundle(ring_id, &bundle_name),
                Place::Bundle(ring_id, bundle_name),
            ),
        ];
        for (path, expected) in cases {
            assert_eq!(place(path.as_str()), Some(expected));
        }
    }

    #[test]
    fn unknown_paths_are_not_guessed() {
        for path in [
            "",
            "meta",
            "meta/other",
            "ring/xyz",
            "kek/a/1",
            "audit/ctl/x",
            "ring/a/b",
            "node/kms-plugin/",
            "node/kms-plugin/CP-2",
            "node/other/cp-2",
            "cluster/EAST",
            "secret/a/b",
            "sver/a/1.1",
            "bundle/a/api",
            "bundle/08080808080808080808080808080808/API",
        ] {
            assert_eq!(place(path), None, "{path}");
        }
    }
}
