//! When new versions are made.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// When a new version is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rotation {
    /// The age at which a version is replaced, such as 720h; 1h to 87600h.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(h|m|s))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1h') && duration(self) <= duration('87600h')").message("period: 1h to 87600h"))]
    pub period: String,
    /// When a rotation that is due may happen; at any time if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// A stretch of time that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it opens: minute, hour, day of the month, month and day of the week.
    #[schemars(length(max = 100), regex(pattern = r"^[^\s]+( [^\s]+){4}$"))]
    pub cron: String,
    /// The IANA time zone in which `cron` counts, such as Europe/Berlin; UTC if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")
    )]
    pub time_zone: Option<String>,
    /// How long it is open, such as 2h; 10m to 168h.
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(h|m|s))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10m') && duration(self) <= duration('168h')").message("duration: 10m to 168h"))]
    pub duration: String,
}
