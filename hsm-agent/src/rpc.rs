//! The calls of the agent by name: in the lists of peers, in metrics and in logs.
#![forbid(unsafe_code)]

use serde::Deserialize;
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

/// A call of `strongroom.hsm.v1.HsmAgent`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, EnumIter, IntoStaticStr,
)]
pub enum Rpc {
    /// What the token is and holds.
    Describe,
    /// Makes the keys of an instance.
    Initialize,
    /// Random bytes.
    Random,
    /// Wraps a KEK.
    WrapKek,
    /// Signs a KEK record.
    SignKekRecord,
    /// Opens the KEK of a record.
    UnwrapKek,
    /// Certifies a checkpoint key.
    CertifyCheckpointKey,
    /// Makes a certificate of the certificate authority.
    SignCaCertificate,
    /// Makes SoftHSM's token.
    MakeToken,
}

impl Rpc {
    /// Lists all calls.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Gives the name that `proto/` has.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_service_is_listed() {
        let proto = include_str!("../../proto/strongroom/hsm/v1/agent.proto");
        let calls: Vec<&str> = proto
            .lines()
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .collect();
        assert_eq!(Rpc::all().map(Rpc::name).collect::<Vec<_>>(), calls);
    }
}
