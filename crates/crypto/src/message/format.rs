//! Where the fields of a message lie. Parsing checks shape alone and believes nothing; opening authenticates all of it.

use std::ops::Range;

use strongroom_core::{KeyId, KeyUse, StoreEpoch, VersionId, VersionNumber};

use super::OpenError;

const MAGIC: [u8; 4] = *b"SRM1";
/// KBKDF-CTR-HMAC-SHA256, AES-256-GCM, 32-byte commitment.
const SUITE: u8 = 1;

const KEY_ID: Range<usize> = 6..22;
const EPOCH: Range<usize> = 22..26;
const NUMBER: Range<usize> = 26..30;
pub(super) const SALT_LEN: usize = 16;
/// What precedes the IV: magic, suite, use, key id, epoch, number, salt.
pub(super) const HEAD_LEN: usize = 30 + SALT_LEN;
/// The derivation takes the head without the magic, whose place the label has.
pub(super) const DERIVED_FROM: usize = MAGIC.len();
pub(super) const IV_LEN: usize = 12;
pub(super) const IV: Range<usize> = HEAD_LEN..HEAD_LEN + IV_LEN;
pub(super) const COMMITMENT_LEN: usize = 32;
pub(super) const BODY_OFFSET: usize = HEAD_LEN + IV_LEN + COMMITMENT_LEN;
const TAG_LEN: usize = 16;

/// How much longer a message is than its plaintext.
pub const OVERHEAD: usize = BODY_OFFSET + TAG_LEN;

/// What a message is for and which key version seals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// What it is for.
    pub key_use: KeyUse,
    /// Whose key; the ring's id in messages under a KEK.
    pub key_id: KeyId,
    /// Which version; epoch 0 and the generation in messages under a KEK.
    pub version: VersionId,
}

pub(super) fn head(place: &Place, salt: &[u8; SALT_LEN]) -> [u8; HEAD_LEN] {
    let Place {
        key_use,
        key_id,
        version: VersionId { epoch, number },
    } = place;
    let mut head = [0; HEAD_LEN];
    head[..4].copy_from_slice(&MAGIC);
    head[4] = SUITE;
    head[5] = key_use.byte();
    head[KEY_ID].copy_from_slice(key_id.as_bytes());
    head[EPOCH].copy_from_slice(&epoch.get().to_be_bytes());
    head[NUMBER].copy_from_slice(&number.get().to_be_bytes());
    head[NUMBER.end..].copy_from_slice(salt);
    head
}

/// A message with its fields in place. What it claims is true only once it opened.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    place: Place,
    head: &'a [u8; HEAD_LEN],
    iv: &'a [u8; IV_LEN],
    commitment: &'a [u8; COMMITMENT_LEN],
    ciphertext: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> Message<'a> {
    /// Finds the fields. The error is the one of opening: who sends garbage learns no more than who sends a forgery.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, OpenError> {
        Self::split(bytes).ok_or(OpenError)
    }

    fn split(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_LEN>()?;
        let (iv, rest) = rest.split_first_chunk()?;
        let (commitment, rest) = rest.split_first_chunk()?;
        let (ciphertext, tag) = rest.split_last_chunk()?;
        Some(Self {
            place: parse_head(head)?,
            head,
            iv,
            commitment,
            ciphertext,
            tag,
        })
    }

    /// Tells which use and key version the message claims.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    pub(super) const fn head(&self) -> &'a [u8; HEAD_LEN] {
        self.head
    }

    pub(super) const fn iv(&self) -> &'a [u8; IV_LEN] {
        self.iv
    }

    pub(super) const fn commitment(&self) -> &'a [u8; COMMITMENT_LEN] {
        self.commitment
    }

    pub(crate) const fn ciphertext(&self) -> &'a [u8] {
        self.ciphertext
    }

    pub(super) const fn tag(&self) -> &'a [u8; TAG_LEN] {
        self.tag
    }
}

fn parse_head(head: &[u8; HEAD_LEN]) -> Option<Place> {
    if head[..4] != MAGIC || head[4] != SUITE {
        return None;
    }
    let number = |at: Range<usize>| head[at].try_into().map(u32::from_be_bytes).ok();
    Some(Place {
        key_use: KeyUse::from_byte(head[5])?,
        key_id: KeyId::from_bytes(head[KEY_ID].try_into().ok()?),
        version: VersionId {
            epoch: StoreEpoch::new(number(EPOCH)?),
            number: VersionNumber::new(number(NUMBER)?).ok()?,
        },
    })
}
