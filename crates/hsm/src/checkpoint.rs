//! What the token states about a checkpoint key of the audit log.
//!
//! The verifier in `strongroom-audit` builds the same bytes with code of its own, because it links neither this crate nor
//! an HSM; both crates hold the same golden bytes.

use strongroom_core::{InstanceId, StoreEpoch};

use crate::canonical::Canonical;

/// The name is not 1 to 63 characters of `a-z`, `0-9`, `-` and `.`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replica's name is 1 to 63 characters of a-z, 0-9, '-' and '.'")]
pub struct ReplicaNameError;

/// Checks the name of a replica.
pub fn check_replica_name(name: &str) -> Result<(), ReplicaNameError> {
    let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    match name.len() {
        1..=63 if name.bytes().all(allowed) => Ok(()),
        _ => Err(ReplicaNameError),
    }
}

/// Says that one Ed25519 key signs the checkpoints of one replica's log from one size on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointKeyStatement {
    /// The installation.
    pub instance: InstanceId,
    /// The replica whose log it is.
    pub replica: String,
    /// The epoch of the store in which the key signs.
    pub store_epoch: StoreEpoch,
    /// Records in the log when the key starts.
    pub start_size: u64,
    /// SHA-256 of the checkpoint before; zeros for a new log.
    pub previous_checkpoint: [u8; 32],
    /// The Ed25519 public key.
    pub public_key: [u8; 32],
}

impl CheckpointKeyStatement {
    /// Gives the bytes that the token signs with ECDSA P-256 and SHA-256: domain, instance, replica, epoch (u32), start
    /// (u64), previous checkpoint and public key, each after its length (u32), all numbers big endian.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let Self {
            instance,
            replica,
            store_epoch,
            start_size,
            previous_checkpoint,
            public_key,
        } = self;
        Canonical::new("strongroom/checkpoint-certificate/v1")
            .field(instance.as_bytes())
            .field(replica.as_bytes())
            .field(&store_epoch.get().to_be_bytes())
            .field(&start_size.to_be_bytes())
            .field(previous_checkpoint)
            .field(public_key)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_bytes_are_frozen() {
        let statement = CheckpointKeyStatement {
            instance: InstanceId::from_bytes([0xa1; 16]),
            replica: "cp-1".into(),
            store_epoch: StoreEpoch::new(2),
            start_size: 0x0102_0304,
            previous_checkpoint: [0xb2; 32],
            public_key: [0xc3; 32],
        };
        let expected = [
            "00000024",
            &hex::encode("strongroom/checkpoint-certificate/v1"),
            "00000010a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1",
            "0000000463702d31",
            "0000000400000002",
            "000000080000000001020304",
            "00000020",
            &"b2".repeat(32),
            "00000020",
            &"c3".repeat(32),
        ];
        assert_eq!(hex::encode(statement.signed_bytes()), expected.concat());
    }

    #[test]
    fn replicas_have_plain_names() {
        for name in ["a", "cp-1.example", &"x".repeat(63)] {
            assert_eq!(check_replica_name(name), Ok(()), "{name}");
        }
        for name in ["", "CP", "a/b", "a b", &"x".repeat(64)] {
            assert_eq!(check_replica_name(name), Err(ReplicaNameError), "{name}");
        }
    }
}
