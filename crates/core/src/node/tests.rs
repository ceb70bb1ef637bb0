//! The life of an identity, with the holder and whoever has a copy.

use super::*;

const SECRET: SecretHash = [1; 32];
const OTHER: SecretHash = [2; 32];
const EXPIRES: UnixMillis = UnixMillis::new(1000);
const IN_TIME: UnixMillis = UnixMillis::new(999);

fn invited() -> NodeRecord {
    let identity = NodeIdentity {
        role: NodeRole::KmsPlugin,
        node: "cp-2".parse().unwrap(),
    };
    NodeRecord::new(identity).invited(Invitation {
        secret: SECRET,
        expires: EXPIRES,
    })
}

fn certificate(serial: &str) -> NodeCertificate {
    NodeCertificate {
        serial: serial.to_owned(),
        key: key(serial),
        not_before: UnixMillis::new(0),
        not_after: UnixMillis::new(86_400_000),
    }
}

/// Each serial of these tests has a key of its own.
fn key(serial: &str) -> [u8; 32] {
    [serial.as_bytes()[0]; 32]
}

fn enrolled() -> NodeRecord {
    invited().enrolled(certificate("a"))
}

fn renewed() -> NodeRecord {
    enrolled().renewed(NextCertificate {
        certificate: certificate("b"),
        chain_pem: "chain of b".to_owned(),
    })
}

#[test]
fn a_secret_enrols_once() {
    assert_eq!(invited().redeem(&SECRET, IN_TIME), Ok(()));
    assert_eq!(enrolled().redeem(&SECRET, IN_TIME), Err(RedeemError::Used));
}

#[test]
fn a_secret_has_an_end() {
    assert_eq!(
        invited().redeem(&SECRET, EXPIRES),
        Err(RedeemError::Expired)
    );
}

#[test]
fn only_the_last_secret_counts() {
    let again = invited().invited(Invitation {
        secret: OTHER,
        expires: EXPIRES,
    });
    assert_eq!(again.redeem(&SECRET, IN_TIME), Err(RedeemError::Unknown));
    assert_eq!(again.redeem(&OTHER, IN_TIME), Ok(()));
}

#[test]
fn an_invitation_alone_changes_nothing_for_who_is_enrolled() {
    let record = enrolled().invited(Invitation {
        secret: OTHER,
        expires: EXPIRES,
    });
    assert_eq!(record.standing("a"), Standing::Newest);
    assert_eq!(
        record.enrolled(certificate("c")).standing("a"),
        Standing::Superseded
    );
}

#[test]
fn a_renewed_certificate_is_the_newest_once_it_was_used() {
    let renewed = renewed();
    assert_eq!(renewed.standing("a"), Standing::Newest);
    assert_eq!(renewed.standing("b"), Standing::Next);
    let confirmed = renewed.confirmed();
    assert_eq!(confirmed.standing("a"), Standing::Superseded);
    assert_eq!(confirmed.standing("b"), Standing::Newest);
}

#[test]
fn who_lost_the_answer_gets_the_same_certificate_again() {
    let renewed = renewed();
    let Renewal::Again(next) = renewed.renewal("a", &key("b")) else {
        panic!("it is given again");
    };
    assert_eq!(next.chain_pem, "chain of b");
}

#[test]
fn two_keys_for_one_certificate_are_two_holders() {
    assert_eq!(
        renewed().renewal("a", &key("c")),
        Renewal::Revoke(RevocationCause::RenewedTwice)
    );
}

#[test]
fn an_older_certificate_that_renews_ends_the_identity() {
    let confirmed = renewed().confirmed();
    for (serial, key) in [("a", key("b")), ("a", key("c")), ("z", key("z"))] {
        assert_eq!(
            confirmed.renewal(serial, &key),
            Renewal::Revoke(RevocationCause::OldCertificateRenewed)
        );
    }
}

#[test]
fn of_a_revoked_identity_no_certificate_counts_until_it_is_enrolled_anew() {
    let revoked = renewed().revoked(Revocation {
        at: IN_TIME,
        cause: RevocationCause::RenewedTwice,
        serial: "a".to_owned(),
    });
    for serial in ["a", "b", "z"] {
        assert_eq!(revoked.standing(serial), Standing::Revoked);
        assert_eq!(revoked.renewal(serial, &key("c")), Renewal::Refuse);
    }
    let anew = revoked
        .invited(Invitation {
            secret: OTHER,
            expires: EXPIRES,
        })
        .enrolled(certificate("c"));
    assert_eq!(anew.standing("c"), Standing::Newest);
    assert_eq!(anew.standing("a"), Standing::Superseded);
}

#[test]
fn nodes_are_named_as_in_kubernetes() {
    let long = format!("{}.a", ["x".repeat(63).as_str(); 3].join("."));
    for good in ["cp-2", "0", "ip-10-0-0-1.eu.example", &long] {
        assert_eq!(
            good.parse::<NodeName>().map(|name| name.to_string()),
            Ok(good.to_owned())
        );
    }
    for bad in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "-a",
        "A",
        "a/b",
        "a_b",
        "é",
        "a b",
        &"x".repeat(254),
    ] {
        assert_eq!(bad.parse::<NodeName>(), Err(InvalidNodeName), "{bad:?}");
    }
}
