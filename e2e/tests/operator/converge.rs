//! Objects become what they describe, in whatever order they come and whatever is missing at first.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{AdoptKeyRingRequest, Owner};
use strongroom_e2e::{
    native::Native,
    operated::{LIMIT, Operated},
    world::wait,
};
use strongroom_hack::installation::Program;

const MANIFESTS: &str = include_str!("payments.yaml");

#[test]
fn objects_of_one_file_converge_and_say_how_they_are() -> Result<()> {
    let mut story = Operated::begin("operator", 29400, 0)?;
    story.start("operator-a")?;
    story.apply(MANIFESTS)?;
    for (kind, name) in [
        ("keyring", "payments"),
        ("cryptokey", "orders"),
        ("managedsecret", "db"),
        ("secretbundle", "api"),
    ] {
        story.wait_ready(kind, name)?;
    }
    story.wait_condition("secretrotation", "db-now", "Ready", "True Rotated")?;
    story.wait_condition("managedsecret", "stripe", "Ready", "False AwaitingValue")?;

    // Accounts that are not there yet are a condition and hold nothing up; then they are bound.
    let access = |is: &str| story.wait_condition("managedsecret", "db", "AccessApplied", is);
    access("False AccountNotFound")?;
    story.kubectl(&["create", "serviceaccount", "api"])?;
    access("True Bound")?;
    let bound = || -> Result<String> {
        let object = story.object("managedsecret", "db")?;
        Ok(object["status"]["access"][0]["uid"]
            .as_str()
            .unwrap_or("-")
            .to_owned())
    };
    let first = bound()?;
    story.kubectl(&["delete", "serviceaccount", "api"])?;
    access("False AccountNotFound")?;
    story.kubectl(&["create", "serviceaccount", "api"])?;
    access("True Bound")?;
    ensure!(bound()? != first, "another account is bound");

    let secret = story.object("managedsecret", "db")?;
    assert_eq!(secret["status"]["phase"], "Active");
    assert_eq!(
        secret["status"]["version"], "1.2",
        "the first and the rotation's"
    );
    assert_eq!(secret["status"]["consumers"], "0/0");
    assert!(secret["status"]["nextRotationTime"].is_string());
    let rotation = story.object("secretrotation", "db-now")?;
    assert_eq!(rotation["status"]["version"], "1.2");
    assert_eq!(rotation["status"]["steps"][1]["name"], "Rotated");
    let ring = story.object("keyring", "payments")?;
    wait(LIMIT, "the ring counts what is in it", || {
        let ring = story.object("keyring", "payments")?;
        Ok(ring["status"]["keys"] == 1 && ring["status"]["secrets"] == 2)
    })?;
    ensure!(
        ring["status"]["ringID"]
            .as_str()
            .is_some_and(|id| id.len() == 32)
    );

    // As people look at it.
    story.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "msec/db",
        "ck/orders",
        "kr/payments",
        "sb/api",
    ])?;
    let shown = story.kubectl(&["get", "strongroom"])?;
    for name in ["payments", "orders", "db", "stripe", "api", "db-now"] {
        ensure!(shown.contains(name), "{name}: {shown}");
    }
    let selected = [
        "get",
        "ck",
        "--field-selector",
        "spec.keyRingRef.name=payments",
        "-o",
        "name",
    ];
    assert_eq!(
        story.kubectl(&selected)?.trim(),
        "cryptokey.strongroom.dev/orders"
    );
    wait(LIMIT, "KeyService says how the installation is", || {
        let ready = "jsonpath={.status.conditions[?(@.type=='Ready')].reason} {.status.hardware}";
        let shown = story
            .cluster
            .kubectl(&["get", "keyservice", "default", "-o", ready])?;
        ensure!(shown == "Serving false", "{shown}");
        Ok(true)
    })?;
    let reasons = story.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"])?;
    for reason in ["Created", "Rotated", "AccountNotFound", "AwaitingValue"] {
        ensure!(reasons.contains(reason), "{reason}: {reasons}");
    }
    story.end()
}

#[test]
fn key_asked_for_by_its_spec_rotates_once_for_each_request() -> Result<()> {
    let mut story = Operated::begin("operator-key", 29420, 0)?;
    story.start("operator-a")?;
    story.apply(MANIFESTS)?;
    story.wait_ready("cryptokey", "orders")?;
    let primary = || -> Result<String> {
        let object = story.object("cryptokey", "orders")?;
        Ok(object["status"]["primaryVersion"]
            .as_str()
            .unwrap_or("-")
            .to_owned())
    };
    assert_eq!(primary()?, "1.1");
    for (request, version) in [("leak-1", "1.2"), ("leak-2", "1.3")] {
        let patch = format!("{{\"spec\":{{\"rotation\":{{\"requestID\":\"{request}\"}}}}}}");
        story.kubectl(&["patch", "ck", "orders", "--type=merge", "-p", &patch])?;
        story.wait_ready("cryptokey", "orders")?;
        assert_eq!(primary()?, version);
    }
    // Somebody deletes the object and applies it again with the request that was handled.
    let manifest = story.kubectl(&[
        "get",
        "ck",
        "orders",
        "-o",
        "yaml",
        "--show-managed-fields=false",
    ])?;
    let manifest: Vec<&str> = manifest
        .lines()
        .take_while(|line| *line != "status:")
        .collect();
    let manifest = manifest.join("\n");
    let uid = |line: &&str| {
        ![
            "uid:",
            "resourceVersion:",
            "finalizers:",
            "- strongroom.dev/release",
        ]
        .iter()
        .any(|word| line.trim().starts_with(word))
    };
    let manifest: Vec<&str> = manifest.lines().filter(uid).collect();
    story.kubectl(&["delete", "ck", "orders", "--timeout=60s"])?;
    story.apply(&manifest.join("\n"))?;
    story.wait_ready("cryptokey", "orders")?;
    assert_eq!(
        primary()?,
        "1.3",
        "a request that was handled is never run again"
    );
    let reasons = story.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"])?;
    ensure!(
        reasons.contains("Adopted") && reasons.contains("Released"),
        "{reasons}"
    );
    story.end()
}

#[test]
fn without_the_admission_policy_nothing_is_bound_and_nothing_is_lost() -> Result<()> {
    let mut story = Operated::begin("operator-guard", 29430, 0)?;
    story.start("operator-a")?;
    story.kubectl(&["create", "serviceaccount", "api"])?;
    story.kubectl(&["create", "serviceaccount", "ledger"])?;
    story.apply(MANIFESTS)?;
    story.wait_condition("managedsecret", "db", "AccessApplied", "True Bound")?;
    let policy = ["validatingadmissionpolicybinding", "strongroom-access"];
    let kept = story
        .cluster
        .kubectl(&[&["get", "-o", "json"], &policy[..]].concat())?;
    story
        .cluster
        .kubectl(&[&["delete"], &policy[..]].concat())?;
    story.wait_condition(
        "managedsecret",
        "db",
        "AccessApplied",
        "False AccessUnguarded",
    )?;
    story.kubectl(&["create", "serviceaccount", "eve"])?;
    let patch = r#"{"spec":{"access":[{"role":"SecretReader","subjects":[{"kind":"ServiceAccount","name":"eve"}]}]}}"#;
    story.kubectl(&["patch", "msec", "db", "--type=merge", "-p", patch])?;
    story.wait_condition(
        "managedsecret",
        "db",
        "AccessApplied",
        "False AccessUnguarded",
    )?;
    let access = || -> Result<String> {
        let object = story.object("managedsecret", "db")?;
        Ok(object["status"]["access"].to_string())
    };
    ensure!(
        access()?.contains("\"api\"") && !access()?.contains("eve"),
        "{}",
        access()?
    );
    let kept: serde_json::Value = serde_json::from_str(&kept)?;
    let binding = serde_json::json!({
        "apiVersion": kept["apiVersion"], "kind": kept["kind"],
        "metadata": {"name": "strongroom-access"}, "spec": kept["spec"],
    });
    story.apply(&binding.to_string())?;
    story.wait_condition("managedsecret", "db", "AccessApplied", "True Bound")?;
    ensure!(access()?.contains("eve"), "{}", access()?);
    story.end()
}

#[test]
fn namespace_ends_while_the_key_service_is_away_and_its_successor_inherits_nothing() -> Result<()> {
    // With nodes, since a controller empties namespaces.
    let mut story = Operated::begin("operator-end", 29440, 1)?;
    story.start("operator-a")?;
    story.apply(MANIFESTS)?;
    for (kind, name) in [
        ("managedsecret", "db"),
        ("cryptokey", "orders"),
        ("secretbundle", "api"),
    ] {
        story.wait_ready(kind, name)?;
    }
    story.wait_condition("secretrotation", "db-now", "Ready", "True Rotated")?;
    let ring = |story: &Operated| -> Result<String> {
        let ring = story.object("keyring", "payments")?;
        Ok(ring["status"]["ringID"].as_str().unwrap_or("-").to_owned())
    };
    let former = ring(&story)?;
    story.installation.stop(Program::KeyService)?;
    // One that was there before and knows the way is no better off.
    story.stop("operator-a")?;
    story.start("operator-a")?;
    let began = Instant::now();
    let words = ["delete", "namespace", "payments", "--timeout=120s"];
    story.cluster.kubectl(&words)?;
    let took = began.elapsed();
    println!("the namespace ended after {took:?}");
    ensure!(took < Duration::from_secs(120), "{took:?}");
    let orphans = story.metric("operator-a", "strongroom_operator_orphaned_total", "")?;
    assert!((orphans - 5.0).abs() < 0.1, "{orphans} orphans");

    // Another namespace of that name is another owner, until an administrator says otherwise.
    story.installation.start(Program::KeyService, &[])?;
    story.installation.wait_ready(Program::KeyService)?;
    story
        .cluster
        .kubectl(&["create", "namespace", "payments"])?;
    story.kubectl(&["create", "serviceaccount", "api"])?;
    story.apply(MANIFESTS)?;
    let owned = "False OwnedByFormerNamespace";
    story.wait_condition("keyring", "payments", "Ready", owned)?;
    let shown = story.object("managedsecret", "db")?;
    ensure!(shown["status"]["version"].is_null(), "{shown}");
    let said = story.condition("managedsecret", "db", "Ready")?;
    ensure!(said.starts_with("False"), "{said}");
    adopt(&story)?;
    story.wait_ready("keyring", "payments")?;
    story.wait_ready("managedsecret", "db")?;
    assert_eq!(ring(&story)?, former);
    story.end()
}

/// Gives the ring to the namespace that there is now.
fn adopt(story: &Operated) -> Result<()> {
    let uid = [
        "get",
        "namespace",
        "payments",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let request = AdoptKeyRingRequest {
        name: "payments".to_owned(),
        owner: Some(Owner {
            cluster: "main".to_owned(),
            namespace: "payments".to_owned(),
            namespace_uid: story.cluster.kubectl(&uid)?,
        }),
        reason: "the namespace was made anew".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let native = Native::connect(&story.installation, "administrator").await?;
        native.keys().adopt_key_ring(request).await?;
        Ok(())
    })
}
