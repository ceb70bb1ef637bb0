//! The parts of objects that commands look at.
//!
//! Nothing is required but a name: an object may be older or newer than this program, or have no status yet.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use strongroom_core::SecretBytes;

/// Any object.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(
    default,
    bound(deserialize = "S: Deserialize<'de> + Default, T: Deserialize<'de> + Default")
)]
pub(crate) struct Object<S, T> {
    pub(crate) metadata: Metadata,
    #[serde(deserialize_with = "or_default")]
    pub(crate) spec: S,
    #[serde(deserialize_with = "or_default")]
    pub(crate) status: T,
}

/// `null` is as good as nothing.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A part that nobody looks at.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Ignored {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) generation: Option<i64>,
    pub(crate) deletion_timestamp: Option<Timestamp>,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "T: Deserialize<'de>"))]
pub(super) struct List<T> {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    pub(super) items: Vec<T>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ListMetadata {
    pub(super) r#continue: Option<String>,
}

/// One condition, as all kinds have them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Condition {
    pub(crate) r#type: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// A status with conditions.
pub(crate) trait Conditions {
    fn conditions(&self) -> &[Condition];
    fn observed_generation(&self) -> Option<i64>;

    fn condition(&self, r#type: &str) -> Option<&Condition> {
        self.conditions()
            .iter()
            .find(|condition| condition.r#type == r#type)
    }
}

macro_rules! conditions {
    ($($status:ty),+) => {$(
        impl Conditions for $status {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }

            fn observed_generation(&self) -> Option<i64> {
                self.observed_generation
            }
        }
    )+};
}

conditions!(
    KeyServiceStatus,
    KeyRingStatus,
    CryptoKeyStatus,
    ManagedSecretStatus,
    SecretBundleStatus,
    SecretRotationStatus
);

/// `spec.access`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AccessRule {
    pub(crate) role: String,
    pub(crate) subjects: Vec<Subject>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Subject {
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// `status.access`: what the key service has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Bound {
    pub(crate) role: String,
    pub(crate) service_account: String,
    pub(crate) uid: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Reference {
    pub(crate) name: String,
}

pub(crate) type KeyService = Object<Ignored, KeyServiceStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct KeyServiceStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    #[serde(rename = "instanceID")]
    pub(crate) instance_id: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) hardware: Option<bool>,
}

pub(crate) type KeyRing = Object<KeyRingSpec, KeyRingStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KeyRingSpec {
    pub(crate) access: Vec<AccessRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct KeyRingStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) access: Vec<Bound>,
}

pub(crate) type CryptoKey = Object<Ignored, CryptoKeyStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CryptoKeyStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) primary_version: Option<String>,
    #[serde(rename = "handledRequestID")]
    pub(crate) handled_request_id: Option<String>,
}

pub(crate) type ManagedSecret = Object<ManagedSecretSpec, ManagedSecretStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ManagedSecretSpec {
    pub(crate) key_ring_ref: Option<Reference>,
    pub(crate) source: Source,
    pub(crate) access: Vec<AccessRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Source {
    pub(crate) generate: Option<Generate>,
    pub(crate) manual: Option<Manual>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Generate {
    pub(crate) fields: Vec<GeneratedField>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GeneratedField {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Manual {
    pub(crate) fields: Vec<String>,
}

impl Source {
    /// The names of the fields of each version.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let generated = self.generate.iter().flat_map(|source| &source.fields);
        let manual = self.manual.iter().flat_map(|source| &source.fields);
        generated
            .map(|field| field.name.as_str())
            .chain(manual.map(String::as_str))
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ManagedSecretStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) phase: Option<String>,
    pub(crate) key_ring: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) consumers: Option<String>,
    pub(crate) access: Vec<Bound>,
}

pub(crate) type SecretBundle = Object<SecretBundleSpec, SecretBundleStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SecretBundleSpec {
    pub(crate) key_ring_ref: Option<Reference>,
    pub(crate) files: Vec<BundleFile>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BundleFile {
    pub(crate) path: String,
    pub(crate) optional: bool,
    pub(crate) from: Option<FieldOf>,
    pub(crate) template: Option<Template>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FieldOf {
    pub(crate) secret: String,
    pub(crate) field: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Template {
    pub(crate) secrets: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SecretBundleStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) key_ring: Option<String>,
}

pub(crate) type SecretRotation = Object<Ignored, SecretRotationStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct SecretRotationStatus {
    pub(crate) observed_generation: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) version: Option<String>,
}

pub(crate) type Pod = Object<PodSpec, PodStatus>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PodSpec {
    pub(crate) node_name: Option<String>,
    pub(crate) service_account_name: Option<String>,
    pub(crate) volumes: Vec<Volume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) csi: Option<CsiVolume>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CsiVolume {
    pub(crate) driver: String,
    pub(crate) read_only: bool,
    pub(crate) volume_attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodStatus {
    pub(crate) phase: Option<String>,
}

/// What is known by its metadata alone.
pub(crate) type Named = Object<Ignored, Ignored>;

pub(crate) type CsiNode = Object<CsiNodeSpec, Ignored>;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CsiNodeSpec {
    pub(crate) drivers: Vec<Reference>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) last_timestamp: Option<Timestamp>,
    pub(crate) event_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ConfigMap {
    pub(crate) data: BTreeMap<String, String>,
}

/// Replicas of any workload, under the names of each kind.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct WorkloadStatus {
    pub(crate) replicas: i64,
    pub(crate) ready_replicas: i64,
    pub(crate) desired_number_scheduled: i64,
    pub(crate) number_ready: i64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct WorkloadSpec {
    pub(crate) replicas: Option<i64>,
}

pub(crate) type Workload = Object<WorkloadSpec, WorkloadStatus>;

/// A Secret of Kubernetes. Its values are wiped, and in no output.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct KubernetesSecret {
    pub(crate) data: BTreeMap<String, Base64>,
}

/// Bytes as JSON carries them.
#[derive(Default)]
pub(crate) struct Base64(pub(crate) Option<SecretBytes>);

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(redacted)")
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let text = SecretBytes::new(String::deserialize(deserializer)?.into_bytes());
        let bytes = STANDARD
            .decode(text.expose())
            .map_err(|_| D::Error::custom("a value is not base64"))?;
        Ok(Self(Some(SecretBytes::new(bytes))))
    }
}
