//! KeyRing: what a namespace owns in the key service.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccessRule, Bound, Condition, RingRole,
    condition::conditions,
    manifest::{access_rules, bound_accounts},
};

/// What the ring is like.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "KeyRing",
    doc = "A ring of the key service, which holds keys and secrets of this namespace under one key of its own. The platform makes it.",
    namespaced,
    status = "KeyRingStatus",
    shortname = "kr",
    category = "strongroom",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63").message("metadata.name: a DNS label, at most 63 characters without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the key service has it as it is written."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why, in one word."),
    printcolumn(name = "Keys", type_ = "integer", json_path = ".status.keys", description = "Keys in the ring."),
    printcolumn(name = "Secrets", type_ = "integer", json_path = ".status.secrets", description = "Secrets in the ring."),
    printcolumn(name = "Ring", type_ = "string", json_path = ".status.ringID", description = "Its id in the key service.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object is there.")
)]
#[serde(rename_all = "camelCase")]
pub struct KeyRingSpec {
    /// Where the keys of the ring can be used in the clear.
    #[serde(default)]
    pub protection_level: ProtectionLevel,
    /// Who may use what is in the ring; nobody if left out. To change it one needs the verb `bind`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "access_rules::<RingRole>")]
    pub access: Vec<AccessRule<RingRole>>,
}

/// Where keys can be used in the clear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProtectionLevel {
    /// In locked memory of the key service; everywhere else they are wrapped under a key of the HSM.
    #[default]
    HSMWrapped,
}

/// How the ring is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRingStatus {
    /// The generation of the object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How it stands with the ring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The ring's id in the key service.
    #[serde(default, rename = "ringID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ring_id: Option<String>,
    /// Keys in the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub keys: Option<i64>,
    /// Secrets in the ring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub secrets: Option<i64>,
    /// Who may use what is in the ring, as the key service has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "bound_accounts")]
    pub access: Vec<Bound>,
}
