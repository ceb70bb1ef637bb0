//! `version`.

use expect_test::expect;
use strongroom_kubectl_strongroom::Exit;
use tonic::Status;

use crate::common::{User, pair};

#[test]
fn without_configuration_only_the_client_is_shown() {
    let outcome = User::new().run(&["version"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert_eq!(
        outcome.out,
        format!("Client: {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn server_is_asked_when_one_is_configured() {
    let (fake, user) = pair();
    if let Ok(instance) = &mut fake.state().instance {
        "9.8.7".clone_into(&mut instance.version);
    }
    let outcome = user.run(&["version", "-o", "yaml"]);
    expect![[r#"
        client:
          version: 0.1.0
        server:
          version: 9.8.7
    "#]]
    .assert_eq(&outcome.out);
    assert_eq!(outcome.exit, Exit::Ok);
    assert_eq!(
        user.run(&["version", "--client", "-o", "json"])
            .out
            .lines()
            .count(),
        5
    );
}

#[test]
fn client_is_shown_although_the_server_refuses() {
    let (fake, user) = pair();
    fake.state().instance = Err(Status::unauthenticated("the certificate is not known"));
    let outcome = user.run(&["version"]);
    assert_eq!(outcome.exit, Exit::Denied);
    assert!(outcome.out.starts_with("Client: "), "{}", outcome.out);
    expect![[r#"
        error: cannot read the server's version: the certificate is not known
    "#]]
    .assert_eq(&outcome.err);
}
