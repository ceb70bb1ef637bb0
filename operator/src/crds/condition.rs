//! Conditions as Kubernetes writes them, with bounds on each field.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is so, is not, or is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 64))]
    pub type_: String,
    /// Whether it is so.
    pub status: Truth,
    /// The generation of the object that was looked at.
    #[schemars(range(min = 0))]
    pub observed_generation: i64,
    /// When the status last changed.
    pub last_transition_time: Time,
    /// Why, in one word of a closed list.
    #[schemars(length(min = 1, max = 64))]
    pub reason: String,
    /// Why, in a sentence, with what to do about it.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// Whether a condition is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    /// It is so.
    True,
    /// It is not.
    False,
    /// It is not known.
    Unknown,
}

/// The conditions of a status: one of each type.
pub(super) fn conditions(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let items = <Vec<Condition>>::json_schema(generator);
    super::manifest::map_of(items, "type", 16)
}
