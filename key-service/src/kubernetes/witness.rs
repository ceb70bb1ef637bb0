//! ConfigMap `strongroom-witness`: which instance this cluster knows. It outlives volumes and releases, so that an empty
//! volume is not taken for a new installation, and another instance not for this one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use strongroom_core::InstanceId;

/// Its name.
pub(crate) const NAME: &str = "strongroom-witness";
const INSTANCE: &str = "instanceId";
/// Longest text of somebody else's that is shown.
const SHOWN_MAX: usize = 64;

/// Whom a witness names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Witness {
    /// Nobody: it is not there, or says nothing.
    Nobody,
    /// This instance.
    Instance(InstanceId),
    /// Something that is no instance.
    Unreadable(String),
}

impl Witness {
    /// Reads the ConfigMap, which may not be there.
    pub(crate) fn read(config_map: Option<&ConfigMap>) -> Self {
        let data = config_map.and_then(|it| it.data.as_ref());
        match data.and_then(|data| data.get(INSTANCE)) {
            None => Self::Nobody,
            Some(text) if text.is_empty() => Self::Nobody,
            Some(text) => match text.parse() {
                Ok(instance) => Self::Instance(instance),
                Err(_) => Self::Unreadable(shown(text)),
            },
        }
    }

    /// What it says when it speaks for `instance`.
    pub(crate) fn data(instance: InstanceId) -> BTreeMap<String, String> {
        BTreeMap::from([(INSTANCE.to_owned(), instance.to_string())])
    }

    /// Why it does not speak for `instance`, in a sentence; none when it does, or names nobody.
    pub(crate) fn contradiction(&self, instance: InstanceId) -> Option<String> {
        match self {
            Self::Nobody => None,
            Self::Instance(named) if *named == instance => None,
            Self::Instance(named) => Some(format!(
                "{NAME} names instance {named}, this is {instance}: mount the volumes of that instance, or correct the \
                 ConfigMap if it was changed by mistake"
            )),
            Self::Unreadable(text) => Some(format!(
                "{NAME} names {text:?}, which is no instance; this is {instance}: correct the ConfigMap"
            )),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(data: &[(&str, &str)]) -> Witness {
        let pairs = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config_map = ConfigMap {
            data: Some(pairs.collect()),
            ..ConfigMap::default()
        };
        Witness::read(Some(&config_map))
    }

    #[test]
    fn witness_reads_back_what_is_written() {
        let instance = InstanceId::from_bytes([7; 16]);
        let written = ConfigMap {
            data: Some(Witness::data(instance)),
            ..ConfigMap::default()
        };
        let read = Witness::read(Some(&written));
        assert_eq!(read, Witness::Instance(instance));
        assert_eq!(read.contradiction(instance), None);
    }

    #[test]
    fn empty_witness_contradicts_nobody() {
        let instance = InstanceId::from_bytes([7; 16]);
        let none = ConfigMap::default();
        for nobody in [
            Witness::read(None),
            Witness::read(Some(&none)),
            witness(&[("checkpoint", "text")]),
            witness(&[("instanceId", "")]),
        ] {
            assert_eq!(nobody, Witness::Nobody);
            assert_eq!(nobody.contradiction(instance), None);
        }
    }

    #[test]
    fn other_instance_and_nonsense_contradict() {
        let instance = InstanceId::from_bytes([7; 16]);
        let other = witness(&[("instanceId", &"08".repeat(16))]);
        let sentence = other.contradiction(instance).expect("is another");
        assert!(sentence.contains(&"08".repeat(16)), "{sentence}");
        let nonsense = witness(&[("instanceId", &"x".repeat(1000))]);
        let sentence = nonsense.contradiction(instance).expect("is none");
        assert!(sentence.len() < 300, "{sentence}");
    }
}
