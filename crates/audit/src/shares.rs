//! Who may use how much of the log's space: levels of the whole log, so that nothing has to be
//! remembered over a restart.

use std::fmt;

/// On whose account a record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Callers with a namespace, and refusals of strangers.
    Tenant,
    /// The platform: administration, operator, jobs.
    System,
    /// The API server's plugin, and the start and end of the service.
    Reserve,
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenants",
            Self::System => "the system",
            Self::Reserve => "the reserve",
        })
    }
}

impl Share {
    /// Up to how many bytes of a log of `capacity` this share may write: tenants 70 %, the system
    /// 20 % more, the reserve the rest.
    pub(crate) fn level(self, capacity: u64) -> u64 {
        let tenth = capacity / 10;
        match self {
            Self::Tenant => tenth * 7,
            Self::System => tenth * 9,
            Self::Reserve => capacity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_70_90_and_100_percent() {
        let levels = |capacity| {
            [Share::Tenant, Share::System, Share::Reserve].map(|share| share.level(capacity))
        };
        assert_eq!(levels(1000), [700, 900, 1000]);
        assert_eq!(levels(1009), [700, 900, 1009]);
        assert_eq!(levels(u64::MAX)[2], u64::MAX);
    }
}
