//! ManagedSecret: a map of fields that the key service makes, or keeps for whoever sets it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccessRule, Bound, Condition, RingReference, Rotation, SecretRole,
    condition::conditions,
    manifest::{access_rules, bound_accounts, generated_fields, set_of_names},
};

/// What the secret is like.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "ManagedSecret",
    doc = "A secret of the key service. Its values are never here; deleting the object lets go of the secret and never destroys it.",
    namespaced,
    status = "ManagedSecretStatus",
    shortname = "msec",
    category = "strongroom",
    selectable = ".spec.keyRingRef.name",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63").message("metadata.name: a DNS label, at most 63 characters without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the key service has it as it is written, with a value."),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "How far it is."),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "The version that readers get."),
    printcolumn(name = "Consumers", type_ = "string", json_path = ".status.consumers", description = "Volumes of pods that hold this version, of all that follow the secret."),
    printcolumn(name = "Next-Rotation", type_ = "string", json_path = ".status.nextRotationTime", description = "When the next version is due."),
    printcolumn(name = "Ring", type_ = "string", json_path = ".status.keyRing", description = "The KeyRing that it is in.", priority = 1),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why, in one word.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object is there.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.keyRingRef) || (has(self.keyRingRef) && self.keyRingRef.name == oldSelf.keyRingRef.name)").message("keyRingRef cannot be changed"))]
#[x_kube(validation = Rule::new("!has(self.rotation) || has(self.source.generate)").message("rotation: only a generated secret is rotated; a manual one is set"))]
pub struct ManagedSecretSpec {
    /// The KeyRing that the secret is in; may be left out where the namespace has one KeyRing. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ring_ref: Option<RingReference>,
    /// Where values come from: exactly one of the ways. Cannot be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("source cannot be changed"))]
    pub source: Source,
    /// When a new version is made; by request only if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// Who may read the secret; nobody but readers of the ring if left out. To change it one needs the verb `bind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "access_rules::<SecretRole>")]
    pub access: Vec<AccessRule<SecretRole>>,
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.generate) != has(self.manual)").message("source: exactly one of generate and manual"))]
pub struct Source {
    /// The key service makes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<Generate>,
    /// A person sets them, with `kubectl strongroom secret set`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manual: Option<Manual>,
}

/// Values that the key service makes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Generate {
    /// The fields of each version.
    #[schemars(schema_with = "generated_fields")]
    pub fields: Vec<Field>,
}

/// One field: a text that is always the same, or one that is drawn anew for each version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.value) || (!has(self.length) && !has(self.alphabet))").message("a field has either a value, or length and alphabet"))]
pub struct Field {
    /// Its name, which is that of a file in a volume.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[-._A-Za-z0-9]*[-_A-Za-z0-9][-._A-Za-z0-9]*$")
    )]
    pub name: String,
    /// A text that is the same in each version, such as a user name. It is not secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// How many characters are drawn; 8 to 1024, 32 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 8, max = 1024))]
    pub length: Option<i32>,
    /// What they are drawn from; Alphanumeric if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alphabet: Option<Alphabet>,
}

/// What characters are drawn from; Alphanumeric if left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Alphabet {
    /// A-Z, a-z and 0-9.
    Alphanumeric,
    /// 0-9 and a-f.
    Hex,
    /// The 94 printable characters of ASCII without the space.
    Printable,
}

/// Values that a person sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Manual {
    /// The names of the fields, which are set all together.
    #[schemars(schema_with = "set_of_names::<64>")]
    pub fields: Vec<String>,
}

/// How far a secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The key service does not have it yet.
    Pending,
    /// Nobody has set its value.
    AwaitingValue,
    /// It can be read.
    Active,
}

/// How the secret is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ManagedSecretStatus {
    /// The generation of the object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How it stands with the secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The KeyRing that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub key_ring: Option<String>,
    /// The secret's id in the key service.
    #[serde(default, rename = "secretID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub secret_id: Option<String>,
    /// The version that readers get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub version: Option<String>,
    /// Volumes of pods that hold this version, of all that follow the secret, such as 11/12. Empty for half a minute,
    /// and three minutes at most, after the key service was started, while drivers tell of the volumes that a new version has to
    /// reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub consumers: Option<String>,
    /// When the next version is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub next_rotation_time: Option<String>,
    /// Who may read it, as the key service has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bound_accounts")]
    pub access: Vec<Bound>,
}
