//! Names of other objects of the same namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A KeyRing of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RingReference {
    /// The name of the KeyRing.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

/// A ManagedSecret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretReference {
    /// The name of the ManagedSecret.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}
