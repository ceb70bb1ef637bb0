//! Service account tokens that are bound to pods.
//!
//! Whose a token is follows from the key that verified it, never from what it says: two clusters may have one issuer text.

mod claims;
mod compact;
mod json;
mod keys;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use strongroom_core::{Name, PodIdentity, UnixMillis};

use claims::Claims;
use compact::Compact;

pub use keys::{ISSUER_KEYS_MAX, IssuerKeys, IssuerKeysError, KeyError};

/// Longest token that is looked at. Those of API servers have less than 2 KiB.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// A token that counts for longer is not accepted. An API server gives exactly the seconds that a kubelet asks for, but
/// for tokens with its own audience.
pub const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(60 * 60);

/// How far the clock that issued a token may be ahead of ours. There is no such allowance at a token's end: kubelets
/// renew a token when a fifth of its time is left.
pub const CLOCK_LEEWAY: Duration = Duration::from_secs(30);

/// Longest issuer or audience that can be configured.
const TEXT_MAX: usize = 256;

/// A cluster whose tokens are accepted.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// The name under which it is registered.
    pub name: Name,
    /// What its tokens must say in `iss`.
    pub issuer: String,
    /// What its tokens must say in `aud`, alone.
    pub audience: String,
    /// The keys with which its API servers sign.
    pub keys: IssuerKeys,
}

/// Why clusters cannot be registered together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClustersError {
    /// Accounts of one would be taken for accounts of the other.
    #[error("two clusters are named {name}")]
    SameName {
        /// The name.
        name: Name,
    },
    /// Nobody could say whose a token is.
    #[error(
        "clusters {first} and {second} have a key in common, so that nobody can tell their tokens apart"
    )]
    SharedKey {
        /// One of them.
        first: Name,
        /// The other.
        second: Name,
    },
    /// No token says this.
    #[error("the {what} of cluster {cluster} must have 1 to {TEXT_MAX} printable ASCII characters")]
    Text {
        /// Whose.
        cluster: Name,
        /// `issuer` or `audience`.
        what: &'static str,
    },
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was made for somebody else, or for somebody else too.
    #[error("the token's one audience is not this service")]
    WrongAudience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Anything else. The cause is for our own log.
    #[error("the token is not acceptable")]
    Invalid(#[source] InvalidToken),
}

impl TokenError {
    /// The word that callers get with the status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WrongAudience => "WrongAudience",
            Self::Expired => "TokenExpired",
            Self::Invalid(_) => "TokenInvalid",
        }
    }
}

/// What is wrong with a token. It quotes nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing of that size is looked at.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// It is not three parts of base64url.
    #[error("it has not the compact form of a signed token")]
    Form,
    /// Its header has members that we do not know, or not those that are needed.
    #[error("its header is not the one of a service account token")]
    Header,
    /// Its key is nobody's, or is not for its algorithm.
    #[error("no registered key has its key id and algorithm")]
    UnknownKey,
    /// The key did not sign this.
    #[error("its signature does not verify")]
    Signature,
    /// The claims are no JSON object, or name one thing twice.
    #[error("its claims are not one JSON object with each member once")]
    Claims,
    /// A claim is not there or cannot be read.
    #[error("its claim {claim} is missing or malformed")]
    Claim {
        /// Which.
        claim: &'static str,
    },
    /// It verified with the key of a cluster that has another issuer.
    #[error("its issuer is not the configured one of the cluster whose key signed it")]
    Issuer,
    /// Name and namespace of the account are said twice, differently.
    #[error("its subject is not the service account that it names")]
    Subject,
    /// The clocks differ, or it was made ahead.
    #[error("it begins in the future")]
    NotYet,
    /// It would outlive what we accept.
    #[error("it does not end within an hour of its beginning")]
    Lifetime,
}

impl From<InvalidToken> for TokenError {
    fn from(cause: InvalidToken) -> Self {
        Self::Invalid(cause)
    }
}

/// A token that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodToken {
    /// Whom it stands for.
    pub identity: Arc<PodIdentity>,
    /// From this moment on it counts no more.
    pub expires: UnixMillis,
}

/// Verifies tokens of the registered clusters. Immutable: other keys are another verifier.
#[derive(Debug, Default)]
pub struct TokenVerifier {
    clusters: Vec<Cluster>,
}

impl TokenVerifier {
    /// Registers clusters.
    ///
    /// # Errors
    /// See `ClustersError`.
    pub fn new(clusters: Vec<Cluster>) -> Result<Self, ClustersError> {
        let mut names = BTreeSet::new();
        for (index, cluster) in clusters.iter().enumerate() {
            cluster.check()?;
            if !names.insert(&cluster.name) {
                let name = cluster.name.clone();
                return Err(ClustersError::SameName { name });
            }
            let before = clusters[..index].iter();
            if let Some(other) = before
                .clone()
                .find(|other| other.keys.share_one(&cluster.keys))
            {
                return Err(ClustersError::SharedKey {
                    first: other.name.clone(),
                    second: cluster.name.clone(),
                });
            }
        }
        Ok(Self { clusters })
    }

    /// The same clusters with this one in the place of the one of its name, or beside them.
    ///
    /// # Errors
    /// See `ClustersError`.
    pub fn with(&self, cluster: Cluster) -> Result<Self, ClustersError> {
        let others = self.clusters.iter();
        let others = others.filter(|other| other.name != cluster.name).cloned();
        Self::new(others.chain([cluster.clone()]).collect())
    }

    /// Says whom a token stands for, if it counts now.
    ///
    /// # Errors
    /// See `TokenError`. Nothing but `Invalid` is said of a token that no registered key signed.
    pub fn verify(&self, token: &str, now: UnixMillis) -> Result<PodToken, TokenError> {
        let token = Compact::parse(token)?;
        let cluster = self.signer(&token)?;
        let claims = Claims::parse(&token.payload)?;
        claims.check_issuer(&cluster.issuer)?;
        claims.check_audience(&cluster.audience)?;
        let expires = claims.check_time(now)?;
        let identity = claims.identity(&cluster.name)?;
        Ok(PodToken {
            identity: Arc::new(identity),
            expires,
        })
    }

    /// The cluster whose key signed it. Each key that has the token's key id and algorithm is tried.
    fn signer(&self, token: &Compact<'_>) -> Result<&Cluster, InvalidToken> {
        let mut failure = InvalidToken::UnknownKey;
        for cluster in &self.clusters {
            if let Some(key) = cluster.keys.find(&token.key_id, &token.algorithm) {
                if key.signed(token.signed, &token.signature) {
                    return Ok(cluster);
                }
                failure = InvalidToken::Signature;
            }
        }
        Err(failure)
    }
}

impl Cluster {
    fn check(&self) -> Result<(), ClustersError> {
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        for (what, text) in [("issuer", &self.issuer), ("audience", &self.audience)] {
            if !(1..=TEXT_MAX).contains(&text.len()) || !printable(text) {
                let cluster = self.name.clone();
                return Err(ClustersError::Text { cluster, what });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
