//! The main job on a real API server: Secrets encrypted in etcd, moved nowhere, rotated, read after a restart.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use strongroom_api::strongroom::v1::{
    DescribeInstanceRequest, DescribeKeyRequest, SetPrimaryVersionRequest,
};
use strongroom_e2e::{
    envelope,
    native::Native,
    world::{World, secret_path, wait},
};
use strongroom_hack::cluster::{Health, Release};

/// Most bytes that kube-apiserver takes as a sealed seed.
const SEED_LIMIT: usize = 1024;

#[test]
fn secrets_are_encrypted_rotated_and_read_again() -> Result<()> {
    let world = World::start("etcd-encryption", 21000, Release::Newest)?;
    world.create_secret("before", "plain-7261")?;
    let raw = String::from_utf8_lossy(&world.raw_secret("before")?).into_owned();
    assert!(
        raw.contains("plain-7261"),
        "the negative control: without us the value lies in etcd in clear"
    );

    world.encrypt_secrets()?;
    assert_eq!(
        world.secret("before")?,
        "plain-7261",
        "nothing is lost when encryption is switched on"
    );
    raw_values_are_envelopes(&world)?;
    value_at_another_path_does_not_open(&world)?;
    many_secrets_share_one_seed(&world)?;
    restart_asks_the_plugin(&world)?;
    rotation_changes_the_key_id_and_keeps_old_objects(&world)?;
    audit_log_verifies(&world)?;
    world.clean_up()
}

/// Kubernetes 1.32 is the first whose client names an authority that HTTP/2 servers in Rust take.
#[test]
fn oldest_supported_api_server_reads_after_a_restart() -> Result<()> {
    let world = World::start("oldest", 21020, Release::Oldest)?;
    world.encrypt_secrets()?;
    raw_values_are_envelopes(&world)?;
    restart_asks_the_plugin(&world)?;
    world.clean_up()
}

fn raw_values_are_envelopes(world: &World) -> Result<()> {
    world.create_secret("one", "canary-58413")?;
    let raw = world.raw_secret("one")?;
    let object = envelope::parse(&raw)?;
    assert!(!raw.windows(12).any(|part| part == b"canary-58413"));
    assert!((1..=SEED_LIMIT).contains(&object.encrypted_dek_source.len()));
    let metrics = world
        .installation
        .probe(
            strongroom_hack::installation::Program::KmsPlugin,
            "/metrics",
        )?
        .body;
    let hash = key_id_hash(&object.key_id);
    assert!(
        metrics.contains(&hash),
        "the key id in etcd is the one of Status: {hash}"
    );
    Ok(())
}

fn value_at_another_path_does_not_open(world: &World) -> Result<()> {
    world.create_secret("victim", "mine")?;
    let own = world.raw_secret("victim")?;
    let stolen = world.raw_secret("one")?;
    world.cluster.etcd_put(&secret_path("victim"), &stolen)?;
    let read = world.secret("victim");
    assert!(
        read.is_err(),
        "a value moved to another path was opened: {read:?}"
    );
    // The control: its own value opens at its own path.
    world.cluster.etcd_put(&secret_path("victim"), &own)?;
    assert_eq!(world.secret("victim")?, "mine");
    Ok(())
}

fn many_secrets_share_one_seed(world: &World) -> Result<()> {
    let object = |number: usize| {
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: many-{number}}}, stringData: {{password: s-{number}}}}}\n---\n"
        )
    };
    let all: String = (0..1000).map(object).collect();
    world
        .cluster
        .kubectl_with_input(&["create", "-f", "-"], &all)?;
    let stored = world.cluster.etcd_list(&secret_path("many-"))?;
    let seeds = stored
        .iter()
        .map(|entry| Ok(envelope::parse(&entry.value)?.encrypted_dek_source));
    let seeds = seeds.collect::<Result<BTreeSet<_>>>()?;
    assert_eq!((stored.len(), seeds.len()), (1000, 1));
    Ok(())
}

/// A read through an API server that has the seed cached proves nothing, so the API server is restarted.
fn restart_asks_the_plugin(world: &World) -> Result<()> {
    world.cluster.restart_api_server(Health::Ready)?;
    assert_eq!(world.secret("one")?, "canary-58413");
    // Its counters began at zero, so these calls are those of the new process.
    assert!(
        world.plugin_calls("Decrypt")? > 0,
        "the seed was not asked for"
    );
    Ok(())
}

fn rotation_changes_the_key_id_and_keeps_old_objects(world: &World) -> Result<()> {
    let before = envelope::parse(&world.raw_secret("one")?)?.key_id;
    let version = world.resource_version("one")?;
    world.write_unchanged("one")?;
    assert_eq!(
        world.resource_version("one")?,
        version,
        "a no-op write with the key in force writes nothing"
    );

    world.strongroom(&["rotate", "etcd"])?;
    let hash = key_hash_in_force(world)?;
    assert_ne!(hash, key_id_hash(&before));
    world.wait_for_key_id(&hash)?;
    assert_eq!(
        world.secret("one")?,
        "canary-58413",
        "an object of the old key is still read"
    );
    world.write_unchanged("one")?;
    let rewritten = world.resource_version("one")?;
    assert_ne!(
        rewritten, version,
        "a no-op write with another key in force rewrites"
    );
    world.write_unchanged("one")?;
    assert_eq!(
        world.resource_version("one")?,
        rewritten,
        "but exactly once"
    );
    let second = envelope::parse(&world.raw_secret("one")?)?.key_id;
    assert_eq!(key_id_hash(&second), hash);

    reinstate_first_version(world)?;
    let third = key_hash_in_force(world)?;
    assert!(
        ![key_id_hash(&before), hash].contains(&third),
        "an old key that returns gets a third id"
    );
    world.wait_for_key_id(&third)?;
    assert_eq!(world.secret("one")?, "canary-58413");
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn key_hash_in_force(world: &World) -> Result<String> {
    runtime()?.block_on(async {
        let native = Native::connect(&world.installation, "administrator").await?;
        let instance = native
            .instance()
            .describe(DescribeInstanceRequest {})
            .await?
            .into_inner();
        let request = DescribeKeyRequest {
            ring_id: instance.system_ring_id,
            key: instance.etcd_key_id,
        };
        Ok(native
            .keys()
            .describe_key(request)
            .await?
            .into_inner()
            .key_id_hash)
    })
}

fn reinstate_first_version(world: &World) -> Result<()> {
    runtime()?.block_on(async {
        let native = Native::connect(&world.installation, "administrator").await?;
        let instance = native
            .instance()
            .describe(DescribeInstanceRequest {})
            .await?
            .into_inner();
        let request = SetPrimaryVersionRequest {
            ring_id: instance.system_ring_id,
            key: instance.etcd_key_id,
            etag: String::new(),
            version: "1.1".to_owned(),
        };
        native.keys().set_primary_version(request).await?;
        Ok(())
    })
}

/// As kube-apiserver's metrics show a key id.
fn key_id_hash(key_id: &str) -> String {
    envelope::key_id_hash(key_id)
}

fn audit_log_verifies(world: &World) -> Result<()> {
    let folder = world.installation.audit_dir();
    let folder = folder.to_str().expect("a plain path");
    wait(
        Duration::from_secs(10),
        "a checkpoint covers the log",
        || {
            let verified = world.strongroom(&[
                "audit",
                "verify",
                folder,
                "--fingerprint",
                &world.fingerprint,
            ]);
            Ok(verified.is_ok()
                || verified.is_err_and(|error| error.to_string().contains("exit status: 3")))
        },
    )
}
