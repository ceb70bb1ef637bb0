//! Requests for one rotation, and what became of the last ones, so that a request that is made again rotates nothing.

use std::{fmt, str::FromStr};

use crate::{UnixMillis, VersionId};

/// How many handled requests are remembered with what they rotated.
pub const REQUESTS_KEPT: usize = 16;
/// Most characters of a request's id.
const ID_MAX: usize = 128;

/// What tells one request from another, such as the uid of the object that asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(String);

/// The text is no id of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of a request has 1 to {ID_MAX} printable ASCII characters")]
pub struct InvalidRequestId;

impl RequestId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RequestId {
    type Err = InvalidRequestId;

    fn from_str(text: &str) -> Result<Self, InvalidRequestId> {
        let printable = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if (1..=ID_MAX).contains(&text.len()) && text.bytes().all(printable) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRequestId)
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request that made a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandledRequest {
    /// Which.
    pub id: RequestId,
    /// What it made.
    pub version: VersionId,
    /// When.
    pub time: UnixMillis,
}

/// The last requests that were handled, oldest first, at most `REQUESTS_KEPT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandledRequests(Vec<HandledRequest>);

impl HandledRequests {
    /// What came of a request; none when it was not handled, or so long ago that others were since.
    #[must_use]
    pub fn find(&self, id: &RequestId) -> Option<&HandledRequest> {
        self.0.iter().find(|handled| handled.id == *id)
    }

    /// With one more; the oldest goes when there are too many.
    #[must_use]
    pub fn with(&self, handled: HandledRequest) -> Self {
        let surplus = (self.0.len() + 1).saturating_sub(REQUESTS_KEPT);
        let kept = self.0.iter().skip(surplus).cloned();
        Self(kept.chain([handled]).collect())
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &HandledRequest> {
        self.0.iter()
    }
}

/// The newest of more than `REQUESTS_KEPT` count.
impl FromIterator<HandledRequest> for HandledRequests {
    fn from_iter<T: IntoIterator<Item = HandledRequest>>(requests: T) -> Self {
        let add = |kept: Self, handled| kept.with(handled);
        requests.into_iter().fold(Self::default(), add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{StoreEpoch, VersionNumber};

    fn id(text: &str) -> RequestId {
        text.parse().expect("an id")
    }

    fn handled(number: u32) -> HandledRequest {
        HandledRequest {
            id: id(&format!("request-{number}")),
            version: VersionId {
                epoch: StoreEpoch::FIRST,
                number: VersionNumber::new(number).unwrap(),
            },
            time: UnixMillis::new(number.into()),
        }
    }

    #[test]
    fn ids_are_short_and_printable() {
        for good in ["a", "2f1c8a6e-0000 (again)", &"x".repeat(128)] {
            assert_eq!(good.parse::<RequestId>(), Ok(RequestId(good.to_owned())));
        }
        for bad in ["", "a\n", "é", "\u{7f}", &"x".repeat(129)] {
            assert_eq!(bad.parse::<RequestId>(), Err(InvalidRequestId), "{bad:?}");
        }
    }

    #[test]
    fn the_last_sixteen_requests_are_remembered_with_what_they_made() {
        let kept: HandledRequests = (1..=17).map(handled).collect();
        assert_eq!(kept.find(&id("request-1")), None);
        assert_eq!(kept.find(&id("request-2")), Some(&handled(2)));
        assert_eq!(kept.find(&id("request-17")), Some(&handled(17)));
        assert_eq!(kept.iter().count(), REQUESTS_KEPT);
    }
}
