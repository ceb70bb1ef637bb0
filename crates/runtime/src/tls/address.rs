//! Addresses of the key service's port for plugins.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A host and a port. An address needs nobody to resolve it, and a cluster that starts has nobody who could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    /// An IP address, or a name that the machine itself resolves.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint is HOST:PORT, such as 192.0.2.10:8444 or [2001:db8::10]:8444")]
pub struct InvalidAddress;

impl FromStr for RemoteAddress {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidAddress)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let plain = |host: &str| {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        };
        let host = match bracketed {
            Some(host) if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) => host,
            None if plain(host) => host,
            _ => return Err(InvalidAddress),
        };
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(InvalidAddress),
        }
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

impl<'de> Deserialize<'de> for RemoteAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl Serialize for RemoteAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_read_and_nothing_else_is() {
        for good in ["192.0.2.10:8444", "[2001:db8::10]:8444", "cp-1.example:1"] {
            let read = good.parse::<RemoteAddress>().map(|it| it.to_string());
            assert_eq!(read, Ok(good.to_owned()));
        }
        for bad in [
            "",
            "192.0.2.10",
            ":1",
            "a:0",
            "a:65536",
            "::1:1",
            "[a]:1",
            "[1.2.3.4]:1",
            "https://a:1",
            "a b:1",
        ] {
            assert_eq!(bad.parse::<RemoteAddress>(), Err(InvalidAddress), "{bad:?}");
        }
    }
}
