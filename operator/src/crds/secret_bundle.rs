//! SecretBundle: which secrets become which files of a volume.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Condition, RingReference,
    condition::conditions,
    manifest::{bundle_files, names, set_of_names},
};

/// What a volume of this bundle holds.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "strongroom.dev",
    version = "v1alpha1",
    kind = "SecretBundle",
    doc = "Which secrets become which files of a volume. A pod needs the role SecretReader on each of them.",
    namespaced,
    status = "SecretBundleStatus",
    shortname = "sb",
    category = "strongroom",
    selectable = ".spec.keyRingRef.name",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63").message("metadata.name: a DNS label, at most 63 characters without dots"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether the key service has it as it is written."),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason", description = "Why, in one word."),
    printcolumn(name = "Ring", type_ = "string", json_path = ".status.keyRing", description = "The KeyRing that it is in.", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Since when the object is there.")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(oldSelf.keyRingRef) || (has(self.keyRingRef) && self.keyRingRef.name == oldSelf.keyRingRef.name)").message("keyRingRef cannot be changed"))]
pub struct SecretBundleSpec {
    /// The KeyRing that the bundle is in; may be left out where the namespace has one KeyRing. Cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_ring_ref: Option<RingReference>,
    /// The mode of files that say none, in octal, with bits for reading and writing; 0440 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4), regex(pattern = r"^0[0246]{3}$"))]
    pub default_mode: Option<String>,
    /// The files.
    #[schemars(schema_with = "bundle_files")]
    #[x_kube(validation = Rule::new("self.all(folder, !self.exists(file, file.path.startsWith(folder.path + '/')))").message("files: the path of one is a folder of another's"))]
    pub files: Vec<BundleFile>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.from) != has(self.template)").message("a file has exactly one of from and template"))]
#[x_kube(validation = Rule::new("!has(self.optional) || has(self.from)").message("optional: only with from"))]
pub struct BundleFile {
    /// Where it is in the volume: 1 to 8 names, with a slash between them.
    #[schemars(
        length(min = 1, max = 255),
        regex(
            pattern = r"^\.?[-_A-Za-z0-9][-._A-Za-z0-9]*(/\.?[-_A-Za-z0-9][-._A-Za-z0-9]*){0,7}$"
        )
    )]
    pub path: String,
    /// Its mode, in octal, with bits for reading and writing; the bundle's `defaultMode` if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4), regex(pattern = r"^0[0246]{3}$"))]
    pub mode: Option<String>,
    /// Who owns it; root and the pod's fsGroup if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<FileOwner>,
    /// One field of a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FieldOf>,
    /// A text with fields of secrets in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Whether a pod starts without this file while there is no value for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// Who owns a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FileOwner {
    /// The user; root if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub uid: Option<i64>,
    /// The group; the pod's fsGroup if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_294_i64))]
    pub gid: Option<i64>,
}

/// One field of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldOf {
    /// The ManagedSecret of this namespace.
    #[schemars(length(min = 1, max = 63))]
    pub secret: String,
    /// The field of it.
    #[schemars(length(min = 1, max = 253))]
    pub field: String,
    /// Which version; Current if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
}

/// Which version of a secret; Current if left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Stage {
    /// What readers get.
    Current,
    /// What was current before.
    Previous,
}

/// A text with fields of secrets in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The secrets that the text may name.
    #[schemars(schema_with = "names::<16, 63>")]
    pub secrets: Vec<String>,
    /// The text, with `{{ SECRET.FIELD }}` and `{{ SECRET.FIELD | FILTER }}` in it.
    #[schemars(length(max = 16384))]
    pub text: String,
}

/// How the bundle is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretBundleStatus {
    /// The generation of the object that was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How it stands with the bundle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The KeyRing that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub key_ring: Option<String>,
    /// Secrets that it names and that are not there; volumes wait for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "set_of_names::<2048>")]
    pub missing: Vec<String>,
}
