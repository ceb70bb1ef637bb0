//! How much one source address may have of a TLS port before anybody knows who it is: handshakes by rate, connections by
//! number. One address that floods takes nothing from the others.

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
    /// Connections of one source at a time.
    pub(super) connections: u32,
    /// Sources that are remembered; those that have nothing open and rested are forgotten first.
    pub(super) sources: usize,
}

/// Why a source is not served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It begins handshakes too often.
    Rate,
    /// It has too many connections.
    Connections,
    /// Too many sources at a time.
    Sources,
}

impl Refusal {
    pub(super) const ALL: [Self; 3] = [Self::Rate, Self::Connections, Self::Sources];

    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Connections => "connections",
            Self::Sources => "sources",
        }
    }
}

/// The sources of one port.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    quota: Quota,
    known: Arc<Mutex<HashMap<IpAddr, Source>>>,
}

#[derive(Debug)]
struct Source {
    /// When the source would have its whole burst again: the one number of a leaky bucket.
    rested: Duration,
    connections: u32,
}

/// A connection's place among those of its source; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    of: Option<(Sources, IpAddr)>,
}

impl Place {
    /// A place on a port without quota.
    pub(super) const fn unbounded() -> Self {
        Self { of: None }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((sources, source)) = self.of.take()
            && let Some(known) = sources.known().get_mut(&source)
        {
            known.connections -= 1;
        }
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
        let Quota {
            burst,
            interval,
            connections,
            sources,
        } = self.quota;
        let source = network(address);
        let mut known = self.known();
        if !known.contains_key(&source) && known.len() >= sources {
            known.retain(|_, source| source.connections > 0 || source.rested > now);
            if known.len() >= sources {
                return Err(Refusal::Sources);
            }
        }
        let entry = known.entry(source).or_insert(Source {
            rested: now,
            connections: 0,
        });
        let after = entry.rested.max(now) + interval;
        if after > now + interval * burst {
            return Err(Refusal::Rate);
        }
        // A refused connection was a beginning, too.
        entry.rested = after;
        if entry.connections >= connections {
            return Err(Refusal::Connections);
        }
        entry.connections += 1;
        let of = Some((self.clone(), source));
        Ok(Place { of })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<IpAddr, Source>> {
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
        burst: 3,
        interval: Duration::from_secs(1),
        connections: 2,
        sources: 2,
    };
    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1000 + seconds)
    }

    #[test]
    fn a_burst_is_followed_by_a_rate_for_each_source_alone() {
        let sources = Sources::new(QUOTA);
        for _ in 0..3 {
            assert!(sources.admit(A, at(0)).is_ok());
        }
        assert_eq!(sources.admit(A, at(0)).err(), Some(Refusal::Rate));
        assert!(sources.admit(B, at(0)).is_ok());
        assert!(sources.admit(A, at(1)).is_ok());
        assert_eq!(sources.admit(A, at(1)).err(), Some(Refusal::Rate));
    }

    #[test]
    fn a_connection_that_ends_gives_its_place_back() {
        let sources = Sources::new(QUOTA);
        let first = sources.admit(A, at(0));
        let _second = sources.admit(A, at(1)).unwrap();
        assert_eq!(sources.admit(A, at(2)).err(), Some(Refusal::Connections));
        drop(first);
        assert!(sources.admit(A, at(9)).is_ok());
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
