//! KeyService: how the installation is. There is one.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, condition::conditions};

/// Nothing is written here; the configuration of the programs says what the installation is like.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "KeyService",
    doc = "How the key service of this cluster is. There is one, called default, which the operator makes.",
    status = "KeyServiceStatus",
    category = "strongroom",
    no_spec,
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'").message("metadata.name: there is one KeyService, called default"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the key service answers and all that it needs is there."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why, in one word."),
    printcolumn(name = "Hardware", type_ = "boolean", json_path = ".status.hardware", description = "Whether the root keys are in hardware."),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", description = "The key service's version."),
    printcolumn(name = "Instance", type_ = "string", json_path = ".status.instanceID", description = "The instance that this cluster trusts.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object is there.")
)]
#[serde(rename_all = "camelCase")]
pub struct KeyServiceFields {}

/// How the installation is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyServiceStatus {
    /// The generation of the object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How it stands with the key service and what it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The instance that answered first; another one is not believed while this is here.
    #[serde(
        default,
        rename = "instanceID",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 64))]
    pub instance_id: Option<String>,
    /// The key service's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Whether the root keys are in hardware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<bool>,
    /// The token's model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub token_model: Option<String>,
    /// How often the key service's store was restored, and one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub store_epoch: Option<i64>,
}
