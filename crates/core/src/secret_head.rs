//! A secret: its head with versions and stages, the pure steps of its life, and what a version holds.
//!
//! A secret without a version waits for its value. Only versions that have a stage are kept: a step that takes the last
//! stage from a version names it, so that its sealed bytes go in the same transaction.

mod field;
mod lifecycle;
mod value;

use std::sync::Arc;

pub use field::{
    Alphabet, FIELDS_MAX, FIXED_TEXT_BYTES_MAX, FieldKind, FieldName, FieldNames, FieldsError,
    GeneratedField, GeneratedFields, InvalidFieldName, RandomText,
};
pub use lifecycle::{NextVersion, SecretStepError};
pub use value::{MalformedValue, SecretValue, VALUE_BYTES_MAX, ValueError};

use crate::{
    Access, HandledRequests, Name, RingId, RotationSchedule, SecretId, Uid, UnixMillis, VersionId,
};

/// Where a secret's values come from. Immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The key service makes them.
    Generate(GeneratedFields),
    /// A person sets them, all fields together.
    Manual(FieldNames),
}

/// What readers can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretStage {
    /// What they get.
    Current,
    /// What was current before.
    Previous,
}

/// One version. Its value lies sealed elsewhere and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// Its id, never given twice.
    pub id: VersionId,
    /// Its stage.
    pub stage: SecretStage,
    /// When it was made.
    pub created: UnixMillis,
}

/// Everything about a secret but its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretHead {
    /// Its id.
    pub id: SecretId,
    /// Its ring.
    pub ring: RingId,
    /// Its name, unique among the secrets of the ring's owner.
    pub name: Name,
    /// Where its values come from.
    pub source: SecretSource,
    /// When it was made.
    pub created: UnixMillis,
    /// The versions that have a stage, oldest first; the newest is the current one.
    pub versions: Vec<SecretVersion>,
    /// Who may read it, beside whom the configuration names.
    pub access: Arc<Access>,
    /// The custom resource that holds it. None: administrators made it, or it was let go of.
    pub holder: Option<Uid>,
    /// When new versions are made without anybody asking; only of a generated secret.
    pub rotation: Option<RotationSchedule>,
    /// Requests that made versions.
    pub requests: HandledRequests,
}

impl SecretSource {
    /// Whether each version has that field.
    #[must_use]
    pub fn has(&self, field: &FieldName) -> bool {
        match self {
            Self::Generate(fields) => fields.iter().any(|it| it.name == *field),
            Self::Manual(names) => names.iter().any(|name| name == field),
        }
    }
}

impl SecretHead {
    /// The version in a stage.
    #[must_use]
    pub fn staged(&self, stage: SecretStage) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.stage == stage)
    }

    /// The version with that id.
    #[must_use]
    pub fn version(&self, id: VersionId) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.id == id)
    }
}
