//! The state that each line moves on: hash chain and tree.

use crate::{
    hash::Hash,
    merkle::{Frontier, leaf_hash},
};

/// Hash chain and tree over the lines so far.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    pub(crate) frontier: Frontier,
    /// Hash of the last line; the next one names it.
    pub(crate) last: Hash,
}

impl Chain {
    pub(crate) fn new() -> Self {
        Self {
            frontier: Frontier::default(),
            last: Hash::ZERO,
        }
    }

    /// Index of the next line.
    pub(crate) fn next_index(&self) -> u64 {
        self.frontier.size()
    }

    /// Takes the next line, its newline included.
    pub(crate) fn push(&mut self, line: &[u8]) {
        self.frontier.push(leaf_hash(line));
        self.last = Hash::of(line);
    }
}
