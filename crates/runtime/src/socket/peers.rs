//! The uids that a listener serves. Root and the overflow uid are nobody: root only for the API server's own socket,
//! the overflow uid never, because inside a user namespace every foreign uid looks like it.

use std::collections::BTreeSet;

/// What the kernel reports for a uid that it cannot map.
pub const OVERFLOW_UID: u32 = 65534;

/// Why a list of peers was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeersError {
    /// Nobody could connect.
    #[error("the list of peers is empty")]
    Empty,
    /// Root was listed where it is nobody.
    #[error("uid 0 cannot be a peer of this socket")]
    Root,
    /// The overflow uid was listed.
    #[error(
        "uid {OVERFLOW_UID} cannot be a peer: the kernel reports it for every uid that it cannot map"
    )]
    Overflow,
}

/// The uids that may use a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers(BTreeSet<u32>);

impl Peers {
    /// Takes the uids of our own programs, none of which runs as root.
    ///
    /// # Errors
    ///
    /// When the list is empty or names root or the overflow uid.
    pub fn new(uids: impl IntoIterator<Item = u32>) -> Result<Self, PeersError> {
        let peers = Self::for_api_server(uids)?;
        if peers.allows(0) {
            Err(PeersError::Root)
        } else {
            Ok(peers)
        }
    }

    /// Takes the uids of API servers, which usually run as root.
    ///
    /// # Errors
    ///
    /// When the list is empty or names the overflow uid.
    pub fn for_api_server(uids: impl IntoIterator<Item = u32>) -> Result<Self, PeersError> {
        let uids: BTreeSet<u32> = uids.into_iter().collect();
        if uids.is_empty() {
            return Err(PeersError::Empty);
        }
        if uids.contains(&OVERFLOW_UID) {
            return Err(PeersError::Overflow);
        }
        Ok(Self(uids))
    }

    /// Adds one more; the overflow uid stays nobody.
    #[must_use]
    pub fn and(mut self, uid: u32) -> Self {
        if uid != OVERFLOW_UID {
            self.0.insert(uid);
        }
        self
    }

    /// Tells whether a uid may use the socket.
    pub fn allows(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_a_peer_only_as_an_api_server() {
        assert_eq!(Peers::new([0, 1000]), Err(PeersError::Root));
        assert!(Peers::for_api_server([0]).unwrap().allows(0));
    }

    #[test]
    fn overflow_uid_is_never_a_peer() {
        let more = Peers::new([1000]).unwrap().and(OVERFLOW_UID).and(1001);
        assert!(!more.allows(OVERFLOW_UID) && more.allows(1001));
        assert_eq!(Peers::new([OVERFLOW_UID]), Err(PeersError::Overflow));
        assert_eq!(
            Peers::for_api_server([0, OVERFLOW_UID]),
            Err(PeersError::Overflow)
        );
    }

    #[test]
    fn nobody_is_not_everybody() {
        assert_eq!(Peers::new([]), Err(PeersError::Empty));
    }
}
