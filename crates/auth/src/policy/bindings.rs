//! What the configuration gives to certificates: a role on a ring.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::digest::{Context, SHA256};
use cedar_policy::{PolicyId, PolicySet, SlotId};
use strongroom_core::RingId;

use super::{PolicyError, entities, platform::Platform};

/// How many bindings one ring can have. A decision with 50 links costs 42 µs, one with 600 costs 434 µs.
pub const BINDINGS_PER_RING_MAX: usize = 64;

/// What a binding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Encrypt with the keys of the ring and describe them.
    KeyEncrypter,
    /// Decrypt with the keys of the ring and describe them.
    KeyDecrypter,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::KeyEncrypter, Self::KeyDecrypter];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyEncrypter => "KeyEncrypter",
            Self::KeyDecrypter => "KeyDecrypter",
        }
    }

    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::KeyEncrypter => include_str!("../../policies/key-encrypter.cedar"),
            Self::KeyDecrypter => include_str!("../../policies/key-decrypter.cedar"),
        }
    }
}

/// A role on one ring for the holder of a certificate. On a system ring it gives nothing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Binding {
    /// What is allowed.
    pub role: Role,
    /// The common name of the certificate.
    pub certificate: String,
    /// Where.
    pub ring: RingId,
}

/// Gives each ring with bindings its own set: platform policies and the links of that ring.
pub(super) fn link(
    platform: &Platform,
    bindings: &BTreeSet<Binding>,
) -> Result<BTreeMap<RingId, PolicySet>, PolicyError> {
    let mut rings: BTreeMap<RingId, Vec<&Binding>> = BTreeMap::new();
    for binding in bindings {
        rings.entry(binding.ring).or_default().push(binding);
    }
    rings
        .into_iter()
        .map(|(ring, bindings)| Ok((ring, link_ring(platform, ring, &bindings)?)))
        .collect()
}

fn link_ring(
    platform: &Platform,
    ring: RingId,
    bindings: &[&Binding],
) -> Result<PolicySet, PolicyError> {
    let count = bindings.len();
    if count > BINDINGS_PER_RING_MAX {
        return Err(PolicyError::TooManyBindings { ring, count });
    }
    let mut policies = platform.policies().clone();
    for (index, binding) in bindings.iter().enumerate() {
        let template = PolicyId::new(binding.role.as_str());
        let link = PolicyId::new(format!("binding {index} of ring {ring}"));
        let slots = HashMap::from([
            (
                SlotId::principal(),
                entities::certificate(&binding.certificate),
            ),
            (SlotId::resource(), entities::ring(ring)),
        ]);
        policies
            .link(template, link, slots)
            .map_err(|error| PolicyError::Platform(Box::new(error)))?;
    }
    Ok(policies)
}

/// Names everything that decides: the same on each start with the same program and configuration.
pub(super) fn revision(administrators: &BTreeSet<String>, bindings: &BTreeSet<Binding>) -> u64 {
    let mut digest = Context::new(&SHA256);
    let mut part = |text: &str| {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        digest.update(&length.to_be_bytes());
        digest.update(text.as_bytes());
    };
    Platform::texts().for_each(&mut part);
    part(&administrators.len().to_string());
    administrators.iter().for_each(|name| part(name));
    for Binding {
        role,
        certificate,
        ring,
    } in bindings
    {
        part(role.as_str());
        part(certificate);
        part(&ring.to_string());
    }
    let digest = digest.finish();
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}
