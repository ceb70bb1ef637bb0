//! Checkpoints in C2SP's form (<https://c2sp.org/tlog-checkpoint>) with four extension lines:
//! the store's epoch, counter and root, and the hash of the checkpoint before, so that a
//! checkpoint that was dropped from the file is missed.

use std::str::FromStr;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{hash::Hash, note, note::Note, origin::Origin};

/// Lines of a checkpoint: seven of text, one empty, one signature.
pub(crate) const LINES: usize = 9;

/// What a checkpoint states.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) origin: Origin,
    pub(crate) size: u64,
    pub(crate) root: Hash,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    pub(crate) store: Hash,
    pub(crate) previous: Hash,
}

/// A signed statement that a log had this size and root. Parsing does not check the signature;
/// [`verify`](crate::verify()) does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    body: Body,
    note: String,
}

/// A text that is not a checkpoint of ours.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CheckpointError {
    /// No note with one signature.
    #[error("text is not a signed note with one signature")]
    Note,
    /// The lines are not those of a checkpoint.
    #[error("signed note is not a checkpoint of this kind")]
    Body,
}

impl Body {
    fn text(&self) -> String {
        let Self {
            origin,
            size,
            root,
            epoch,
            seq,
            store,
            previous,
        } = self;
        let root = STANDARD.encode(root.0);
        format!(
            "{origin}\n{size}\n{root}\nepoch {epoch}\nseq {seq}\nstore {store}\n\
             previous {previous}\n"
        )
    }

    /// Parses the one spelling that `text` gives.
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let mut line = || lines.next();
        let body = Self {
            origin: line()?.parse().ok()?,
            size: line()?.parse().ok()?,
            root: Hash(STANDARD.decode(line()?).ok()?.try_into().ok()?),
            epoch: line()?.strip_prefix("epoch ")?.parse().ok()?,
            seq: line()?.strip_prefix("seq ")?.parse().ok()?,
            store: Hash::from_hex(line()?.strip_prefix("store ")?)?,
            previous: Hash::from_hex(line()?.strip_prefix("previous ")?)?,
        };
        (body.text() == text).then_some(body)
    }
}

impl Checkpoint {
    pub(crate) fn sign(body: Body, key: &Ed25519KeyPair) -> Self {
        let note = note::sign(&body.text(), &body.origin.to_string(), key);
        Self { body, note }
    }

    /// Parses a signed note. The signature is not checked here.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let note = Note::parse(text).ok_or(CheckpointError::Note)?;
        let body = Body::parse(note.text).ok_or(CheckpointError::Body)?;
        Ok(Self {
            body,
            note: text.to_owned(),
        })
    }

    /// The signed note, as it is written and anchored.
    pub fn as_note(&self) -> &str {
        &self.note
    }

    /// SHA-256 of the note: what the next checkpoint and certificate name as previous.
    pub fn hash(&self) -> Hash {
        Hash::of(self.note.as_bytes())
    }

    /// The log that this is about.
    pub fn origin(&self) -> &Origin {
        &self.body.origin
    }

    /// Number of records covered.
    pub fn size(&self) -> u64 {
        self.body.size
    }

    /// Root of the tree over them.
    pub fn root(&self) -> Hash {
        self.body.root
    }

    /// The store's epoch at that time.
    pub fn epoch(&self) -> u32 {
        self.body.epoch
    }

    /// The store's counter at that time.
    pub fn seq(&self) -> u64 {
        self.body.seq
    }

    /// The store's root at that time.
    pub fn store(&self) -> Hash {
        self.body.store
    }

    /// Hash of the checkpoint before; zero for the first of a log.
    pub fn previous(&self) -> Hash {
        self.body.previous
    }

    pub(crate) fn names_key(&self, key: &[u8; 32]) -> bool {
        let name = self.body.origin.to_string();
        Note::parse(&self.note).is_some_and(|note| note.names(&name, key))
    }

    pub(crate) fn verifies(&self, key: &[u8; 32]) -> bool {
        let name = self.body.origin.to_string();
        Note::parse(&self.note).is_some_and(|note| note.verifies(&name, key))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with another implementation (Python's `cryptography`) from the seed `07…07`.
    const NOTE: &str = "\
strongroom.dev/000102030405060708090a0b0c0d0e0f/key-service-0
4242
MzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzMzM=
epoch 7
seq 99
store 4444444444444444444444444444444444444444444444444444444444444444
previous 5555555555555555555555555555555555555555555555555555555555555555

— strongroom.dev/000102030405060708090a0b0c0d0e0f/key-service-0 +zeCJzt1+mYmHRzbJ5TLRG8q0VqVfJ8hhXfC6qnOzdcWVP/2G0iOj99sf6M5r/R+/1/MFpyhDm3uo6Yb149LZpNyxAY=
";

    fn body() -> Body {
        let origin = "strongroom.dev/000102030405060708090a0b0c0d0e0f/key-service-0";
        Body {
            origin: origin.parse().unwrap(),
            size: 4242,
            root: Hash([0x33; 32]),
            epoch: 7,
            seq: 99,
            store: Hash([0x44; 32]),
            previous: Hash([0x55; 32]),
        }
    }

    #[test]
    fn a_checkpoint_is_the_note_that_another_implementation_makes() {
        let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let checkpoint = Checkpoint::sign(body(), &key);
        assert_eq!(checkpoint.as_note(), NOTE);
        assert_eq!(checkpoint.as_note().lines().count(), LINES);
        assert_eq!(Checkpoint::parse(NOTE), Ok(checkpoint));
    }

    #[test]
    fn other_spellings_and_other_notes_are_refused() {
        for (from, to) in [
            ("\n4242\n", "\n04242\n"),
            ("seq 99", "seq +99"),
            ("seq 99\n", ""),
            ("epoch 7\nseq 99\n", "seq 99\nepoch 7\n"),
            ("store 4", "store A"),
            ("strongroom.dev/0", "example.org/0"),
        ] {
            let note = NOTE.replacen(from, to, 1);
            assert_ne!(note, NOTE);
            assert_eq!(Checkpoint::parse(&note), Err(CheckpointError::Body), "{to}");
        }
        let unsigned = NOTE.split("\u{2014}").next().unwrap();
        assert_eq!(Checkpoint::parse(unsigned), Err(CheckpointError::Note));
    }
}
