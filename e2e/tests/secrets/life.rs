//! A secret's life as administrators and readers see it.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    DescribeSecretRequest, KeyRing, ListKeysRequest, ListSecretsRequest, RevealSecretRequest,
    RevealSecretResponse, RotateSecretRequest, Secret, SecretStage, SetSecretValueRequest, Tenant,
};
use strongroom_e2e::{canary::Canaries, dump::Dump, native::Native};
use strongroom_hack::installation::Program;
use tonic::{Code, Status};

use super::support::{
    API, Clusters, bind_reader, generated, make_ring, make_secret, manual, owner, reader, text, up,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_go_in_by_administrators_and_out_to_readers_alone() -> Result<()> {
    let mut world = up("secrets-life", 23600)?;
    let native = world.administrator().await?;
    let ring = make_ring(&native, "payments", Some(owner("east", "payments"))).await?;
    names_belong_to_their_owner(&native, &ring).await?;
    nobody_can_name_the_key_of_secrets(&native, &ring).await?;

    let alice = bind_reader(&mut world, "alice", &ring.id).await?;
    let native = world.administrator().await?;
    rotation_keeps_what_was_current(&world, &native, &alice, &ring).await?;
    a_namespace_stands_for_its_ring(&native, &alice, &ring).await?;
    let value = people_set_what_is_not_generated(&native, &alice, &ring).await?;

    world.installation.kill(Program::KeyService)?;
    world.start()?;
    let alice = Native::connect(&world.installation, "alice").await?;
    let after = reveal(&alice, &ring, "stripe", SecretStage::Current).await?;
    ensure!(after.fields["key"] == value, "a kill changed a value");
    refusals_are_recorded(&world)?;
    values_are_nowhere_in_clear(&world, value)?;
    world.down()
}

async fn names_belong_to_their_owner(native: &Native, ring: &KeyRing) -> Result<()> {
    let made = ring.owner.clone().unwrap_or_default();
    ensure!(made == owner("east", "payments"), "another owner");
    let unknown = make_ring(native, "payments", Some(owner("north", "payments"))).await;
    expect(unknown, Code::InvalidArgument, "no cluster north")?;
    let again = make_ring(native, "payments", Some(owner("east", "payments"))).await;
    expect(again, Code::AlreadyExists, "")?;
    let second = make_ring(native, "other", Some(owner("east", "payments"))).await?;
    let others = make_ring(native, "payments", Some(owner("west", "payments"))).await?;

    let secret = make_secret(native, ring, "db", generated(), vec![reader(&API)]).await?;
    ensure!(
        versions(&secret) == ["1.1 Current"],
        "{:?}",
        versions(&secret)
    );
    let again = make_secret(native, &second, "db", generated(), Vec::new()).await;
    expect(again, Code::AlreadyExists, "")?;
    make_secret(native, &others, "db", generated(), Vec::new()).await?;

    let elsewhere = describe(native, &second, "db").await;
    expect(elsewhere, Code::NotFound, "not found")?;
    let described = describe(native, ring, "db").await?;
    ensure!(described == secret, "describing shows something else");
    ensure!(describe(native, ring, &secret.id).await? == secret);
    let request = ListSecretsRequest {
        ring_id: ring.id.clone(),
        ..Default::default()
    };
    let listed = native.secrets().list_secrets(request).await?.into_inner();
    ensure!(listed.secrets == [secret], "the ring has one secret");
    Ok(())
}

async fn nobody_can_name_the_key_of_secrets(native: &Native, ring: &KeyRing) -> Result<()> {
    let request = ListKeysRequest {
        ring_id: ring.id.clone(),
        ..Default::default()
    };
    let keys = native.keys().list_keys(request).await?.into_inner().keys;
    ensure!(keys.is_empty(), "the key of the secrets is in the list");
    let request = strongroom_api::strongroom::v1::DescribeKeyRequest {
        ring_id: ring.id.clone(),
        key: "secrets".to_owned(),
    };
    let described = native.keys().describe_key(request).await;
    expect(described.map(|_| ()), Code::NotFound, "")
}

async fn rotation_keeps_what_was_current(
    world: &Clusters,
    native: &Native,
    alice: &Native,
    ring: &KeyRing,
) -> Result<()> {
    let administrator = reveal(native, ring, "db", SecretStage::Current).await;
    expect(administrator, Code::PermissionDenied, "RevealSecret")?;
    let first = reveal(alice, ring, "db", SecretStage::Current).await?;
    ensure!(text(&first.fields, "username")? == "payments_api");
    let password = text(&first.fields, "password")?;
    ensure!(password.len() == 32 && password.bytes().all(|byte| byte.is_ascii_alphanumeric()));

    let before = describe(native, ring, "db").await?;
    let rotated = rotate(native, ring, "db", &before.etag).await?;
    ensure!(versions(&rotated) == ["1.1 Previous", "1.2 Current"]);
    let old = rotate(native, ring, "db", &before.etag).await;
    expect(old, Code::Aborted, "read it again")?;
    let second = reveal(alice, ring, "db", SecretStage::Current).await?;
    ensure!(text(&second.fields, "password")? != password, "nothing new");
    let previous = reveal(alice, ring, "db", SecretStage::Previous).await?;
    ensure!(previous.fields == first.fields && previous.version == "1.1");

    let third = rotate(native, ring, "db", "").await?;
    ensure!(versions(&third) == ["1.2 Previous", "1.3 Current"]);
    let stored = Dump::of(&world.installation)?;
    let mut kept: Vec<&str> = stored
        .records
        .keys()
        .filter_map(|path| path.strip_prefix(&format!("sver/{}/", third.id)))
        .collect();
    kept.sort_unstable();
    ensure!(
        kept == ["1.2", "1.3"],
        "a version without a stage is kept: {kept:?}"
    );
    let fingerprints: Vec<&str> = third
        .versions
        .iter()
        .map(|it| it.fingerprint.as_str())
        .collect();
    ensure!(fingerprints[0] != fingerprints[1] && fingerprints[0].len() == 16);
    Ok(())
}

async fn people_set_what_is_not_generated(
    native: &Native,
    alice: &Native,
    ring: &KeyRing,
) -> Result<Vec<u8>> {
    make_secret(native, ring, "stripe", manual(&["key"]), Vec::new()).await?;
    let waiting = reveal(alice, ring, "stripe", SecretStage::Current).await;
    expect(waiting, Code::FailedPrecondition, "no value")?;
    let rotated = rotate(native, ring, "stripe", "").await;
    expect(rotated, Code::FailedPrecondition, "set them instead")?;
    let value = Canaries::default().draw("stripe")?;
    let wrong = set(native, ring, "stripe", &[("other", &value)]).await;
    expect(wrong, Code::InvalidArgument, "the field key is missing")?;
    let large = set(native, ring, "stripe", &[("key", &[0; 65_537])]).await;
    expect(large, Code::InvalidArgument, "65536 bytes")?;
    let generated = set(
        native,
        ring,
        "db",
        &[("username", b"x"), ("password", b"y")],
    )
    .await;
    expect(generated, Code::FailedPrecondition, "rotate it instead")?;

    let secret = set(native, ring, "stripe", &[("key", &value)]).await?;
    ensure!(versions(&secret) == ["1.1 Current"]);
    let revealed = reveal(alice, ring, "stripe", SecretStage::Current).await?;
    ensure!(revealed.fields == HashMap::from([("key".to_owned(), value.clone())]));
    let mut request = reveal_request(ring, "stripe", SecretStage::Current);
    request.reason = String::new();
    let without_reason = alice.secrets().reveal_secret(request).await;
    expect(
        without_reason.map(|_| ()),
        Code::InvalidArgument,
        "a reason has",
    )?;
    let mut request = reveal_request(ring, "db", SecretStage::Current);
    request.field = "username".to_owned();
    let one = alice.secrets().reveal_secret(request).await?.into_inner();
    ensure!(one.fields.len() == 1 && one.fields.contains_key("username"));
    Ok(value)
}

fn refusals_are_recorded(world: &Clusters) -> Result<()> {
    let audit = world.audit()?;
    let line = |parts: &[&str]| {
        let found = audit
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found.with_context(|| format!("no record of {parts:?}"))
    };
    line(&[
        "certificate:alice#",
        "\"RevealSecret\"",
        "\"Succeeded\"",
        "INC-42",
    ])?;
    line(&[
        "certificate:administrator#",
        "\"RevealSecret\"",
        "\"Denied\"",
    ])?;
    line(&[
        "\"CreateSecret\"",
        "\"name\":\"db\"",
        "SecretReader api#uid-of-api",
    ])?;
    line(&["\"CreateKeyRing\"", "east/payments#uid-of-payments"])?;
    Ok(())
}

fn values_are_nowhere_in_clear(world: &Clusters, value: Vec<u8>) -> Result<()> {
    let mut canaries = Canaries::default();
    canaries.add("the key of stripe", value);
    let found = canaries.find_below(&world.installation.path(""))?;
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

/// `VERSION STAGE` of each version.
fn versions(secret: &Secret) -> Vec<String> {
    let shown = secret.versions.iter().map(|version| {
        let stage = match version.stage() {
            SecretStage::Current => "Current",
            SecretStage::Previous => "Previous",
            SecretStage::Unspecified => "nothing",
        };
        format!("{} {stage}", version.version)
    });
    shown.collect()
}

/// Names of secrets are unique in a namespace, so it takes no ring to say which one is meant.
async fn a_namespace_stands_for_its_ring(
    native: &Native,
    alice: &Native,
    ring: &KeyRing,
) -> Result<()> {
    let east = describe_of(native, "east", "payments").await?;
    ensure!(
        east == describe(native, ring, "db").await?,
        "another secret"
    );
    let west = describe_of(native, "west", "payments").await?;
    ensure!(west.ring_id != ring.id, "the secret of another cluster");
    let nowhere = describe_of(native, "east", "nowhere").await;
    expect(nowhere, Code::NotFound, "not found")?;
    let either = describe_of(native, "", "payments").await;
    expect(either, Code::InvalidArgument, "tenant.cluster")?;

    let of = |cluster: &str| RevealSecretRequest {
        ring_id: String::new(),
        tenant: Some(tenant(cluster, "payments")),
        ..reveal_request(ring, "db", SecretStage::Current)
    };
    let by_ring = reveal(alice, ring, "db", SecretStage::Current).await?;
    let by_tenant = alice
        .secrets()
        .reveal_secret(of("east"))
        .await?
        .into_inner();
    ensure!(by_tenant == by_ring, "another value");
    let foreign = alice.secrets().reveal_secret(of("west")).await;
    expect(foreign, Code::NotFound, "not found")?;
    let both = RevealSecretRequest {
        ring_id: ring.id.clone(),
        ..of("east")
    };
    let both = alice.secrets().reveal_secret(both).await;
    expect(both, Code::InvalidArgument, "not by both")
}

fn tenant(cluster: &str, namespace: &str) -> Tenant {
    Tenant {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
    }
}

async fn describe_of(native: &Native, cluster: &str, namespace: &str) -> Result<Secret, Status> {
    let request = DescribeSecretRequest {
        ring_id: String::new(),
        secret: "db".to_owned(),
        tenant: Some(tenant(cluster, namespace)),
    };
    let described = native.secrets().describe_secret(request).await?;
    Ok(described.into_inner())
}

async fn describe(native: &Native, ring: &KeyRing, secret: &str) -> Result<Secret, Status> {
    let request = DescribeSecretRequest {
        ring_id: ring.id.clone(),
        secret: secret.to_owned(),
        tenant: None,
    };
    Ok(native
        .secrets()
        .describe_secret(request)
        .await?
        .into_inner())
}

async fn rotate(
    native: &Native,
    ring: &KeyRing,
    secret: &str,
    etag: &str,
) -> Result<Secret, Status> {
    let request = RotateSecretRequest {
        ring_id: ring.id.clone(),
        secret: secret.to_owned(),
        etag: etag.to_owned(),
    };
    Ok(native.secrets().rotate_secret(request).await?.into_inner())
}

async fn set(
    native: &Native,
    ring: &KeyRing,
    secret: &str,
    fields: &[(&str, &[u8])],
) -> Result<Secret, Status> {
    let field = |(name, bytes): &(&str, &[u8])| ((*name).to_owned(), bytes.to_vec());
    let request = SetSecretValueRequest {
        ring_id: ring.id.clone(),
        secret: secret.to_owned(),
        etag: String::new(),
        fields: fields.iter().map(field).collect(),
        tenant: None,
    };
    Ok(native
        .secrets()
        .set_secret_value(request)
        .await?
        .into_inner())
}

fn reveal_request(ring: &KeyRing, secret: &str, stage: SecretStage) -> RevealSecretRequest {
    RevealSecretRequest {
        ring_id: ring.id.clone(),
        secret: secret.to_owned(),
        field: String::new(),
        stage: stage.into(),
        reason: "INC-42".to_owned(),
        tenant: None,
    }
}

async fn reveal(
    native: &Native,
    ring: &KeyRing,
    secret: &str,
    stage: SecretStage,
) -> Result<RevealSecretResponse, Status> {
    let request = reveal_request(ring, secret, stage);
    Ok(native.secrets().reveal_secret(request).await?.into_inner())
}

fn expect<T>(outcome: Result<T, Status>, code: Code, words: &str) -> Result<()> {
    let status = outcome.err().context("was not refused")?;
    ensure!(status.code() == code, "{status:?}");
    ensure!(status.message().contains(words), "{status:?}");
    Ok(())
}
