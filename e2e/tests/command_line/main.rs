//! What people type, against a real API server, key service and operator: each with the rights of its own.
#![forbid(unsafe_code)]

mod installed;
mod person;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_api::strongroom::v1::{CreateKeyRingRequest, Owner};
use strongroom_e2e::{
    canary::Canaries,
    native::Native,
    operated::{LIMIT, Operated},
    world::wait,
};

use person::Person;

const PAYMENTS: &str = include_str!("payments.yaml");
const RIGHTS: &str = include_str!("rights.yaml");
const DENIED: i32 = 4;
const NOT_YET: i32 = 3;

#[test]
fn people_learn_why_and_mend_it() -> Result<()> {
    let mut story = Operated::begin("cli", 29700, 0)?;
    story.start("operator-a")?;
    story.apply(RIGHTS)?;
    story.apply(PAYMENTS)?;
    story.wait_ready("keyring", "payments")?;
    story.wait_condition("managedsecret", "stripe", "Ready", "False AwaitingValue")?;
    // Sees the namespace and may ask for rotations; has no certificate and sees nothing of the cluster.
    let developer = Person::new(&story, "developer", false)?;
    let administrator = Person::new(&story, "platform", true)?;

    a_pod_is_explained_until_nothing_is_broken(&story, &developer, &administrator)?;
    rotations_are_done_once(&story, &developer)?;
    a_secret_of_kubernetes_is_taken_over(&story, &developer, &administrator)?;
    a_former_namespaces_ring_is_adopted(&story, &administrator)?;
    the_whole_installation_is_shown(&developer, &administrator)?;
    story.end()
}

fn a_pod_is_explained_until_nothing_is_broken(
    story: &Operated,
    developer: &Person,
    administrator: &Person,
) -> Result<()> {
    let why = ["why", "pod/api", "-n", "payments"];
    let answer = developer.run(&why)?;
    answer.ended(DENIED)?;
    answer.says(
        "Denied: ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db; add it under spec.access",
    )?;

    let access = r#"{"spec": {"access": [{"role": "SecretReader", "subjects": [{"kind": "ServiceAccount", "name": "api"}]}]}}"#;
    story.kubectl(&["patch", "msec", "db", "--type=merge", "-p", access])?;
    story.wait_condition("managedsecret", "db", "AccessApplied", "True Bound")?;
    let answer = developer.run(&why)?;
    answer.ended(NOT_YET)?;
    answer.says("ManagedSecret payments/stripe has no value yet; set it with `kubectl strongroom secret set`")?;
    answer
        .says("not seen")
        .context("a developer sees no CSINode")?;

    // Whoever sets it needs no right in the cluster, and the key service finds the secret by its namespace.
    let set = developer.run(&[
        "secret",
        "set",
        "stripe",
        "-n",
        "payments",
        "--from-file=key=/etc/hostname",
    ])?;
    ensure!(set.code != 0, "a developer has no certificate: {set:?}");
    let set = [
        "secret",
        "set",
        "stripe",
        "-n",
        "payments",
        "--from-file=key=/etc/hostname",
    ];
    administrator.run(&set)?.ended(0)?;
    wait(LIMIT, "the operator saw the value", || {
        let answer = developer.run(&why)?;
        answer.ended(0)?;
        Ok(true)
    })?;
    let answer = administrator.run(&["why", "pod/api", "-n", "payments", "-o", "json"])?;
    answer.ended(0)?;
    let json: Value = serde_json::from_str(&answer.out)?;
    let links = json["links"].as_array().context("there are links")?;
    let hsm = links.iter().filter(|link| link["part"] == "HSM").count();
    ensure!(hsm > 0, "the chain ends at the HSM: {json}");
    developer
        .run(&["why", "sb/api", "-n", "payments"])?
        .ended(0)?;
    let missing = developer.run(&["why", "pod/none", "-n", "payments"])?;
    missing.ended(1)?;
    developer
        .run(&["why", "pod/api", "-n", "kube-system"])?
        .ended(DENIED)
}

fn rotations_are_done_once(story: &Operated, developer: &Person) -> Result<()> {
    let version = || -> Result<String> {
        let object = story.object("managedsecret", "db")?;
        Ok(object["status"]["version"]
            .as_str()
            .unwrap_or("-")
            .to_owned())
    };
    let before = version()?;
    let dry = ["rotate", "msec/db", "-n", "payments", "--dry-run=server"];
    developer.run(&dry)?.ended(0)?;
    let rotations = story.kubectl(&["get", "secretrotations", "-o", "name"])?;
    ensure!(rotations.trim().is_empty(), "{rotations}");

    let rotate = [
        "rotate", "msec/db", "-n", "payments", "--reason", "INC-42", "--wait",
    ];
    let answer = developer.run(&rotate)?;
    answer.ended(0)?;
    let after = version()?;
    ensure!(before != after, "{before} is still current");
    answer.says(&format!("ManagedSecret payments/db has version {after}"))?;
    let rotations = story.kubectl(&[
        "get",
        "secretrotations",
        "-o",
        "jsonpath={.items[*].spec.reason}",
    ])?;
    ensure!(rotations.trim() == "INC-42", "{rotations}");
    let manual = developer.run(&["rotate", "msec/stripe", "-n", "payments"])?;
    manual.ended(1)?;
    manual.says("is not generated")?;

    // A developer may not change keys.
    developer
        .run(&["rotate", "ck/orders", "-n", "payments"])?
        .ended(DENIED)?;
    let administrator = Person::new(story, "platform", false)?;
    story.wait_ready("cryptokey", "orders")?;
    let rotate = [
        "rotate",
        "ck/orders",
        "-n",
        "payments",
        "--wait",
        "-o",
        "json",
    ];
    let answer = administrator.run(&rotate)?;
    answer.ended(0)?;
    let json: Value = serde_json::from_str(&answer.out)?;
    ensure!(json["version"] == "1.2" && json["done"] == true, "{json}");
    Ok(())
}

fn a_secret_of_kubernetes_is_taken_over(
    story: &Operated,
    developer: &Person,
    administrator: &Person,
) -> Result<()> {
    let password = hex::encode(Canaries::default().draw("imported")?);
    let literal = format!("--from-literal=password={password}");
    story.kubectl(&[
        "create",
        "secret",
        "generic",
        "db-creds",
        &literal,
        "--from-literal=username=api",
    ])?;
    let import = [
        "secret",
        "import",
        "secret/db-creds",
        "--as",
        "legacy",
        "-n",
        "payments",
    ];
    developer.run(&import)?.ended(2)?;
    let answer = administrator.run(&import)?;
    answer.ended(1)?;
    answer.says("make it, or give --create")?;
    let answer = administrator.run(&[&import[..], &["--create"]].concat())?;
    answer.ended(0)?;
    ensure!(
        !format!("{answer:?}").contains(&password),
        "a value was printed"
    );
    wait(LIMIT, "the secret has its value", || {
        Ok(story.object("managedsecret", "legacy")?["status"]["phase"] == "Active")
    })?;
    story.kubectl(&[
        "create",
        "secret",
        "generic",
        "large",
        &format!("--from-literal=a={}", "x".repeat(66_000)),
    ])?;
    let large = [
        "secret",
        "import",
        "secret/large",
        "--as",
        "large",
        "-n",
        "payments",
        "--create",
    ];
    let answer = administrator.run(&large)?;
    answer.ended(1)?;
    answer.says("key a: 66000 bytes; a field has at most 65536")?;
    ensure!(
        story.object("managedsecret", "large").is_err(),
        "it was made"
    );
    Ok(())
}

/// The key service remembers a namespace by its uid; here one that was there before.
fn a_former_namespaces_ring_is_adopted(story: &Operated, administrator: &Person) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let native = Native::connect(&story.installation, "administrator").await?;
        let owner = Owner {
            cluster: "main".to_owned(),
            namespace: "team".to_owned(),
            namespace_uid: "uid-of-the-former-one".to_owned(),
        };
        let request = CreateKeyRingRequest {
            name: "team".to_owned(),
            owner: Some(owner),
        };
        native.keys().create_key_ring(request).await?;
        anyhow::Ok(())
    })?;
    story.cluster.kubectl(&["create", "namespace", "team"])?;
    story.apply(
        "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: team, namespace: team}, spec: {}}\n---\n\
         {apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {name: db, namespace: team}, spec: {source: \
         {generate: {fields: [{name: password}]}}}}",
    )?;
    let why = ["why", "msec/db", "-n", "team"];
    wait(LIMIT, "the ring is known to be somebody else's", || {
        let answer = administrator.run(&why)?;
        answer.ended(1)?;
        answer.says("kubectl strongroom ring adopt team -n team")?;
        Ok(true)
    })?;
    let adopt = ["ring", "adopt", "team", "-n", "team", "--reason", "INC-43"];
    administrator.run(&adopt)?.ended(0)?;
    wait(LIMIT, "the namespace has its ring", || {
        administrator.run(&why)?.ended(0)?;
        Ok(true)
    })
}

fn the_whole_installation_is_shown(developer: &Person, administrator: &Person) -> Result<()> {
    // Nothing runs as a workload here, and that is told.
    let answer = administrator.run(&["status", "-o", "json"])?;
    answer.ended(1)?;
    let json: Value = serde_json::from_str(&answer.out)?;
    ensure!(json["cluster"]["keyService"]["ready"] == true, "{json}");
    ensure!(
        json["cluster"]["keyService"]["instanceID"] == json["instanceID"],
        "{json}"
    );
    ensure!(
        json["cluster"]["missing"]
            .as_array()
            .is_some_and(|missing| missing.len() == 2),
        "{json}"
    );
    let answer = developer.run(&["status"])?;
    answer.says("not seen: cannot list deployments: you may not")
}
