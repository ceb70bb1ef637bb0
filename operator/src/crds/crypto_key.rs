//! CryptoKey: a key for those who call the API.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccessRule, Bound, Condition, KeyRole, RingReference, Window,
    condition::conditions,
    manifest::{access_rules, bound_accounts},
};

/// What the key is like.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "CryptoKey",
    doc = "A key of the key service, for those who call its API. Deleting the object lets go of the key and never destroys it.",
    namespaced,
    status = "CryptoKeyStatus",
    shortname = "ck",
    category = "strongroom",
    selectable = ".spec.keyRingRef.name",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63").message("metadata.name: a DNS label, at most 63 characters without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the key service has it as it is written."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why, in one word."),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose", description = "What it is for."),
    printcolumn(name = "Primary", type_ = "string", json_path = ".status.primaryVersion", description = "The version that encrypts."),
    printcolumn(name = "Next-Rotation", type_ = "string", json_path = ".status.nextRotationTime", description = "When the next version is due."),
    printcolumn(name = "Ring", type_ = "string", json_path = ".status.keyRing", description = "The KeyRing that it is in.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object is there.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.keyRingRef) || (has(self.keyRingRef) && self.keyRingRef.name == oldSelf.keyRingRef.name)").message("keyRingRef cannot be changed"))]
pub struct CryptoKeySpec {
    /// The KeyRing that the key is in; may be left out where the namespace has one KeyRing. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ring_ref: Option<RingReference>,
    /// What the key is for. Cannot be changed.
    pub purpose: Purpose,
    /// With what it does that. Cannot be changed.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// When a new version is made; by request only if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<KeyRotation>,
    /// Who may use the key; nobody but those of the ring if left out. To change it one needs the verb `bind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "access_rules::<KeyRole>")]
    pub access: Vec<AccessRule<KeyRole>>,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Purpose {
    /// Encrypting and decrypting data.
    EncryptDecrypt,
}

/// How a key does what it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// AES-256-GCM, with a key of its own for each message.
    #[default]
    AES256GCM,
}

/// When a new version of a key is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.period) || !has(self.window)").message("a window needs a period"))]
pub struct KeyRotation {
    /// The age at which a version is replaced, such as 2160h; 1h to 87600h. By request only if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(h|m|s))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('87600h')").message("period: 1h to 87600h"))]
    pub period: Option<String>,
    /// When a rotation that is due may happen; at any time if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Each new value makes one new version, once.
    #[serde(default, rename = "requestID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]+$"))]
    pub request_id: Option<String>,
}

/// How the key is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CryptoKeyStatus {
    /// The generation of the object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How it stands with the key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The KeyRing that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub key_ring: Option<String>,
    /// The key's id in the key service.
    #[serde(default, rename = "keyID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub key_id: Option<String>,
    /// The version that encrypts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub primary_version: Option<String>,
    /// Versions that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub versions: Option<i64>,
    /// When the next version is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub next_rotation_time: Option<String>,
    /// The last `rotation.requestID` that was handled.
    #[serde(
        default,
        rename = "handledRequestID",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 128))]
    pub handled_request_id: Option<String>,
    /// Who may use the key, as the key service has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bound_accounts")]
    pub access: Vec<Bound>,
}
