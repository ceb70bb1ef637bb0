//! Between our types and the messages of `strongroom.hsm.v1`. What does not parse is named by its field.

mod certificate;
mod checkpoint;
mod record;
mod status;
mod token;

pub use status::{REASON_METADATA, from_status, into_status};
use strongroom_core::{Generation, InstanceId, RingId};

/// A field of a message that is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct MalformedField {
    field: &'static str,
    problem: String,
}

impl MalformedField {
    /// Names the field and what is wrong with it.
    pub fn new(field: &'static str, problem: impl ToString) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }
}

/// Reads a field of fixed length.
pub fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], MalformedField> {
    bytes
        .try_into()
        .map_err(|_| MalformedField::new(field, format!("{} bytes instead of {N}", bytes.len())))
}

/// Reads an instance id.
pub fn instance(bytes: &[u8]) -> Result<InstanceId, MalformedField> {
    array("instance_id", bytes).map(InstanceId::from_bytes)
}

/// Reads a ring id.
pub fn ring(bytes: &[u8]) -> Result<RingId, MalformedField> {
    array("ring_id", bytes).map(RingId::from_bytes)
}

/// Reads a KEK generation.
pub fn generation(number: u32) -> Result<Generation, MalformedField> {
    Generation::new(number).map_err(|error| MalformedField::new("generation", error))
}

/// Takes a message that must be there.
pub fn present<T>(field: &'static str, message: Option<T>) -> Result<T, MalformedField> {
    message.ok_or_else(|| MalformedField::new(field, "it is missing"))
}
