//! How much one source address may have of a TLS port before anybody knows who it is: handshakes by rate and by number,
//! connections by number. One address that floods takes nothing from the others.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// What a port gives to one source, and to all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    /// Handshakes that a quiet source may begin at once.
    pub(super) burst: u32,
    /// After them, one for each such time.
    pub(super) interval: Duration,
    /// Handshakes of one source that are not finished.
    pub(super) handshakes: u32,
    /// Connections of one source at a time, with those handshakes.
    pub(super) connections: u32,
    /// Connections of all sources at a time: each is a descriptor.
    pub(super) total: u32,
    /// Sources that are remembered; those that have nothing open and rested are forgotten first.
    pub(super) sources: usize,
}

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its source begins handshakes too often.
    Rate,
    /// Its source has too many handshakes that are not finished.
    Handshakes,
    /// Its source has too many connections.
    Connections,
    /// Too many sources at a time.
    Sources,
    /// Too many connections at a time.
    Full,
    /// Its handshake failed or took too long.
    Handshake,
    /// Its certificate is none for this port.
    Certificate,
    /// Its caller has too many connections.
    Caller,
}

impl Refusal {
    pub(super) const ALL: [Self; 8] = [
        Self::Rate,
        Self::Handshakes,
        Self::Connections,
        Self::Sources,
        Self::Full,
        Self::Handshake,
        Self::Certificate,
        Self::Caller,
    ];

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Handshakes => "handshakes",
            Self::Connections => "connections",
            Self::Sources => "sources",
            Self::Full => "full",
            Self::Handshake => "handshake",
            Self::Certificate => "certificate",
            Self::Caller => "caller",
        }
    }
}

/// The sources of one port.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    quota: Quota,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    sources: HashMap<IpAddr, Source>,
    connections: u32,
}

#[derive(Debug)]
struct Source {
    /// When the source would have its whole burst again: the one number of a leaky bucket.
    rested: Duration,
    handshakes: u32,
    connections: u32,
}

/// A connection's place among those of its source; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    sources: Sources,
    source: IpAddr,
    greeted: bool,
}

impl Place {
    /// The handshake is finished.
    pub(super) fn greet(&mut self) {
        if !self.greeted {
            self.greeted = true;
            self.change(|source| source.handshakes -= 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Source)) {
        // A source with connections is not forgotten.
        if let Some(source) = self.sources.known().sources.get_mut(&self.source) {
            change(source);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.greet();
        self.change(|source| source.connections -= 1);
        self.sources.known().connections -= 1;
    }
}

impl Sources {
    pub(super) fn new(quota: Quota) -> Self {
        Self {
            quota,
            known: Arc::default(),
        }
    }

    /// Takes a place for a new connection at a time of the boot clock.
    pub(super) fn admit(&self, address: IpAddr, now: Duration) -> Result<Place, Refusal> {
        let quota = self.quota;
        let source = network(address);
        let mut known = self.known();
        let Known {
            sources,
            connections,
        } = &mut *known;
        if !sources.contains_key(&source) && sources.len() >= quota.sources {
            sources.retain(|_, source| source.connections > 0 || source.rested > now);
            if sources.len() >= quota.sources {
                return Err(Refusal::Sources);
            }
        }
        let entry = sources.entry(source).or_insert(Source {
            rested: now,
            handshakes: 0,
            connections: 0,
        });
        let after = entry.rested.max(now) + quota.interval;
        if after > now + quota.interval * quota.burst {
            return Err(Refusal::Rate);
        }
        // A refused connection was a beginning, too.
        entry.rested = after;
        if entry.handshakes >= quota.handshakes {
            return Err(Refusal::Handshakes);
        }
        if entry.connections >= quota.connections {
            return Err(Refusal::Connections);
        }
        if *connections >= quota.total {
            return Err(Refusal::Full);
        }
        entry.handshakes += 1;
        entry.connections += 1;
        *connections += 1;
        Ok(Place {
            sources: self.clone(),
            source,
            greeted: false,
        })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each step leaves whole numbers behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever has one address of IPv6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        burst: 4,
        interval: Duration::from_secs(1),
        handshakes: 2,
        connections: 3,
        total: 4,
        sources: 2,
    };
    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    fn greeted(place: Result<Place, Refusal>) -> Place {
        let mut place = place.unwrap();
        place.greet();
        place
    }

    #[test]
    fn a_burst_is_followed_by_a_rate_for_each_source_alone() {
        let sources = Sources::new(QUOTA);
        for _ in 0..4 {
            assert!(sources.admit(A, at(0)).is_ok());
        }
        assert_eq!(sources.admit(A, at(0)).err(), Some(Refusal::Rate));
        assert!(sources.admit(B, at(0)).is_ok());
        assert!(sources.admit(A, at(1)).is_ok());
        assert_eq!(sources.admit(A, at(1)).err(), Some(Refusal::Rate));
    }

    #[test]
    fn handshakes_that_are_not_finished_keep_only_their_source_waiting() {
        let sources = Sources::new(QUOTA);
        let mut first = sources.admit(A, at(0)).unwrap();
        let _second = sources.admit(A, at(0)).unwrap();
        assert_eq!(sources.admit(A, at(0)).err(), Some(Refusal::Handshakes));
        assert!(sources.admit(B, at(0)).is_ok());
        first.greet();
        assert!(sources.admit(A, at(0)).is_ok());
    }

    #[test]
    fn a_connection_that_ends_gives_its_place_back() {
        let sources = Sources::new(QUOTA);
        let first = greeted(sources.admit(A, at(0)));
        let _rest = [
            greeted(sources.admit(A, at(1))),
            greeted(sources.admit(A, at(2))),
        ];
        assert_eq!(sources.admit(A, at(3)).err(), Some(Refusal::Connections));
        drop(first);
        assert!(sources.admit(A, at(9)).is_ok());
    }

    #[test]
    fn all_sources_together_have_no_more_than_the_total() {
        let sources = Sources::new(QUOTA);
        let mut open: Vec<Place> = [A, A, B, B]
            .map(|source| greeted(sources.admit(source, at(0))))
            .into();
        assert_eq!(sources.admit(A, at(0)).err(), Some(Refusal::Full));
        open.pop();
        assert!(sources.admit(A, at(1)).is_ok());
    }

    #[test]
    fn sources_at_rest_are_forgotten_and_others_are_not() {
        let sources = Sources::new(QUOTA);
        let open = sources.admit(A, at(0));
        drop(sources.admit(B, at(0)));
        let other = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(sources.admit(other, at(0)).err(), Some(Refusal::Sources));
        assert!(sources.admit(other, at(60)).is_ok(), "B was forgotten");
        drop(open);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let network_of = |text: &str| network(text.parse().unwrap());
        assert_eq!(network_of("2001:db8::1"), network_of("2001:db8::ffff:1"));
        assert_ne!(network_of("2001:db8::1"), network_of("2001:db8:0:1::1"));
        assert_eq!(network_of("::ffff:10.0.0.1"), A);
    }
}
