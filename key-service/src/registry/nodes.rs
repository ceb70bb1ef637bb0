//! Records of nodes' identities: from and to the bytes of the store, and how they are found.
//!
//! Whoever connects is compared with the record before there is a caller, so the look-up takes no permit.

use std::sync::Arc;

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{
    Invitation, NextCertificate, NodeCertificate, NodeIdentity, NodeRecord, Permit, Revocation,
    RevocationCause, UnixMillis, action,
};

use super::{
    Registry,
    codec::{DecodeError, Decoded, required},
    state::StoredNode,
};

impl Registry {
    /// The record of an identity, to find out whether somebody is whom he says to be.
    pub fn node(&self, identity: &NodeIdentity) -> Option<Arc<StoredNode>> {
        self.state().nodes.get(identity).cloned()
    }

    /// How many identities there are.
    pub fn count_nodes(&self, _: &Permit<action::InviteNode>) -> usize {
        self.state().nodes.len()
    }

    /// All identities, by name.
    pub fn nodes(&self, _: &Permit<action::DescribeInstance>) -> Vec<Arc<StoredNode>> {
        self.state().nodes.values().cloned().collect()
    }

    /// How many identities are revoked, for metrics.
    pub(crate) fn count_revoked_nodes(&self) -> usize {
        let state = self.state();
        let nodes = state.nodes.values();
        nodes
            .filter(|stored| stored.record.revoked.is_some())
            .count()
    }
}

pub(super) fn encode(record: &NodeRecord) -> wire::NodeIdentity {
    let NodeRecord {
        // Both are in the path, which the record's MAC covers.
        identity: _,
        invitation,
        used_secret,
        newest,
        next,
        revoked,
    } = record;
    wire::NodeIdentity {
        invitation: invitation.as_ref().map(|it| wire::NodeInvitation {
            secret_hash: it.secret.to_vec(),
            expires_ms: it.expires.as_i64(),
        }),
        used_secret: used_secret.map(Vec::from).unwrap_or_default(),
        newest: newest.as_ref().map(encode_certificate),
        next: next.as_ref().map(|it| encode_certificate(&it.certificate)),
        next_chain_pem: next
            .as_ref()
            .map(|it| it.chain_pem.clone())
            .unwrap_or_default(),
        revoked: revoked.as_ref().map(|it| wire::NodeRevocation {
            at_ms: it.at.as_i64(),
            cause: match it.cause {
                RevocationCause::OldCertificateRenewed => 1,
                RevocationCause::RenewedTwice => 2,
            },
            serial: it.serial.clone(),
        }),
    }
}

fn encode_certificate(certificate: &NodeCertificate) -> wire::NodeCertificate {
    wire::NodeCertificate {
        serial: certificate.serial.clone(),
        key_hash: certificate.key.to_vec(),
        not_before_ms: certificate.not_before.as_i64(),
        not_after_ms: certificate.not_after.as_i64(),
    }
}

pub(super) fn decode(identity: NodeIdentity, record: wire::NodeIdentity) -> Decoded<NodeRecord> {
    let wire::NodeIdentity {
        invitation,
        used_secret,
        newest,
        next,
        next_chain_pem,
        revoked,
    } = record;
    let next = next.map(|certificate| {
        Ok(NextCertificate {
            certificate: decode_certificate(certificate)?,
            chain_pem: required(
                Some(next_chain_pem).filter(|pem| !pem.is_empty()),
                "next_chain_pem",
            )?,
        })
    });
    Ok(NodeRecord {
        identity,
        invitation: invitation.map(decode_invitation).transpose()?,
        used_secret: match used_secret.as_slice() {
            [] => None,
            hash => Some(hash32(hash, "used_secret")?),
        },
        newest: newest.map(decode_certificate).transpose()?,
        next: next.transpose()?,
        revoked: revoked.map(decode_revocation).transpose()?,
    })
}

fn decode_invitation(invitation: wire::NodeInvitation) -> Decoded<Invitation> {
    Ok(Invitation {
        secret: hash32(&invitation.secret_hash, "secret_hash")?,
        expires: UnixMillis::new(invitation.expires_ms),
    })
}

fn decode_certificate(certificate: wire::NodeCertificate) -> Decoded<NodeCertificate> {
    let serial = Some(certificate.serial).filter(|serial| !serial.is_empty());
    Ok(NodeCertificate {
        serial: required(serial, "serial")?,
        key: hash32(&certificate.key_hash, "key_hash")?,
        not_before: UnixMillis::new(certificate.not_before_ms),
        not_after: UnixMillis::new(certificate.not_after_ms),
    })
}

fn decode_revocation(revocation: wire::NodeRevocation) -> Decoded<Revocation> {
    Ok(Revocation {
        at: UnixMillis::new(revocation.at_ms),
        cause: match revocation.cause {
            1 => RevocationCause::OldCertificateRenewed,
            2 => RevocationCause::RenewedTwice,
            _ => return Err(DecodeError("cause")),
        },
        serial: revocation.serial,
    })
}

fn hash32(bytes: &[u8], field: &'static str) -> Decoded<[u8; 32]> {
    bytes.try_into().map_err(|_| DecodeError(field))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use prost::Message;
    use strongroom_core::NodeRole;

    use super::*;

    fn identity() -> NodeIdentity {
        NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: "cp-2".parse().expect("a node's name"),
        }
    }

    fn certificate(number: u8) -> NodeCertificate {
        NodeCertificate {
            serial: format!("{number:02x}").repeat(16),
            key: [number; 32],
            not_before: UnixMillis::new(1_000),
            not_after: UnixMillis::new(86_401_000),
        }
    }

    /// A record in which every field is set.
    fn full() -> NodeRecord {
        NodeRecord {
            identity: identity(),
            invitation: Some(Invitation {
                secret: [0xa1; 32],
                expires: UnixMillis::new(900_000),
            }),
            used_secret: Some([0xa2; 32]),
            newest: Some(certificate(3)),
            next: Some(NextCertificate {
                certificate: certificate(4),
                chain_pem: "PEM".to_owned(),
            }),
            revoked: Some(Revocation {
                at: UnixMillis::new(5),
                cause: RevocationCause::RenewedTwice,
                serial: "06".to_owned(),
            }),
        }
    }

    #[test]
    fn bytes_of_a_record_are_frozen() {
        let bytes = encode(&full()).encode_to_vec();
        expect!["0a260a20a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a110a0f7361220a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a21a4c0a2030333033303330333033303330333033303330333033303330333033303330331220030303030303030303030303030303030303030303030303030303030303030318e80720e8bf9929224c0a2030343034303430343034303430343034303430343034303430343034303430341220040404040404040404040404040404040404040404040404040404040404040418e80720e8bf99292a0350454d3208080510021a023036"].assert_eq(&hex::encode(&bytes));
        let read = wire::NodeIdentity::decode(bytes.as_slice()).expect("was just written");
        assert_eq!(decode(identity(), read).expect("is ours"), full());
    }

    #[test]
    fn record_with_nothing_in_it_is_read_back() {
        let empty = NodeRecord::new(identity());
        let read = decode(identity(), encode(&empty)).expect("is ours");
        assert_eq!(read, empty);
    }

    #[test]
    fn what_a_newer_version_would_write_is_refused_by_field() {
        let mut record = encode(&full());
        record.revoked.as_mut().expect("is set").cause = 3;
        let error = decode(identity(), record).expect_err("is unknown");
        assert!(error.to_string().contains("cause"), "{error}");

        let mut record = encode(&full());
        record.next_chain_pem.clear();
        let error = decode(identity(), record).expect_err("is incomplete");
        assert!(error.to_string().contains("next_chain_pem"), "{error}");
    }
}
