//! A key service that was put back, or another one in its place.

use tonic::Code;

use crate::support::{INSTANCE, Rig, SEED};

#[tokio::test]
async fn a_store_that_was_put_back_is_not_believed_even_after_a_restart() {
    let rig = Rig::new();
    let (_service, plugin, client) = rig.ready().await;
    rig.fake.rotate();
    client.until_key_id("key-2").await;
    let sealed = client.encrypt(SEED).await.unwrap();

    let taken = rig.fake.facts().activations.pop().unwrap();
    let text = "the key service is not believed: the activation went back from 2 to 1";
    let error = client.until_error(text).await;
    assert_eq!(error.code(), Code::FailedPrecondition);
    let refused = r#"strongroom_kms_plugin_refused{reason="activation_went_back"}"#;
    plugin.until_metric(refused, "1").await;
    // What was sealed before can be opened as long as the key service opens it.
    assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
    plugin.stop().await;

    let plugin = rig.start();
    let client = plugin.client();
    client.until_error(text).await;
    rig.fake.facts().activations.push(taken);
    assert_eq!(client.until_ok().await, "key-2");
}

#[tokio::test]
async fn a_state_whose_volume_is_mounted_late_counts_from_then_on() {
    let mut rig = Rig::new();
    let (at, volume) = (
        rig.folder.path().join("state"),
        rig.folder.path().join("volume"),
    );
    std::fs::create_dir(&at).unwrap();
    rig.config.state = at.join("state.json");
    let (_service, plugin, client) = rig.ready().await;
    rig.fake.rotate();
    client.until_key_id("key-2").await;
    plugin.stop().await;

    // The folder below the mount knows of nothing.
    std::fs::rename(&at, &volume).unwrap();
    std::fs::create_dir(&at).unwrap();
    rig.fake.facts().activations.pop();
    let plugin = rig.start();
    let client = plugin.client();
    client.until_key_id("key-1").await;

    std::fs::rename(&at, rig.folder.path().join("below")).unwrap();
    std::fs::rename(&volume, &at).unwrap();
    let text = "the key service is not believed: the activation went back from 2 to 1";
    client.until_error(text).await;
}

#[tokio::test]
async fn a_state_whose_folder_is_late_is_named_on_the_socket_and_waited_for() {
    let mut rig = Rig::new();
    let at = rig.folder.path().join("state");
    rig.config.state = at.join("state.json");
    let _service = rig.serve();
    let plugin = rig.start();
    let client = plugin.client();
    let text = format!("cannot open the state's folder {}", at.display());
    client.until_error(&text).await;
    let missing = plugin.handle.readiness.missing();
    assert!(
        missing.iter().any(|(name, _)| *name == "state"),
        "{missing:?}"
    );
    assert!(client.encrypt(SEED).await.is_err());
    assert!(!at.exists());

    std::fs::create_dir(&at).unwrap();
    assert_eq!(client.until_ok().await, "key-1");
    assert!(at.join("state.json").exists());
}

#[tokio::test]
async fn a_volume_without_a_state_gets_what_was_seen() {
    let mut rig = Rig::new();
    let at = rig.folder.path().join("state");
    std::fs::create_dir(&at).unwrap();
    rig.config.state = at.join("state.json");
    let (_service, _plugin, client) = rig.ready().await;
    std::fs::rename(&at, rig.folder.path().join("below")).unwrap();
    std::fs::create_dir(&at).unwrap();
    let written = async || std::fs::read_to_string(at.join("state.json")).ok();
    let written = crate::support::eventually("the state is written", written).await;
    assert!(written.contains(INSTANCE), "{written}");
    assert_eq!(client.until_ok().await, "key-1");
}

#[tokio::test]
async fn a_lower_epoch_is_not_believed() {
    let rig = Rig::new();
    rig.fake.facts().epoch = 3;
    let (_service, _plugin, client) = rig.ready().await;
    rig.fake.facts().epoch = 2;
    let text = "the key service is not believed: the store's epoch went back from 3 to 2";
    client.until_error(text).await;
}

#[tokio::test]
async fn a_lower_position_alarms_after_the_age_only() {
    let rig = Rig::new();
    let (_service, plugin, client) = rig.ready().await;
    rig.fake.facts().seq = 1;
    plugin
        .until_metric(
            r#"strongroom_kms_plugin_probe_health{health="behind"}"#,
            "1",
        )
        .await;
    let error = client.until_error("position went back from 2 to 1").await;
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn another_instance_is_refused_by_name() {
    let rig = Rig::new();
    let (_service, plugin, _client) = rig.ready().await;
    plugin.stop().await;
    let foreign = "f".repeat(32);
    rig.fake.facts().instance.clone_from(&foreign);
    let plugin = rig.start();
    let text = format!("instance {foreign} answers where instance {INSTANCE} is pinned");
    plugin.client().until_error(&text).await;
}

#[tokio::test]
async fn a_position_that_cannot_be_recorded_is_not_published() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    // A folder in the way of the temporary file.
    let temporary = rig.folder.path().join(".state.json~");
    std::fs::create_dir(&temporary).unwrap();
    rig.fake.rotate();
    client.until_error("the position cannot be recorded").await;
    std::fs::remove_dir(&temporary).unwrap();
    assert_eq!(client.until_ok().await, "key-2");
}
