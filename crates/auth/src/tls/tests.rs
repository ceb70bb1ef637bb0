//! Real handshakes between rustls connections, with buffers for a network.

mod authority;

use rustls::{
    CertificateError, ClientConnection, Error, HandshakeKind, PeerIncompatible, ProtocolVersion,
    ServerConnection, version::TLS12,
};
use strongroom_core::UnixMillis;

use super::*;
use crate::identity;
use authority::{Authority, Credentials, From, Leaf, Usage};

/// Stands still.
struct Still(UnixMillis);

impl Clock for Still {
    fn now(&self) -> UnixMillis {
        self.0
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

const DAY_MS: i64 = 24 * 3600 * 1000;

fn on_day(day: i64) -> Arc<dyn Clock> {
    Arc::new(Still(UnixMillis::new(authority::START_MS + day * DAY_MS)))
}

/// The server of an instance, on the day after its start.
fn server(authority: &Authority, leaf: &Credentials) -> Arc<ServerConfig> {
    Arc::new(
        server_tls(leaf.resolver(), &authority.client_intermediate(), on_day(1)).expect("valid"),
    )
}

fn client(authority: &Authority, leaf: &Credentials) -> Arc<ClientConfig> {
    let Credentials { chain, key } = leaf;
    let config = client_tls(&authority.root(), chain.clone(), key.clone_key(), on_day(1));
    Arc::new(config.expect("valid"))
}

/// How a handshake ended for both sides.
struct Ended {
    client: Result<ClientConnection, Error>,
    server: Result<ServerConnection, Error>,
}

impl Ended {
    fn server_error(self) -> Error {
        self.server.expect_err("the server refuses")
    }

    fn client_error(self) -> Error {
        self.client.expect_err("the client refuses")
    }
}

fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Ended {
    let mut client = ClientConnection::new(client.clone(), server_name()).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    let (mut client_end, mut server_end) = (Ok(()), Ok(()));
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        server_end = server_end.and(deliver(&mut server, &wire));
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        client_end = client_end.and(deliver(&mut client, &wire));
    }
    Ended {
        client: client_end.map(|()| client),
        server: server_end.map(|()| server),
    }
}

fn deliver<D>(connection: &mut rustls::ConnectionCommon<D>, mut wire: &[u8]) -> Result<(), Error> {
    while !wire.is_empty() {
        connection.read_tls(&mut wire).unwrap();
        connection.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn client_of_the_instance_gets_in_with_tls_1_3_and_http_2() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::client("administrator"));
    let server = server(&authority, &authority.issue(Leaf::server()));
    let ended = handshake(&client(&authority, &leaf), &server);

    let connection = ended.server.unwrap();
    assert_eq!(
        connection.protocol_version(),
        Some(ProtocolVersion::TLSv1_3)
    );
    assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
    let certificates = connection.peer_certificates().unwrap();
    assert_eq!(&*identity(&certificates[0]).unwrap().name, "administrator");
    assert!(ended.client.is_ok());
}

#[test]
fn chain_without_the_intermediate_is_enough() {
    let authority = Authority::new();
    let mut leaf = authority.issue(Leaf::client("administrator"));
    leaf.chain.truncate(1);
    let server = server(&authority, &authority.issue(Leaf::server()));
    assert!(
        handshake(&client(&authority, &leaf), &server)
            .server
            .is_ok()
    );
}

#[test]
fn server_certificate_is_refused_as_client() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(Leaf::server()));
    // Even one that says it were for clients: its issuer may not say so.
    for usage in [Usage::Server, Usage::Client, Usage::Both] {
        let leaf = authority.issue(Leaf {
            usage,
            ..Leaf::server()
        });
        let error = handshake(&client(&authority, &leaf), &server).server_error();
        assert!(
            matches!(
                error,
                Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. })
            ),
            "{usage:?}: {error:?}"
        );
    }
}

#[test]
fn client_of_another_intermediate_of_the_same_root_is_refused() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(Leaf::server()));
    let leaf = authority.issue(Leaf {
        from: From::Other,
        ..Leaf::client("administrator")
    });
    let error = handshake(&client(&authority, &leaf), &server).server_error();
    assert_eq!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer)
    );
}

#[test]
fn client_of_another_root_with_the_same_names_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = server(&authority, &authority.issue(Leaf::server()));
    let leaf = other.issue(Leaf::client("administrator"));
    let error = handshake(&client(&authority, &leaf), &server).server_error();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::BadSignature)
        ),
        "{error:?}"
    );
}

#[test]
fn client_without_a_certificate_is_refused() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(Leaf::server()));
    let error = handshake(&without_certificate(&authority), &server).server_error();
    assert_eq!(error, Error::NoCertificatesPresented);
}

/// A client that shows nothing.
fn without_certificate(authority: &Authority) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let client = ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(on_day(1))))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}

#[test]
fn enrolling_server_takes_who_has_no_certificate_and_nobody_with_a_bad_one() {
    let (authority, other) = (Authority::new(), Authority::new());
    let leaf = authority.issue(Leaf::server());
    let anchor = authority.client_intermediate();
    let server = enrolling_server_tls(leaf.resolver(), &anchor, on_day(1)).unwrap();
    let server = Arc::new(server);
    let anonymous = handshake(&without_certificate(&authority), &server)
        .server
        .unwrap();
    assert!(anonymous.peer_certificates().is_none());
    let good = authority.issue(Leaf::client("kms-plugin"));
    let known = handshake(&client(&authority, &good), &server).server;
    assert!(known.unwrap().peer_certificates().is_some());

    let foreign = other.issue(Leaf::client("kms-plugin"));
    let of_a_server = authority.issue(Leaf::server());
    for bad in [foreign, of_a_server] {
        let error = handshake(&client(&authority, &bad), &server).server_error();
        assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
    }
}

#[test]
fn client_certificate_counts_only_between_its_dates() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::client("administrator"));
    let server_leaf = authority.issue(Leaf {
        days: (-9, 9),
        ..Leaf::server()
    });
    let ends_on = |day| {
        let anchor = authority.client_intermediate();
        let server = server_tls(server_leaf.resolver(), &anchor, on_day(day)).unwrap();
        handshake(&client(&authority, &leaf), &Arc::new(server))
            .server
            .err()
    };
    let error = |day| match ends_on(day) {
        Some(Error::InvalidCertificate(error)) => Some(error),
        Some(other) => panic!("{other:?}"),
        None => None,
    };
    assert!(matches!(
        error(-1),
        Some(CertificateError::NotValidYetContext { .. })
    ));
    assert_eq!(error(1), None);
    assert!(matches!(
        error(3),
        Some(CertificateError::ExpiredContext { .. })
    ));
}

#[test]
fn server_certificate_counts_only_between_its_dates() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::client("administrator"));
    let server = server(
        &authority,
        &authority.issue(Leaf {
            days: (-9, -1),
            ..Leaf::server()
        }),
    );
    let error = handshake(&client(&authority, &leaf), &server).client_error();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::ExpiredContext { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn server_of_another_root_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let leaf = authority.issue(Leaf::client("administrator"));
    let server = server(&authority, &other.issue(Leaf::server()));
    let error = handshake(&client(&authority, &leaf), &server).client_error();
    assert!(matches!(error, Error::InvalidCertificate(_)), "{error:?}");
}

#[test]
fn client_certificate_is_refused_as_server() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::client("administrator"));
    let named = authority.issue(Leaf {
        name: SERVER_NAME,
        ..Leaf::client("")
    });
    let error = handshake(&client(&authority, &leaf), &server(&authority, &named)).client_error();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::InvalidPurposeContext { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn server_of_another_name_is_refused() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::client("administrator"));
    let other = authority.issue(Leaf {
        name: "other.strongroom.dev",
        ..Leaf::server()
    });
    let error = handshake(&client(&authority, &leaf), &server(&authority, &other)).client_error();
    assert!(
        matches!(
            error,
            Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
        ),
        "{error:?}"
    );
}

#[test]
fn tls_1_2_is_refused() {
    let authority = Authority::new();
    let server = server(&authority, &authority.issue(Leaf::server()));
    let mut roots = RootCertStore::empty();
    roots.add(authority.root()).unwrap();
    let Credentials { chain, key } = authority.issue(Leaf::client("administrator"));
    let mut old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    old.alpn_protocols = vec![ALPN.to_vec()];
    let error = handshake(&Arc::new(old), &server).server_error();
    assert_eq!(
        error,
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
    );
}

#[test]
fn every_connection_shows_its_certificate_again() {
    let authority = Authority::new();
    let client = client(&authority, &authority.issue(Leaf::client("administrator")));
    let server = server(&authority, &authority.issue(Leaf::server()));
    for _ in 0..2 {
        let connection = handshake(&client, &server).server.unwrap();
        assert_eq!(connection.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn chain_and_key_of_different_certificates_are_refused() {
    let authority = Authority::new();
    let (one, two) = (
        authority.issue(Leaf::client("a")),
        authority.issue(Leaf::client("b")),
    );
    let error = client_tls(&authority.root(), one.chain, two.key, on_day(1)).unwrap_err();
    assert!(matches!(error, TlsError::Identity(_)), "{error}");
}

#[test]
fn anchor_that_is_no_certificate_is_refused() {
    let authority = Authority::new();
    let leaf = authority.issue(Leaf::server());
    let error = server_tls(leaf.resolver(), b"nonsense", on_day(1)).unwrap_err();
    assert!(matches!(error, TlsError::Anchor(_)), "{error}");
}
