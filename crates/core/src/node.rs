//! Identities of nodes: a secret that is used once, certificates of a day, and the rule that ends an identity of which
//! there is a copy. Pure steps from one record to the next; why they are so is in `docs/design/20261122-enrolment.md`.
//!
//! A renewed certificate counts as the newest only once it was used; until then the one before may ask for it again.

mod name;

use crate::UnixMillis;

pub use name::{InvalidNodeName, NodeIdentity, NodeName, NodeRole};

/// A hash of an enrolment secret, bound to instance and identity.
pub type SecretHash = [u8; 32];

/// A secret that an administrator asked for and nobody has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// The secret itself is nowhere but with the administrator.
    pub secret: SecretHash,
    /// It counts before this moment.
    pub expires: UnixMillis,
}

/// A certificate of a node, as far as its identity has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeCertificate {
    /// Lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of its public key.
    pub key: [u8; 32],
    /// It counts from this moment.
    pub not_before: UnixMillis,
    /// It counts up to this moment.
    pub not_after: UnixMillis,
}

/// A certificate that was renewed and not used yet, kept so that whoever lost the answer gets the same one again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextCertificate {
    /// The certificate.
    pub certificate: NodeCertificate,
    /// It and its intermediate, PEM.
    pub chain_pem: String,
}

/// The end of an identity, until it is enrolled anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// When.
    pub at: UnixMillis,
    /// What showed that there is a copy.
    pub cause: RevocationCause,
    /// The serial number that was shown with it.
    pub serial: String,
}

/// What showed that there is a copy of an identity's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevocationCause {
    /// A certificate that is not the newest asked for a renewal.
    OldCertificateRenewed,
    /// The newest certificate was renewed for two different keys.
    RenewedTwice,
}

impl RevocationCause {
    /// One word for records and conditions.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OldCertificateRenewed => "OldCertificateRenewed",
            Self::RenewedTwice => "RenewedTwice",
        }
    }
}

/// Everything that is known of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Which.
    pub identity: NodeIdentity,
    /// A secret that may be used now.
    pub invitation: Option<Invitation>,
    /// The secret that was used last, so that a second use is told from a wrong secret.
    pub used_secret: Option<SecretHash>,
    /// The newest certificate that was used.
    pub newest: Option<NodeCertificate>,
    /// Its renewal, which nobody has used.
    pub next: Option<NextCertificate>,
    /// Set while every certificate of the identity is refused.
    pub revoked: Option<Revocation>,
}

/// Why a secret enrols nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedeemError {
    /// It never was the secret of this identity, or not the last one.
    #[error("the enrolment secret is not accepted")]
    Unknown,
    /// Somebody has a copy of it, or its answer was lost.
    #[error("the enrolment secret was used already; ask for a new one")]
    Used,
    /// It is too old.
    #[error("the enrolment secret has expired; ask for a new one")]
    Expired,
}

/// What a certificate of an identity is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the newest.
    Newest,
    /// It is the renewal of the newest and becomes the newest by being used.
    Next,
    /// There is a newer one, or the identity was enrolled anew.
    Superseded,
    /// No certificate of the identity counts.
    Revoked,
}

/// What becomes of a request for renewal by a certificate that is not `Next`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal<'a> {
    /// A certificate is issued.
    Issue,
    /// The answer was lost; the same certificate is given again.
    Again(&'a NextCertificate),
    /// There are two holders of the identity.
    Revoke(RevocationCause),
    /// The identity is revoked already.
    Refuse,
}

impl NodeRecord {
    /// An identity that nobody was invited to.
    #[must_use]
    pub const fn new(identity: NodeIdentity) -> Self {
        Self {
            identity,
            invitation: None,
            used_secret: None,
            newest: None,
            next: None,
            revoked: None,
        }
    }

    /// Invites with a new secret; an older one that was not used is void. What is enrolled stays so until then.
    #[must_use]
    pub fn invited(mut self, invitation: Invitation) -> Self {
        self.invitation = Some(invitation);
        self
    }

    /// Says whether a secret may be used now.
    ///
    /// # Errors
    /// See `RedeemError`.
    pub fn redeem(&self, secret: &SecretHash, now: UnixMillis) -> Result<(), RedeemError> {
        match &self.invitation {
            Some(invitation) if invitation.secret == *secret => {
                if now < invitation.expires {
                    Ok(())
                } else {
                    Err(RedeemError::Expired)
                }
            }
            _ if self.used_secret == Some(*secret) => Err(RedeemError::Used),
            _ => Err(RedeemError::Unknown),
        }
    }

    /// Uses the secret up: every certificate from before, and a revocation, belong to the past.
    #[must_use]
    pub fn enrolled(mut self, newest: NodeCertificate) -> Self {
        self.used_secret = self.invitation.take().map(|invitation| invitation.secret);
        self.newest = Some(newest);
        self.next = None;
        self.revoked = None;
        self
    }

    /// What a certificate of this identity is worth.
    #[must_use]
    pub fn standing(&self, serial: &str) -> Standing {
        let is = |certificate: Option<&NodeCertificate>| {
            certificate.is_some_and(|certificate| certificate.serial == serial)
        };
        let next = self.next.as_ref().map(|next| &next.certificate);
        if self.revoked.is_some() {
            Standing::Revoked
        } else if is(self.newest.as_ref()) {
            Standing::Newest
        } else if is(next) {
            Standing::Next
        } else {
            Standing::Superseded
        }
    }

    /// Takes the first use of the renewed certificate over.
    #[must_use]
    pub fn confirmed(mut self) -> Self {
        if let Some(next) = self.next.take() {
            self.newest = Some(next.certificate);
        }
        self
    }

    /// Decides about a request for renewal: who asks with which serial number, for which key.
    #[must_use]
    pub fn renewal(&self, serial: &str, key: &[u8; 32]) -> Renewal<'_> {
        match (self.standing(serial), &self.next) {
            (Standing::Revoked, _) => Renewal::Refuse,
            (Standing::Superseded, _) => Renewal::Revoke(RevocationCause::OldCertificateRenewed),
            (Standing::Newest, Some(next)) if next.certificate.key == *key => Renewal::Again(next),
            (Standing::Newest, Some(_)) => Renewal::Revoke(RevocationCause::RenewedTwice),
            // Whoever shows the renewed one has used it, so there is nothing that it could be a copy of.
            (Standing::Newest, None) | (Standing::Next, _) => Renewal::Issue,
        }
    }

    /// Keeps a renewed certificate until it is used.
    #[must_use]
    pub fn renewed(mut self, next: NextCertificate) -> Self {
        self.next = Some(next);
        self
    }

    /// Ends the identity.
    #[must_use]
    pub fn revoked(mut self, revocation: Revocation) -> Self {
        self.next = None;
        self.revoked = Some(revocation);
        self
    }
}

#[cfg(test)]
mod tests;
