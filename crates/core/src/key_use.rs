//! What a key is used for: the closed list whose byte is in every header, derivation and MAC.
//!
//! Two uses never open each other's data, even under the same key material.

use std::fmt;

/// A use of key material. The bytes are part of stored formats: they are never changed or given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum KeyUse {
    /// Data of callers of `Encrypt` and `Decrypt`.
    Api = 1,
    /// Stored secrets.
    Secret = 2,
    /// Seeds of API servers, through the KMS v2 plugin.
    KmsV2 = 3,
    /// Version material under its ring's KEK.
    Wrap = 4,
    /// MACs over records of the store.
    Record = 5,
    /// Backups.
    Backup = 6,
    /// A node's sealed copy of etcd key versions.
    NodeCopy = 7,
    /// Check values of wrapped keys.
    Kcv = 8,
    /// Keyed digests of requests and contexts, and ids derived from others.
    Fingerprint = 9,
}

impl KeyUse {
    /// All uses, in the order of their bytes.
    pub const ALL: [Self; 9] = [
        Self::Api,
        Self::Secret,
        Self::KmsV2,
        Self::Wrap,
        Self::Record,
        Self::Backup,
        Self::NodeCopy,
        Self::Kcv,
        Self::Fingerprint,
    ];

    /// Gives the byte that formats hold.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// Finds the use with this byte; `None` for a byte off the list.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|key_use| key_use.byte() == byte)
    }

    /// Gives the name that documents and metrics hold.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Secret => "secret",
            Self::KmsV2 => "kmsv2",
            Self::Wrap => "wrap",
            Self::Record => "record",
            Self::Backup => "backup",
            Self::NodeCopy => "node-copy",
            Self::Kcv => "kcv",
            Self::Fingerprint => "fingerprint",
        }
    }
}

impl fmt::Display for KeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_names_are_frozen() {
        let list: Vec<String> = KeyUse::ALL
            .iter()
            .map(|key_use| format!("{key_use}={}", key_use.byte()))
            .collect();
        assert_eq!(
            list.join(" "),
            "api=1 secret=2 kmsv2=3 wrap=4 record=5 backup=6 node-copy=7 kcv=8 fingerprint=9"
        );
    }

    #[test]
    fn only_bytes_on_the_list_are_uses() {
        let known: Vec<u8> = (0..=u8::MAX)
            .filter(|byte| KeyUse::from_byte(*byte).is_some())
            .collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }
}
