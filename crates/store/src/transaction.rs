//! Transactions: compares that must all hold, then changes that all happen.
//!
//! A [`Transaction`] is valid by construction, within limits that every engine can keep.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Key, Revision};

/// The most compares, and the most operations, of one transaction: etcd's default.
pub const MAX_OPS: usize = 128;

/// The largest value in bytes.
pub const MAX_VALUE_BYTES: usize = 512 * 1024;

/// The most bytes of keys and values in one transaction: etcd takes requests of 1.5 MiB, the rest is for its framing.
pub const MAX_TRANSACTION_BYTES: usize = 1280 * 1024;

/// A condition on one key before the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key exists and was last changed at this revision.
    Modified {
        /// The key compared.
        key: Key,
        /// The revision of its last change; never zero.
        revision: Revision,
    },

    /// The key does not exist.
    Absent {
        /// The key compared.
        key: Key,
    },
}

impl Compare {
    /// The key compared.
    pub fn key(&self) -> &Key {
        match self {
            Self::Modified { key, .. } | Self::Absent { key } => key,
        }
    }

    /// Says whether the condition holds for a key last changed at `modified`, or absent.
    pub fn holds(&self, modified: Option<Revision>) -> bool {
        match self {
            Self::Modified { revision, .. } => modified == Some(*revision),
            Self::Absent { .. } => modified.is_none(),
        }
    }
}

/// A change of one key.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets the value, whether or not the key exists.
    Put {
        /// The key set.
        key: Key,
        /// Its new value.
        value: Vec<u8>,
    },

    /// Removes the key; nothing happens when it does not exist.
    Delete {
        /// The key removed.
        key: Key,
    },
}

impl Op {
    /// The key changed.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    fn value_bytes(&self) -> usize {
        match self {
            Self::Put { value, .. } => value.len(),
            Self::Delete { .. } => 0,
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, value } => write!(f, "Put({key:?}, {} bytes)", value.len()),
            Self::Delete { key } => write!(f, "Delete({key:?})"),
        }
    }
}

/// Compares and changes that happen together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    compares: Vec<Compare>,
    ops: Vec<Op>,
}

impl Transaction {
    /// Starts an empty transaction.
    pub fn builder() -> TransactionBuilder {
        TransactionBuilder::default()
    }

    /// The conditions, all of which must hold.
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// The changes, no two of the same key.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The bytes of its keys and values.
    pub fn bytes(&self) -> usize {
        let compared: usize = self.compares.iter().map(|it| it.key().as_str().len()).sum();
        let changed: usize = self
            .ops
            .iter()
            .map(|it| it.key().as_str().len() + it.value_bytes())
            .sum();
        compared + changed
    }
}

/// Collects a [`Transaction`].
#[derive(Debug, Clone, Default)]
pub struct TransactionBuilder {
    compares: Vec<Compare>,
    ops: Vec<Op>,
}

impl TransactionBuilder {
    /// Requires that the key was last changed at this revision.
    pub fn require_modified(mut self, key: Key, revision: Revision) -> Self {
        self.compares.push(Compare::Modified { key, revision });
        self
    }

    /// Requires that the key does not exist.
    pub fn require_absent(mut self, key: Key) -> Self {
        self.compares.push(Compare::Absent { key });
        self
    }

    /// Sets a value.
    pub fn put(mut self, key: Key, value: impl Into<Vec<u8>>) -> Self {
        self.ops.push(Op::Put {
            key,
            value: value.into(),
        });
        self
    }

    /// Removes a key.
    pub fn delete(mut self, key: Key) -> Self {
        self.ops.push(Op::Delete { key });
        self
    }

    /// Adds a compare that was made elsewhere.
    pub fn compare(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds a change that was made elsewhere.
    pub fn op(mut self, op: Op) -> Self {
        self.ops.push(op);
        self
    }

    /// Checks the limits.
    ///
    /// A transaction without changes is valid: it commits at the head when its compares hold.
    pub fn build(self) -> Result<Transaction, InvalidTransaction> {
        let Self { compares, ops } = self;
        check_compares(&compares)?;
        check_ops(&ops)?;
        let transaction = Transaction { compares, ops };
        let bytes = transaction.bytes();
        if bytes > MAX_TRANSACTION_BYTES {
            return Err(InvalidTransaction::TooLarge { bytes });
        }
        Ok(transaction)
    }
}

fn check_compares(compares: &[Compare]) -> Result<(), InvalidTransaction> {
    if compares.len() > MAX_OPS {
        return Err(InvalidTransaction::TooManyCompares {
            compares: compares.len(),
        });
    }
    for compare in compares {
        // An engine such as etcd reads "modified at zero" as "absent".
        if let Compare::Modified {
            key,
            revision: Revision(0),
        } = compare
        {
            return Err(InvalidTransaction::ZeroRevision { key: key.clone() });
        }
    }
    Ok(())
}

fn check_ops(ops: &[Op]) -> Result<(), InvalidTransaction> {
    if ops.len() > MAX_OPS {
        return Err(InvalidTransaction::TooManyOps { ops: ops.len() });
    }
    let mut keys = BTreeSet::new();
    for op in ops {
        let key = op.key();
        if !keys.insert(key) {
            return Err(InvalidTransaction::KeyTwice { key: key.clone() });
        }
        let bytes = op.value_bytes();
        if bytes > MAX_VALUE_BYTES {
            return Err(InvalidTransaction::ValueTooLarge {
                key: key.clone(),
                bytes,
            });
        }
    }
    Ok(())
}

/// Why a transaction is refused before it reaches a store: always the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTransaction {
    /// More compares than [`MAX_OPS`].
    #[error("a transaction has at most {MAX_OPS} compares, this one has {compares}")]
    TooManyCompares {
        /// Their number.
        compares: usize,
    },

    /// More operations than [`MAX_OPS`].
    #[error("a transaction has at most {MAX_OPS} operations, this one has {ops}")]
    TooManyOps {
        /// Their number.
        ops: usize,
    },

    /// Two operations on one key.
    #[error("the transaction changes {key:?} twice")]
    KeyTwice {
        /// The key.
        key: Key,
    },

    /// A value above [`MAX_VALUE_BYTES`].
    #[error("the value of {key:?} has {bytes} bytes, the most is {MAX_VALUE_BYTES}")]
    ValueTooLarge {
        /// The key of the value.
        key: Key,
        /// Its length.
        bytes: usize,
    },

    /// More bytes in all than [`MAX_TRANSACTION_BYTES`].
    #[error("the transaction has {bytes} bytes, the most is {MAX_TRANSACTION_BYTES}")]
    TooLarge {
        /// Bytes of keys and values.
        bytes: usize,
    },

    /// A compare with revision zero, at which nothing was ever changed.
    #[error("the compare of {key:?} names revision 0, use the compare for absent keys")]
    ZeroRevision {
        /// The key compared.
        key: Key,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn same_key_twice_in_the_operations_is_refused() {
        let built = Transaction::builder()
            .put(key("a"), "1")
            .delete(key("a"))
            .build();
        assert_eq!(built, Err(InvalidTransaction::KeyTwice { key: key("a") }));
    }

    #[test]
    fn value_above_the_limit_is_refused_and_one_at_the_limit_is_not() {
        let with = |bytes| Transaction::builder().put(key("a"), vec![0; bytes]).build();
        assert!(with(MAX_VALUE_BYTES).is_ok());
        let bytes = MAX_VALUE_BYTES + 1;
        assert_eq!(
            with(bytes),
            Err(InvalidTransaction::ValueTooLarge {
                key: key("a"),
                bytes
            })
        );
    }

    #[test]
    fn more_operations_or_compares_than_the_limit_are_refused() {
        let ops = |count| {
            (0..count)
                .fold(Transaction::builder(), |built, n| {
                    built.delete(key(&format!("k{n}")))
                })
                .build()
        };
        assert!(ops(MAX_OPS).is_ok());
        assert_eq!(
            ops(MAX_OPS + 1),
            Err(InvalidTransaction::TooManyOps { ops: MAX_OPS + 1 })
        );

        let compares = |count| {
            (0..count)
                .fold(Transaction::builder(), |built, _| {
                    built.require_absent(key("a"))
                })
                .build()
        };
        assert!(compares(MAX_OPS).is_ok());
        let refused = InvalidTransaction::TooManyCompares {
            compares: MAX_OPS + 1,
        };
        assert_eq!(compares(MAX_OPS + 1), Err(refused));
    }

    #[test]
    fn sum_of_values_above_the_limit_is_refused() {
        let built = ["a", "b", "c"]
            .into_iter()
            .fold(Transaction::builder(), |built, name| {
                built.put(key(name), vec![0; MAX_VALUE_BYTES])
            })
            .build();
        assert_eq!(
            built,
            Err(InvalidTransaction::TooLarge {
                bytes: 3 * MAX_VALUE_BYTES + 3
            })
        );
    }

    #[test]
    fn compare_with_revision_zero_is_refused() {
        let built = Transaction::builder()
            .require_modified(key("a"), Revision(0))
            .build();
        assert_eq!(
            built,
            Err(InvalidTransaction::ZeroRevision { key: key("a") })
        );
    }

    #[test]
    fn debug_text_of_a_transaction_holds_no_value() {
        let transaction = Transaction::builder()
            .put(key("a"), "canary")
            .build()
            .unwrap();
        assert!(!format!("{transaction:?}").contains("canary"));
        assert!(format!("{transaction:?}").contains("6 bytes"));
    }
}
