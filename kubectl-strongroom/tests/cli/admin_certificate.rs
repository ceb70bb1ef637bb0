//! `admin-certificate`, and the connection through the cluster that uses what it wrote. kubectl is a script.

use std::{fs, os::unix::fs::PermissionsExt};

use expect_test::expect;
use serde_json::json;
use strongroom_kubectl_strongroom::{Exit, SERVER_NAME};

use crate::{
    api::Api,
    common::User,
    fake::Fake,
    pki::{Authority, write},
};

fn publish(api: &Api, root: &str) {
    let map = json!({"metadata": {"name": "strongroom-ca"}, "data": {"ca.crt": root}});
    api.put_at(
        "/api/v1/namespaces/strongroom-system/configmaps",
        &map.to_string(),
    );
}

/// A kubectl whose exec signs whatever is asked for, and whose port-forward leads to the key service.
fn kubectl(user: &User, chain: &str, port: u16) {
    let chain = write(user.path(), "chain.pem", chain);
    user.install_kubectl(&format!(
        "echo \"$@\" >> '{log}'\ncase \"$*\" in\n*' exec '*) cat > '{request}'; cat '{chain}' ;;\n\
         *' port-forward '*) echo 'Forwarding from 127.0.0.1:{port} -> 8443'; exec sleep 60 ;;\nesac",
        log = user.path().join("log").display(),
        request = user.path().join("request.pem").display(),
        chain = chain.display(),
    ));
}

fn mode(user: &User, name: &str) -> u32 {
    let path = user.path().join(".config/strongroom").join(name);
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_certificate_comes_from_the_pod_and_its_key_stays_here() {
    let authority = Authority::new();
    let api = Api::start();
    let user = User::new();
    api.configure(&user);
    publish(&api, &authority.pem());
    kubectl(&user, &authority.client().certificate, 1);
    let outcome = user.run(&["admin-certificate", "--lifetime", "2h"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert!(
        outcome.out.contains("certificate of administrator until"),
        "{}",
        outcome.out
    );
    assert!(outcome.out.contains("config.yaml"), "{}", outcome.out);
    assert_eq!(mode(&user, "administrator-key.pem"), 0o600);
    let request = fs::read_to_string(user.path().join("request.pem")).unwrap();
    assert!(request.starts_with("-----BEGIN CERTIFICATE REQUEST-----"));
    expect![[r#"
        --namespace strongroom-system exec --stdin --container=key-service statefulset/strongroom-key-service -- /usr/bin/key-service admin-certificate --name administrator --lifetime=2h --request=-
    "#]]
    .assert_eq(&fs::read_to_string(user.path().join("log")).unwrap());
    // What is there already is used on, and replaced.
    let outcome = user.run(&["admin-certificate"]);
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    assert!(!outcome.out.contains("config.yaml"), "{}", outcome.out);
}

#[test]
fn another_root_is_not_taken_over() {
    let (own, other) = (Authority::new(), Authority::new());
    let api = Api::start();
    let user = User::new();
    api.configure(&user);
    let outcome = user.run(&["admin-certificate"]);
    assert_eq!(outcome.exit, Exit::NotYet);
    assert!(outcome.err.contains("published no root"), "{}", outcome.err);
    publish(&api, &own.pem());
    kubectl(&user, &own.client().certificate, 1);
    assert_eq!(user.run(&["admin-certificate"]).exit, Exit::Ok);
    publish(&api, &other.pem());
    let outcome = user.run(&["admin-certificate"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(outcome.err.contains("is another root"), "{}", outcome.err);
}

#[test]
fn a_refusal_is_told_in_the_pods_words() {
    let api = Api::start();
    let user = User::new();
    api.configure(&user);
    publish(&api, &Authority::new().pem());
    user.install_kubectl(
        "echo 'error: no administrator is called eve' >&2\necho 'command terminated with exit code 1' >&2\nexit 1",
    );
    let outcome = user.run(&["admin-certificate", "--name", "eve"]);
    assert_eq!(outcome.exit, Exit::Failed);
    expect![[r#"
        error: the key service's pod gives no certificate: no administrator is called eve
    "#]]
    .assert_eq(&outcome.err);
    let files = user.path().join(".config/strongroom");
    assert!(!files.exists());
}

#[test]
fn a_key_service_in_the_cluster_is_reached_through_kubectl() {
    let authority = Authority::new();
    let fake = Fake::start(&authority, &authority.server(SERVER_NAME));
    let api = Api::start();
    let user = User::new();
    user.configure("127.0.0.1:1", &authority, &authority);
    api.configure(&user);
    publish(&api, &authority.pem());
    let folder = user.path().join(".config/strongroom");
    write(
        &folder,
        "config.yaml",
        "certificate: me.pem\nkey: me-key.pem\n",
    );
    kubectl(&user, "", fake.address.port());
    let outcome = user.run(&["version"]);
    assert_eq!((outcome.exit, outcome.err.as_str()), (Exit::Ok, ""));
    assert!(outcome.out.contains("Server: 0.1.0"), "{}", outcome.out);
    expect![[r#"
        --namespace strongroom-system port-forward --address=127.0.0.1 service/strongroom-key-service :native
    "#]]
    .assert_eq(&fs::read_to_string(user.path().join("log")).unwrap());

    // A root that somebody else published leads nowhere.
    publish(&api, &Authority::new().pem());
    let outcome = user.run(&["version"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.err.contains("invalid peer certificate"),
        "{}",
        outcome.err
    );

    user.install_kubectl("echo 'error: services \"strongroom-key-service\" not found' >&2; exit 1");
    publish(&api, &authority.pem());
    let outcome = user.run(&["version"]);
    assert_eq!(outcome.exit, Exit::Failed);
    assert!(
        outcome.err.contains("strongroom-key-service\" not found"),
        "{}",
        outcome.err
    );
}

#[test]
fn without_a_certificate_the_way_to_one_is_told() {
    let api = Api::start();
    let user = User::new();
    api.configure(&user);
    let outcome = user.run(&["clock", "confirm"]);
    assert_eq!(outcome.exit, Exit::Usage);
    expect![[r#"
        error: no certificate is given; get one with `kubectl strongroom admin-certificate`, give --certificate, or set `certificate` in ~/.config/strongroom/config.yaml
    "#]]
    .assert_eq(&outcome.err);
}
