//! What kube-apiserver relies on when all is well, and what a stranger gets.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use crate::support::{Client, INSTANCE, Rig, SEED};
use strongroom_api::kubernetes::kms::v2::EncryptResponse;
use tonic::Code;

#[tokio::test]
async fn status_encrypt_and_decrypt_agree() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    let status = client.status().await.unwrap();
    assert_eq!(
        (status.version.as_str(), status.healthz.as_str()),
        ("v2", "ok")
    );
    assert_eq!(status.key_id, "key-1");

    let sealed = client.encrypt(SEED).await.unwrap();
    assert_eq!(sealed.key_id, status.key_id);
    assert!(sealed.ciphertext.len() <= 1024);
    let annotation = |name| String::from_utf8(sealed.annotations[name].clone()).unwrap();
    assert_eq!(annotation("instance.strongroom.dev"), INSTANCE);
    assert_eq!(annotation("activation.strongroom.dev"), "v1 1 1.1");
    assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
}

#[tokio::test]
async fn an_unknown_key_id_is_refused_without_a_decrypt() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    let mut sealed = client.encrypt(SEED).await.unwrap();
    sealed.key_id = "key-of-somebody-else".to_owned();
    for _ in 0..20 {
        assert_eq!(
            client.decrypt(&sealed).await.unwrap_err().code(),
            Code::NotFound
        );
    }
    assert_eq!(rig.fake.decrypts.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn unknown_key_ids_do_not_become_probes() {
    let mut rig = Rig::new();
    rig.config.status.interval = Duration::from_secs(60);
    rig.config.status.max_age = Duration::from_secs(120);
    let (_service, _plugin, client) = rig.ready().await;
    let mut sealed = client.encrypt(SEED).await.unwrap();
    sealed.key_id = "key-of-somebody-else".to_owned();
    let before = rig.fake.probes.load(Ordering::SeqCst);
    let began = std::time::Instant::now();
    for _ in 0..500 {
        client.decrypt(&sealed).await.unwrap_err();
    }
    let seconds = began.elapsed().as_secs();
    let probes = rig.fake.probes.load(Ordering::SeqCst) - before;
    assert!(
        (1..=seconds + 1).contains(&probes),
        "{probes} probes in {seconds} s"
    );
}

#[tokio::test]
async fn a_key_id_that_this_node_has_not_heard_of_is_looked_up_once() {
    let mut rig = Rig::new();
    rig.config.status.interval = Duration::from_secs(60);
    rig.config.status.max_age = Duration::from_secs(120);
    let (_service, _plugin, client) = rig.ready().await;
    // Another node rotated and sealed with the new key id.
    rig.fake.rotate();
    let other = Rig {
        fake: rig.fake.clone(),
        ..Rig::new()
    };
    let (_other_service, _other_plugin, other_client) = other.ready().await;
    let sealed = other_client.encrypt(SEED).await.unwrap();
    assert_eq!(sealed.key_id, "key-2");
    assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
}

#[tokio::test]
async fn a_changed_part_does_not_open() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    rig.fake.rotate();
    client.until_key_id("key-2").await;
    let sealed = client.encrypt(SEED).await.unwrap();

    let mut changed = Vec::new();
    for name in ["instance.strongroom.dev", "activation.strongroom.dev"] {
        let mut other = sealed.clone();
        other.annotations.get_mut(name).unwrap()[0] ^= 1;
        changed.push(other);
        let mut other = sealed.clone();
        other.annotations.remove(name);
        changed.push(other);
    }
    let mut other = sealed.clone();
    other
        .annotations
        .insert("more.strongroom.dev".to_owned(), Vec::new());
    changed.push(other);
    changed.push(EncryptResponse {
        ciphertext: vec![0; 1025],
        ..sealed.clone()
    });
    let calls = rig.fake.decrypts.load(Ordering::SeqCst);
    for other in &changed {
        check_cannot_open(&client, other).await;
    }
    assert_eq!(
        rig.fake.decrypts.load(Ordering::SeqCst),
        calls,
        "refused before any call"
    );

    let mut other = sealed.clone();
    other.ciphertext[0] ^= 1;
    check_cannot_open(&client, &other).await;
    let mut other = sealed.clone();
    other.key_id = "key-1".to_owned();
    check_cannot_open(&client, &other).await;
    assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
}

async fn check_cannot_open(client: &Client, sealed: &EncryptResponse) {
    let error = client.decrypt(sealed).await.unwrap_err();
    assert_eq!(
        (error.code(), error.message()),
        (Code::InvalidArgument, "the ciphertext cannot be opened")
    );
}

fn number(key_id: &str) -> u32 {
    key_id.strip_prefix("key-").unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn status_and_encrypt_agree_under_64_callers_and_100_rotations() {
    let mut rig = Rig::new();
    // The callers keep every core busy; that is no outage.
    rig.config.deadline = Duration::from_secs(60);
    rig.config.status.max_age = Duration::from_secs(60);
    let (_service, plugin, client) = rig.ready().await;
    let done = Arc::new(AtomicBool::new(false));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (client, done) = (plugin.client(), done.clone());
        callers.spawn(async move {
            let mut compared = 0;
            while !done.load(Ordering::Relaxed) {
                let before = number(&client.status().await.unwrap().key_id);
                let sealed = number(&client.encrypt(SEED).await.unwrap().key_id);
                let after = number(&client.status().await.unwrap().key_id);
                assert!(
                    before <= sealed && sealed <= after,
                    "{before} {sealed} {after}"
                );
                compared += 1;
            }
            compared
        });
    }
    for _ in 0..100 {
        let key_id = rig.fake.rotate();
        client.until_key_id(&key_id).await;
    }
    done.store(true, Ordering::Relaxed);
    let compared = callers.join_all().await;
    assert!(
        compared.iter().all(|compared| *compared > 0),
        "{compared:?}"
    );
    assert_eq!(client.status().await.unwrap().key_id, "key-101");
}

#[tokio::test]
async fn old_key_ids_still_open_after_rotations() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    let mut sealed = vec![client.encrypt(SEED).await.unwrap()];
    for _ in 0..5 {
        let key_id = rig.fake.rotate();
        client.until_key_id(&key_id).await;
        sealed.push(client.encrypt(SEED).await.unwrap());
    }
    for sealed in &sealed {
        assert_eq!(client.decrypt(sealed).await.unwrap(), SEED);
    }
}

#[tokio::test]
async fn metrics_name_the_key_id_by_its_hash_only() {
    let rig = Rig::new();
    let (_service, plugin, client) = rig.ready().await;
    client.encrypt(SEED).await.unwrap();
    let hash = strongroom_kms_plugin::health::key_id_hash("key-1");
    let info = format!(r#"strongroom_kms_plugin_key_id_info{{key_id_hash="{hash}"}}"#);
    assert_eq!(plugin.metric(&info).unwrap(), "1");
    assert_eq!(
        plugin.metric("strongroom_kms_plugin_activation").unwrap(),
        "1"
    );
    assert_eq!(
        plugin
            .metric("strongroom_kms_plugin_known_key_ids")
            .unwrap(),
        "1"
    );
    let encrypted = r#"strongroom_kms_plugin_requests_total{method="Encrypt",outcome="OK"}"#;
    assert_eq!(plugin.metric(encrypted).unwrap(), "1");
    let age: f64 = plugin
        .metric("strongroom_kms_plugin_probe_age_seconds")
        .unwrap()
        .parse()
        .unwrap();
    assert!(age >= 0.0);
    let text = String::from_utf8(plugin.handle.metrics.encode()).unwrap();
    assert!(!text.contains("key-1"));

    rig.fake.rotate();
    client.until_key_id("key-2").await;
    assert_eq!(plugin.metric(&info), None);
}

#[tokio::test]
async fn a_seed_of_no_size_or_too_much_is_refused_before_any_call() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    for seed in [vec![], vec![0; 513], vec![0; 100_000]] {
        let error = client.encrypt(&seed).await.err().unwrap();
        assert!(
            matches!(error.code(), Code::InvalidArgument | Code::OutOfRange),
            "{} bytes: {error}",
            seed.len()
        );
    }
    assert_eq!(rig.fake.encrypts.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_on_the_socket_disturb_nobody() {
    let rig = Rig::new();
    let (_service, _plugin, client) = rig.ready().await;
    let path = rig.config.listen.path.clone();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let noise = tokio::task::spawn_blocking(move || {
        let mut word: u64 = 0x9e37_79b9_7f4a_7c15;
        for round in 0..300 {
            let mut stream = UnixStream::connect(&path).unwrap();
            let mut bytes = if round % 2 == 0 {
                preface.clone()
            } else {
                Vec::new()
            };
            for _ in 0..64 {
                // xorshift: the same bytes in each run.
                word ^= word << 13;
                word ^= word >> 7;
                word ^= word << 17;
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            // The plugin may hang up in the middle.
            let _ = stream.write_all(&bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    while !noise.is_finished() {
        client.status().await.unwrap();
        let sealed = client.encrypt(SEED).await.unwrap();
        assert_eq!(client.decrypt(&sealed).await.unwrap(), SEED);
    }
    noise.await.unwrap();
    client.status().await.unwrap();
}
