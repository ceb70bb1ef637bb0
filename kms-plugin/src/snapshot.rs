//! One answer of the key service to a probe, checked once. Whatever it lets through stays within the limits that
//! kube-apiserver puts on key ids, annotations and ciphertexts.

use std::collections::{BTreeMap, HashMap};

use strongroom_api::strongroom::kms::v1::{self, ProbeResponse};
use strongroom_core::{InstanceId, StoreEpoch, VersionId};

/// kube-apiserver's limit on key ids.
pub const MAX_KEY_ID_BYTES: usize = 1024;
/// kube-apiserver's limit on what is sealed.
pub const MAX_CIPHERTEXT_BYTES: usize = 1024;
/// kube-apiserver's limit on annotations, names and values together.
pub const MAX_ANNOTATIONS_BYTES: usize = 32 * 1024;

/// Annotation that names the instance. A domain name without a slash, which kube-apiserver refuses.
const INSTANCE_ANNOTATION: &str = "instance.strongroom.dev";
/// Annotation that names the activation; its first word is the version of these annotations.
const ACTIVATION_ANNOTATION: &str = "activation.strongroom.dev";
const ANNOTATION_FORMAT: &str = "v1";

/// Why an answer of the key service is not used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedProbe {
    /// A field has no valid value.
    #[error("the key service answered with an invalid {0}")]
    Field(&'static str),
    /// The primary is not among the readable.
    #[error("the key service cannot read what it writes: its primary is not readable")]
    PrimaryUnreadable,
    /// Two activations share a key id.
    #[error("the key service gave one key id to two activations")]
    Duplicate,
}

/// One period in which a key version was primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Opaque; what kube-apiserver stores.
    pub key_id: String,
    /// Counts up over the key's life.
    pub number: u32,
    /// The key version.
    pub version: VersionId,
}

/// What the key service said at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The instance that answered.
    pub instance: InstanceId,
    /// Its store's epoch.
    pub epoch: StoreEpoch,
    /// Its store's position.
    pub seq: u64,
    /// What Encrypt uses.
    pub primary: Activation,
    readable: BTreeMap<String, Activation>,
}

impl Snapshot {
    /// Checks an answer.
    ///
    /// # Errors
    ///
    /// When it is not one that a key service gives.
    pub fn parse(response: ProbeResponse) -> Result<Self, MalformedProbe> {
        let ProbeResponse {
            instance_id,
            primary,
            readable,
            store_epoch,
            seq,
        } = response;
        let instance = instance_id
            .parse()
            .map_err(|_| MalformedProbe::Field("instance id"))?;
        let primary = parse_activation(primary.ok_or(MalformedProbe::Field("primary"))?)?;
        let count = readable.len();
        let readable = readable
            .into_iter()
            .map(|activation| Ok((activation.key_id.clone(), parse_activation(activation)?)))
            .collect::<Result<BTreeMap<_, _>, _>>()?;
        if readable.len() != count {
            return Err(MalformedProbe::Duplicate);
        }
        if readable.get(&primary.key_id) != Some(&primary) {
            return Err(MalformedProbe::PrimaryUnreadable);
        }
        let epoch = StoreEpoch::new(store_epoch);
        Ok(Self {
            instance,
            epoch,
            seq,
            primary,
            readable,
        })
    }

    /// Finds the activation behind a key id that Decrypt was given.
    pub fn known(&self, key_id: &str) -> Option<&Activation> {
        self.readable.get(key_id)
    }

    /// Counts the key ids that Decrypt knows.
    pub fn known_count(&self) -> usize {
        self.readable.len()
    }

    /// Returns what is stored beside a seed, and bound to it as associated data.
    pub fn annotations(&self, activation: &Activation) -> HashMap<String, Vec<u8>> {
        let Activation {
            number, version, ..
        } = activation;
        let bound = format!("{ANNOTATION_FORMAT} {number} {version}");
        HashMap::from([
            (
                INSTANCE_ANNOTATION.to_owned(),
                self.instance.to_string().into_bytes(),
            ),
            (ACTIVATION_ANNOTATION.to_owned(), bound.into_bytes()),
        ])
    }
}

fn parse_activation(activation: v1::Activation) -> Result<Activation, MalformedProbe> {
    let v1::Activation {
        key_id,
        number,
        version,
    } = activation;
    if key_id.is_empty() || key_id.len() > MAX_KEY_ID_BYTES {
        return Err(MalformedProbe::Field("key id"));
    }
    if number == 0 {
        return Err(MalformedProbe::Field("activation number"));
    }
    let version = version
        .parse()
        .map_err(|_| MalformedProbe::Field("key version"))?;
    Ok(Activation {
        key_id,
        number,
        version,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An answer whose activations are `1..=newest`, the last one primary.
    pub(crate) fn answer(epoch: u32, seq: u64, newest: u32) -> ProbeResponse {
        let activation = |number: u32| v1::Activation {
            key_id: format!("key-{number}"),
            number,
            version: format!("{epoch}.{number}"),
        };
        ProbeResponse {
            instance_id: "0123456789abcdef0123456789abcdef".to_owned(),
            primary: Some(activation(newest)),
            readable: (1..=newest).map(activation).collect(),
            store_epoch: epoch,
            seq,
        }
    }

    #[test]
    fn an_answer_without_its_primary_among_the_readable_is_refused() {
        let mut response = answer(1, 1, 2);
        response.readable.pop();
        assert_eq!(
            Snapshot::parse(response),
            Err(MalformedProbe::PrimaryUnreadable)
        );
    }

    #[test]
    fn one_key_id_for_two_activations_is_refused() {
        let mut response = answer(1, 1, 2);
        response.readable.push(response.readable[1].clone());
        assert_eq!(Snapshot::parse(response), Err(MalformedProbe::Duplicate));
    }

    #[test]
    fn an_oversized_or_empty_key_id_is_refused() {
        for key_id in [String::new(), "x".repeat(MAX_KEY_ID_BYTES + 1)] {
            let mut response = answer(1, 1, 1);
            response.readable[0].key_id.clone_from(&key_id);
            response.primary.as_mut().unwrap().key_id = key_id;
            assert_eq!(
                Snapshot::parse(response),
                Err(MalformedProbe::Field("key id"))
            );
        }
    }

    /// kube-apiserver's rule for names of annotations.
    fn is_domain_name(name: &str) -> bool {
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        name.len() <= 253 && name.split('.').count() >= 2 && name.split('.').all(label)
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_stays_within_the_limits(
            key_id in "\\PC{0,1100}",
            number in any::<u32>(),
            epoch in any::<u32>(),
            version in any::<u32>(),
        ) {
            let activation = v1::Activation { key_id, number, version: format!("{epoch}.{version}") };
            let response = ProbeResponse {
                primary: Some(activation.clone()),
                readable: vec![activation],
                ..answer(1, 1, 1)
            };
            if let Ok(snapshot) = Snapshot::parse(response) {
                let length = snapshot.primary.key_id.len();
                prop_assert!((1..=MAX_KEY_ID_BYTES).contains(&length));
                let annotations = snapshot.annotations(&snapshot.primary);
                let total: usize = annotations.iter().map(|(name, value)| name.len() + value.len()).sum();
                prop_assert!(total <= MAX_ANNOTATIONS_BYTES);
                prop_assert!(annotations.keys().all(|name| is_domain_name(name)));
            }
        }
    }
}
