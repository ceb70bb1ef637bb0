//! Whom the command line trusts, and what it says when there is no connection.

use std::{net::TcpListener, sync::Arc};

use expect_test::expect;
use rustls::{ServerConfig, ServerConnection, crypto::aws_lc_rs, version::TLS12};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use strongroom_kubectl_strongroom::{Exit, SERVER_NAME};

use crate::{
    common::User,
    fake::Fake,
    pki::{Authority, Identity},
};

#[test]
fn server_of_another_root_is_refused() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let fake = Fake::start(&own, &foreign.server(SERVER_NAME));
    let outcome = User::of(&fake, &own).run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.err.contains("invalid peer certificate"),
        "{}",
        outcome.err
    );
}

#[test]
fn server_with_another_name_is_refused() {
    let authority = Authority::new();
    let fake = Fake::start(&authority, &authority.server("localhost"));
    let outcome = User::of(&fake, &authority).run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.err.contains("not valid for name"),
        "{}",
        outcome.err
    );
}

#[test]
fn client_certificate_of_another_root_is_denied() {
    let (own, foreign) = (Authority::new(), Authority::new());
    let fake = Fake::start(&own, &own.server(SERVER_NAME));
    let user = User::new();
    user.configure(&fake.address.to_string(), &own, &foreign);
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Denied, "{}", outcome.err);
    expect![[r#"
        error: the key service does not accept your certificate: it is not valid for this instance (get a new one with `kubectl strongroom admin-certificate`, or `key-service admin-certificate` on its node)
    "#]].assert_eq(&outcome.err);
}

#[test]
fn server_that_only_speaks_tls_1_2_is_refused() {
    let authority = Authority::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let user = User::new();
    user.configure(
        &listener.local_addr().unwrap().to_string(),
        &authority,
        &authority,
    );
    let config = tls_1_2(&authority.server(SERVER_NAME));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = ServerConnection::new(config).unwrap();
        while connection.is_handshaking() {
            if connection.complete_io(&mut stream).is_err() {
                return false;
            }
        }
        true
    });
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.err.contains("ProtocolVersion"), "{}", outcome.err);
    assert!(!server.join().unwrap(), "the handshake ended well");
}

fn tls_1_2(identity: &Identity) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    Arc::new(config)
}

#[test]
fn address_where_nobody_listens_is_named() {
    let authority = Authority::new();
    let user = User::new();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    user.configure(&free.to_string(), &authority, &authority);
    let outcome = user.run(&["status"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: cannot reach the key service at ADDRESS (check the address and that it runs): Connection refused (os error 111)
    "#]].assert_eq(&outcome.err.replace(&free.to_string(), "ADDRESS"));
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let user = User::new();
    user.configure("127.0.0.1:1", &Authority::new(), &Authority::new());
    let folder = user.path().join(".config/strongroom");
    let errors: String = ["ca", "certificate", "key"]
        .iter()
        .map(|what| {
            let not_pem = folder.join("config.yaml");
            let outcome = user.run(&["status", &format!("--{what}"), not_pem.to_str().unwrap()]);
            assert_eq!(outcome.exit, Exit::Usage);
            outcome.err
        })
        .collect();
    expect![[r#"
        error: the root certificate "HOME/.config/strongroom/config.yaml" holds no certificate
        error: the certificate "HOME/.config/strongroom/config.yaml" holds no certificate
        error: cannot read the private key "HOME/.config/strongroom/config.yaml": no items found
    "#]]
    .assert_eq(&errors);
}
