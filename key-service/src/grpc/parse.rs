//! Parts of messages into types of the core; each error names the field.

use std::{collections::HashMap, str::FromStr, time::Duration};

use prost_types::Timestamp;
use strongroom_core::{EncryptionContext, RingId, UnixMillis};
use tonic::Status;

use crate::registry::{KeyLocator, SecretLocator};

/// Entries of a page when none is asked for.
const PAGE_DEFAULT: u32 = 100;
/// Most entries of a page.
const PAGE_MAX: u32 = 1000;

pub(super) fn field<T: FromStr<Err: std::fmt::Display>>(
    name: &str,
    text: &str,
) -> Result<T, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("{name}: {error}")))
}

pub(super) fn locator(text: &str) -> Result<KeyLocator, Status> {
    if let Ok(id) = text.parse() {
        return Ok(KeyLocator::Id(id));
    }
    Ok(KeyLocator::Name(field("key", text)?))
}

pub(super) fn secret_locator(ring: RingId, text: &str) -> Result<SecretLocator, Status> {
    if let Ok(id) = text.parse() {
        return Ok(SecretLocator::Id(ring, id));
    }
    Ok(SecretLocator::Name(ring, field("secret", text)?))
}

/// Empty, or the `seq` of the head that was read.
pub(super) fn etag(text: &str) -> Result<Option<u64>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let seq = text
        .parse()
        .map_err(|_| Status::invalid_argument("etag: not one that this service gave"))?;
    Ok(Some(seq))
}

pub(super) fn page_size(asked: u32) -> Result<usize, Status> {
    match asked {
        0 => Ok(PAGE_DEFAULT as usize),
        1..=PAGE_MAX => Ok(asked as usize),
        _ => Err(Status::invalid_argument(format!(
            "page_size: 1 to {PAGE_MAX}"
        ))),
    }
}

/// Empty, or the id of the last entry of the page before.
pub(super) fn page_token<T: FromStr>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Status::invalid_argument("page_token: not one that this service gave"))
}

/// The token of the next page: the last id of this one, if this one is full.
pub(super) fn next_page<T>(entries: &[T], limit: usize, id: impl Fn(&T) -> String) -> String {
    entries
        .last()
        .filter(|_| entries.len() == limit)
        .map(id)
        .unwrap_or_default()
}

pub(super) fn context(pairs: HashMap<String, String>) -> Result<EncryptionContext, Status> {
    EncryptionContext::from_pairs(pairs)
        .map_err(|error| Status::invalid_argument(format!("context: {error}")))
}

pub(super) fn checksum(name: &str, expected: Option<u32>, bytes: &[u8]) -> Result<(), Status> {
    match expected {
        Some(expected) if expected != crc32c::crc32c(bytes) => Err(Status::invalid_argument(
            format!("{name}: CRC32C differs, the bytes were damaged on the way"),
        )),
        _ => Ok(()),
    }
}

pub(super) fn duration(name: &str, given: prost_types::Duration) -> Result<Duration, Status> {
    Duration::try_from(given)
        .map_err(|_| Status::invalid_argument(format!("{name}: a duration is not negative")))
}

pub(super) fn moment(name: &str, given: Option<Timestamp>) -> Result<UnixMillis, Status> {
    let missing = || Status::invalid_argument(format!("{name}: is missing or out of range"));
    let Timestamp { seconds, nanos } = given.ok_or_else(missing)?;
    let milliseconds = seconds
        .checked_mul(1000)
        .and_then(|whole| whole.checked_add(i64::from(nanos / 1_000_000)));
    milliseconds.map(UnixMillis::new).ok_or_else(missing)
}

pub(super) fn timestamp(time: UnixMillis) -> Timestamp {
    let milliseconds = time.as_i64();
    // The remainder of a division by 1000 fits.
    let nanos = i32::try_from(milliseconds.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    Timestamp {
        seconds: milliseconds.div_euclid(1000),
        nanos,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_have_limits() {
        assert_eq!(page_size(0).expect("is the default"), 100);
        assert_eq!(page_size(1000).expect("is the most"), 1000);
        assert!(page_size(1001).is_err());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        assert!(checksum("plaintext", Some(crc32c::crc32c(b"a")), b"a").is_ok());
        assert!(checksum("plaintext", None, b"a").is_ok());
        assert!(checksum("plaintext", Some(crc32c::crc32c(b"a")), b"b").is_err());
    }

    #[test]
    fn a_moment_is_read_back_and_none_is_refused() {
        let time = UnixMillis::new(1_800_000_000_123);
        assert_eq!(moment("now", Some(timestamp(time))).expect("is one"), time);
        let end = Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        };
        for not_one in [None, Some(end)] {
            assert!(moment("now", not_one).is_err());
        }
    }

    #[test]
    fn times_before_1970_keep_their_milliseconds() {
        let time = timestamp(UnixMillis::new(-1));
        assert_eq!((time.seconds, time.nanos), (-1, 999_000_000));
    }
}
