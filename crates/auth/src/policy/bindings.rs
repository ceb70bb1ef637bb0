//! What the configuration gives to certificates, a role on a ring, and what records of secrets give to service accounts.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_lc_rs::digest::{Context, SHA256};
use cedar_policy::{EntityUid, PolicyId, PolicySet, SlotId};
use strongroom_core::{Access, AccessRole, RingId, ServiceAccount};

use super::{Fault, PolicyError, entities, platform::Platform};

/// How many bindings one ring can have. A decision with 50 links costs 42 µs, one with 600 costs 434 µs.
pub const BINDINGS_PER_RING_MAX: usize = 64;

/// What a binding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Encrypt with the keys of the ring and describe them.
    KeyEncrypter,
    /// Decrypt with the keys of the ring and describe them.
    KeyDecrypter,
    /// Reveal the secrets of the ring and describe them.
    SecretReader,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KeyEncrypter, Self::KeyDecrypter, Self::SecretReader];

    /// Its name in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyEncrypter => "KeyEncrypter",
            Self::KeyDecrypter => "KeyDecrypter",
            Self::SecretReader => "SecretReader",
        }
    }

    pub(super) const fn template(self) -> &'static str {
        match self {
            Self::KeyEncrypter => include_str!("../../policies/key-encrypter.cedar"),
            Self::KeyDecrypter => include_str!("../../policies/key-decrypter.cedar"),
            Self::SecretReader => include_str!("../../policies/secret-reader.cedar"),
        }
    }
}

impl From<AccessRole> for Role {
    fn from(role: AccessRole) -> Self {
        match role {
            AccessRole::KeyEncrypter => Self::KeyEncrypter,
            AccessRole::KeyDecrypter => Self::KeyDecrypter,
            AccessRole::SecretReader => Self::SecretReader,
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
        let name = format!("binding {index} of ring {ring}");
        let principal = entities::certificate(&binding.certificate);
        add(
            &mut policies,
            binding.role,
            name,
            principal,
            entities::ring(ring),
        )
        .map_err(PolicyError::Platform)?;
    }
    Ok(policies)
}

/// Platform policies and those links in the records of an object and of its ring that name this account: never more than
/// twice the number of roles. The configuration's bindings name certificates, which no link here does, so that one question
/// never reads both.
pub(super) fn link_records(
    platform: &Platform,
    account: &ServiceAccount,
    records: [(EntityUid, &Access); 2],
) -> Result<PolicySet, Fault> {
    let mut policies = platform.policies().clone();
    for (resource, access) in records {
        let of_account = access.grants().filter(|(_, bound)| bound == account);
        for (role, bound) in of_account {
            let name = format!("{} on {resource}", role.as_str());
            let principal = entities::service_account(&bound);
            add(
                &mut policies,
                role.into(),
                name,
                principal,
                resource.clone(),
            )?;
        }
    }
    Ok(policies)
}

fn add(
    policies: &mut PolicySet,
    role: Role,
    name: String,
    principal: EntityUid,
    resource: EntityUid,
) -> Result<(), Fault> {
    let slots = HashMap::from([
        (SlotId::principal(), principal),
        (SlotId::resource(), resource),
    ]);
    policies.link(PolicyId::new(role.as_str()), PolicyId::new(name), slots)?;
    Ok(())
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
