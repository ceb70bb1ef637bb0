//! What a verification is told and what it answers; the answer is also `-o json`.

use serde::{Serialize, Serializer};

use crate::{checkpoint::Checkpoint, hash::Hash, origin::Origin, record::time_text};

/// What the person who verifies knows from elsewhere.
#[derive(Debug, Clone)]
pub struct Trust {
    /// Fingerprint of the key that certifies checkpoint keys, as `init` printed it.
    pub certifier: Hash,
    /// Which log it should be; without it (and without a witness) any log of that certifier fits.
    pub origin: Option<Origin>,
    /// The last checkpoint that was kept outside. Without it nobody can tell whether the end of
    /// the log is missing.
    pub witness: Option<Checkpoint>,
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Status {
    /// Everything to the witness is there and unchanged.
    Complete,
    /// What is there fits together, but its end could be missing.
    TailUnproven,
    /// Something was changed, removed, added or reordered.
    Tampered,
}

impl Status {
    /// The command's exit code: 0, 3, 1.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Complete => 0,
            Self::TailUnproven => 3,
            Self::Tampered => 1,
        }
    }
}

/// The first place that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tampering {
    /// Name of the file in the folder.
    pub file: String,
    /// Index of the record in the log; for the files of proofs, the entry's position from 0.
    pub index: u64,
    /// What is wrong there.
    pub what: String,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The verdict.
    pub status: Status,
    /// The place, when tampered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tampering: Option<Tampering>,
    /// The log's name, when a certificate or the caller tells it.
    pub origin: Option<String>,
    /// Segment files read.
    pub segments: u64,
    /// Records that fit together.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these, records that a signed checkpoint covers.
    pub covered_records: u64,
    /// Records that the witness covers.
    pub witnessed_records: Option<u64>,
    /// Certificates that fit.
    pub certificates: u64,
    /// Checkpoints that fit.
    pub checkpoints: u64,
    /// Control-plane changes in the records.
    pub changes: u64,
    /// Records that declare a loss.
    pub gaps: u64,
    /// Time of the first record: milliseconds since 1970, RFC 3339 when serialized.
    #[serde(serialize_with = "time")]
    pub first_time: Option<i64>,
    /// Time of the last record.
    #[serde(serialize_with = "time")]
    pub last_time: Option<i64>,
    /// Bytes after the last whole line or entry: what a crash leaves. They prove nothing.
    pub torn_bytes: u64,
}

impl Report {
    pub(crate) fn new(trust: &Trust) -> Self {
        Self {
            status: Status::TailUnproven,
            tampering: None,
            origin: trust.origin.as_ref().map(Origin::to_string),
            segments: 0,
            records: 0,
            bytes: 0,
            covered_records: 0,
            witnessed_records: trust.witness.as_ref().map(Checkpoint::size),
            certificates: 0,
            checkpoints: 0,
            changes: 0,
            gaps: 0,
            first_time: None,
            last_time: None,
            torn_bytes: 0,
        }
    }
}

fn time<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.and_then(time_text).serialize(serializer)
}
