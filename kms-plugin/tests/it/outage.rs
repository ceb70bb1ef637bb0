//! A key that cannot be used, and a key service that is away or slow.

use std::{sync::atomic::Ordering, time::Duration};

use tonic::Code;

use crate::support::{Rig, SEED, eventually};

const ENCRYPTS_IN_FLIGHT: &str = r#"strongroom_kms_plugin_requests_in_flight{method="Encrypt"}"#;

#[tokio::test]
async fn a_disabled_key_is_an_error_of_the_call_that_names_the_cause() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    rig.fake.facts().failure = Some(tonic::Status::failed_precondition("key etcd is disabled"));
    let error = client
        .until_error("the etcd key cannot be used: key etcd is disabled")
        .await;
    assert_eq!(error.code(), Code::FailedPrecondition);
    let error = client.encrypt(SEED).await.err().unwrap();
    assert_eq!(error.code(), Code::FailedPrecondition);

    rig.fake.facts().failure = None;
    assert_eq!(client.until_ok().await, "key-1");
}

#[tokio::test]
async fn an_outage_is_an_error_after_the_age_and_ends_with_the_same_key_id() {
    let rig = Rig::new();
    let (service, plugin, client) = rig.ready().await;
    let sealed = client.encrypt(SEED).await.unwrap();
    service.stop();
    service.join().await.unwrap();
    let error = client.until_error("nobody answers on").await;
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("keys.sock"), "{}", error.message());
    plugin
        .until_metric("strongroom_kms_plugin_status_ok", "0")
        .await;
    let error = client.decrypt(&sealed).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);

    let _service = rig.serve();
    assert_eq!(client.until_ok().await, "key-1");
    assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
}

#[tokio::test]
async fn a_plugin_without_its_key_service_starts_and_says_what_is_missing() {
    let rig = Rig::new();
    let plugin = rig.start();
    let client = plugin.client();
    client.until_error("keys.sock").await;
    let readiness = &plugin.handle.readiness;
    eventually("readiness names the socket", async || {
        readiness
            .missing()
            .into_iter()
            .find(|(_, reason)| reason.contains("keys.sock"))
    })
    .await;

    let _service = rig.serve();
    client.until_ok().await;
    eventually("it is ready", async || readiness.is_ready().then_some(())).await;
}

#[tokio::test]
async fn status_answers_from_memory_while_the_key_service_is_stuck() {
    let mut rig = Rig::new();
    rig.config.status.max_age = Duration::from_secs(600);
    rig.config.deadline = Duration::from_secs(600);
    rig.config.concurrency = 4;
    let (_service, plugin, client) = rig.ready().await;
    rig.fake.facts().delay = Duration::from_secs(600);
    let mut stuck = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = plugin.client();
        stuck.spawn(async move { client.encrypt(SEED).await.is_ok() });
    }
    plugin.until_metric(ENCRYPTS_IN_FLIGHT, "4").await;
    for _ in 0..100 {
        client.status().await.unwrap();
    }
    plugin.until_metric(ENCRYPTS_IN_FLIGHT, "4").await;

    // Nothing piles up behind them.
    let error = client.encrypt(SEED).await.err().unwrap();
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert_eq!(rig.fake.encrypts.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_call_that_takes_too_long_ends_by_its_deadline() {
    let mut rig = Rig::new();
    rig.config.status.max_age = Duration::from_secs(600);
    rig.config.deadline = Duration::from_millis(500);
    let (_service, plugin, client) = rig.ready().await;
    let sealed = client.encrypt(SEED).await.unwrap();
    rig.fake.facts().delay = Duration::from_secs(600);
    let error = client.encrypt(SEED).await.err().unwrap();
    assert_eq!(error.message(), "the seed was not sealed within 500ms");
    let error = client.decrypt(&sealed).await.unwrap_err();
    assert_eq!(error.message(), "the seed was not opened within 500ms");
    plugin.until_metric(ENCRYPTS_IN_FLIGHT, "0").await;
}
