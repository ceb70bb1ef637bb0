//! `secret set` and `secret reveal`.

use strongroom_api::strongroom::v1::{SecretStage, Tenant};
use strongroom_kubectl_strongroom::Exit;

use crate::{
    api::Api,
    common::{User, pair},
    fake::RING,
};

fn secret(user: &User, args: &[&str]) -> crate::common::Outcome {
    user.run(&[&["secret"], args, &["--ring", RING]].concat())
}

#[test]
fn files_go_in_as_they_are_and_a_field_comes_out_alone() {
    let (fake, user) = pair();
    let value = b"\xff\x00 a value\n";
    let path = user.path().join("value");
    std::fs::write(&path, value).unwrap();
    let file = |field: &str| format!("--from-file={field}={}", path.display());
    let outcome = secret(&user, &["set", "stripe", &file("key"), &file("user")]);
    assert_eq!(
        (outcome.exit, outcome.out.as_str(), outcome.err.as_str()),
        (Exit::Ok, "secret stripe has version 1.2\n", "")
    );
    assert_eq!(fake.state().fields["key"], value);
    assert_eq!(fake.state().fields.len(), 2);
    let set = fake.state().set.take();
    assert!(set == Some((RING.to_owned(), None, "stripe".to_owned())));

    let text = b"a value\n".to_vec();
    fake.state().fields.insert("key".to_owned(), text);
    let reveal = ["reveal", "stripe", "--field", "key", "--reason", "INC-42"];
    let outcome = secret(&user, &reveal);
    assert_eq!(
        (outcome.exit, outcome.out.as_str(), outcome.err.as_str()),
        (Exit::Ok, "a value\n", "")
    );
    let asked = fake.state().revealed.take().unwrap();
    assert_eq!(
        (asked.secret.as_str(), asked.reason.as_str()),
        ("stripe", "INC-42")
    );
    assert!(asked.stage() == SecretStage::Current);
    secret(&user, &[&reveal[..], &["--previous"]].concat());
    let asked = fake.state().revealed.take().unwrap();
    assert!(asked.stage() == SecretStage::Previous);
}

#[test]
fn what_cannot_be_read_sets_nothing() {
    let (fake, user) = pair();
    let large = user.path().join("large");
    std::fs::write(&large, vec![b'x'; 64 * 1024 + 1]).unwrap();
    let good = user.path().join("good");
    std::fs::write(&good, "x").unwrap();
    let of =
        |field: &str, path: &std::path::Path| format!("--from-file={field}={}", path.display());
    let good = of("key", &good);
    for (bad, words) in [
        (
            of("other", &user.path().join("nowhere")),
            "cannot read the value of field other",
        ),
        (of("other", &large), "has more than 65536 bytes"),
        (good.clone(), "the field key is given twice"),
    ] {
        let outcome = secret(&user, &["set", "stripe", &good, &bad]);
        assert_eq!(outcome.exit, Exit::Usage, "{}", outcome.err);
        assert!(outcome.err.contains(words), "{}", outcome.err);
        assert!(fake.state().fields.is_empty());
    }
}

#[test]
fn values_are_not_taken_from_the_command_line() {
    let (_fake, user) = pair();
    let outcome = secret(&user, &["set", "stripe", "--from-literal=key=hunter2"]);
    assert_eq!(outcome.exit, Exit::Usage);
}

#[test]
fn denied_reveal_prints_nothing() {
    let (_fake, user) = pair();
    let outcome = secret(
        &user,
        &["reveal", "stripe", "--field", "key", "--reason", "INC-42"],
    );
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Denied, ""));
    assert_eq!(outcome.err, "error: cannot reveal the secret: not you\n");
}

#[test]
fn a_secret_is_named_by_its_namespace() {
    let (fake, user) = pair();
    let path = user.path().join("value");
    std::fs::write(&path, "x").unwrap();
    let file = format!("--from-file=key={}", path.display());
    let outcome = user.run(&["secret", "set", "stripe", &file]);
    assert_eq!(outcome.exit, Exit::Usage);
    assert!(outcome.err.contains("give --namespace"), "{}", outcome.err);

    let place = ["-n", "payments", "--cluster-name", "main"];
    let outcome = user.run(&[&["secret", "set", "stripe", &file][..], &place].concat());
    assert_eq!(outcome.exit, Exit::Ok, "{}", outcome.err);
    let tenant = |cluster: &str| Tenant {
        cluster: cluster.to_owned(),
        namespace: "payments".to_owned(),
    };
    let expected = (String::new(), Some(tenant("main")), "stripe".to_owned());
    assert!(fake.state().set.take() == Some(expected));

    // The context of the kubeconfig has a namespace.
    let api = Api::start();
    api.configure(&user);
    let reveal = [
        "secret", "reveal", "stripe", "--field", "key", "--reason", "INC-42",
    ];
    let outcome = user.run(&reveal);
    assert_eq!((outcome.exit, outcome.out.as_str()), (Exit::Ok, "x"));
    let asked = fake.state().revealed.take().unwrap();
    assert!((asked.ring_id.as_str(), asked.tenant) == ("", Some(tenant(""))));

    let both = user.run(&[&reveal[..], &["--ring", RING, "-n", "payments"]].concat());
    assert_eq!(both.exit, Exit::Usage);
    let long = user.run(&[
        "secret", "reveal", "s", "--field", "key", "--reason", "a\nb",
    ]);
    assert_eq!(long.exit, Exit::Usage);
}
