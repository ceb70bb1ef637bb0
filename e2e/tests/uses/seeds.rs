//! The plugin's socket as the API server uses it, and the sockets behind it as others would.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use anyhow::{Context, Result, ensure};
use strongroom_api::{
    kubernetes::kms::v2::{
        DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest,
        key_management_service_client::KeyManagementServiceClient,
    },
    strongroom::{
        hsm::v1::{DescribeRequest, hsm_agent_client::HsmAgentClient},
        kms::v1::{self as kms, etcd_keys_client::EtcdKeysClient},
        v1::{DescribeInstanceRequest, RotateKeyRequest},
    },
};
use strongroom_e2e::{native::Native, user::as_user, world::installation};
use strongroom_hack::installation::{
    AGENT_UID, Installation, KEY_SERVICE_UID, PLUGIN_UID, Program,
};
use strongroom_runtime::socket;
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

/// Nobody's user id.
const STRANGER_UID: u32 = 2099;
/// Callers at a time, and rotations that they see.
const CALLERS: usize = 64;
const ROTATIONS: usize = 100;

type Plugin = KeyManagementServiceClient<Channel>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_its_own_untouched_seeds_open_and_only_for_its_peers() -> Result<()> {
    let mut ours = installation("uses-seeds", 23060)?;
    ours.bring_up()?;
    ours.administrator("administrator")?;
    let mut theirs = installation("uses-foreign", 23080)?;
    theirs.bring_up()?;

    let mut plugin = plugin(&ours);
    let sealed = seal(&mut plugin, b"seed of 32 bytes, more or less..").await?;
    ensure!(
        open(&mut plugin, sealed.clone()).await?.plaintext == b"seed of 32 bytes, more or less..",
        "the control: its own seed opens"
    );
    unknown_key_id_asks_nobody(&ours, &mut plugin, &sealed).await?;
    changed_seeds_do_not_open(&mut plugin, &sealed).await?;
    seed_of_another_instance_does_not_open(&theirs, &mut plugin, &sealed).await?;
    oversized_seeds_are_refused(&mut plugin).await?;
    key_service_refuses_by_itself(&ours, &theirs, &sealed)?;
    strangers_get_no_answer(&ours)?;
    status_and_encrypt_agree_while_rotating(&ours, &plugin).await?;

    for mut installation in [ours, theirs] {
        installation.stop_all()?;
        std::fs::remove_dir_all(installation.path(""))?;
    }
    Ok(())
}

fn plugin(of: &Installation) -> Plugin {
    KeyManagementServiceClient::new(socket::channel(&of.plugin_socket(), PLUGIN_UID))
}

async fn seal(plugin: &mut Plugin, seed: &[u8]) -> Result<EncryptResponse, Status> {
    let request = EncryptRequest {
        plaintext: seed.to_vec(),
        uid: "story".to_owned(),
    };
    Ok(plugin.encrypt(request).await?.into_inner())
}

async fn open(plugin: &mut Plugin, sealed: EncryptResponse) -> Result<DecryptResponse, Status> {
    let EncryptResponse {
        ciphertext,
        key_id,
        annotations,
    } = sealed;
    let request = DecryptRequest {
        ciphertext,
        uid: "story".to_owned(),
        key_id,
        annotations,
    };
    Ok(plugin.decrypt(request).await?.into_inner())
}

async fn refused(plugin: &mut Plugin, sealed: EncryptResponse, code: Code) -> Result<()> {
    let outcome = open(plugin, sealed).await;
    let status = outcome.err().context("it opened")?;
    ensure!(status.code() == code, "expected {code:?}: {status:?}");
    Ok(())
}

async fn unknown_key_id_asks_nobody(
    ours: &Installation,
    plugin: &mut Plugin,
    sealed: &EncryptResponse,
) -> Result<()> {
    let before = agent_calls(ours)?;
    let mut unknown = sealed.clone();
    unknown.key_id.push('0');
    refused(plugin, unknown, Code::NotFound).await?;
    let after = agent_calls(ours)?;
    ensure!(
        before == after && !before.is_empty(),
        "{before:?} became {after:?}"
    );
    Ok(())
}

/// The agent's counters of calls that use a KEK.
fn agent_calls(of: &Installation) -> Result<Vec<String>> {
    let metrics = of.probe(Program::HsmAgent, "/metrics")?.body;
    let counted = metrics.lines().filter(|line| {
        line.contains("requests_total{") && line.contains("Kek") && !line.starts_with('#')
    });
    Ok(counted.map(str::to_owned).collect())
}

async fn changed_seeds_do_not_open(plugin: &mut Plugin, sealed: &EncryptResponse) -> Result<()> {
    let mut more = sealed.clone();
    more.annotations
        .insert("other.strongroom.dev".to_owned(), b"1".to_vec());
    refused(plugin, more, Code::InvalidArgument).await?;
    for name in sealed.annotations.keys() {
        let mut other = sealed.clone();
        let value = other.annotations.get_mut(name).context("is there")?;
        value.push(b'0');
        refused(plugin, other, Code::InvalidArgument).await?;
        let mut fewer = sealed.clone();
        fewer.annotations.remove(name);
        refused(plugin, fewer, Code::InvalidArgument).await?;
    }
    // Steps that meet every field of the format.
    for at in (0..sealed.ciphertext.len()).step_by(11) {
        let mut flipped = sealed.clone();
        flipped.ciphertext[at] ^= 1;
        refused(plugin, flipped, Code::InvalidArgument)
            .await
            .with_context(|| format!("byte {at}"))?;
    }
    Ok(())
}

async fn seed_of_another_instance_does_not_open(
    theirs: &Installation,
    plugin: &mut Plugin,
    own: &EncryptResponse,
) -> Result<()> {
    let foreign = seal(&mut self::plugin(theirs), b"of another instance").await?;
    refused(plugin, foreign.clone(), Code::NotFound).await?;
    let mut disguised = own.clone();
    disguised.ciphertext = foreign.ciphertext;
    refused(plugin, disguised, Code::InvalidArgument).await
}

async fn oversized_seeds_are_refused(plugin: &mut Plugin) -> Result<()> {
    seal(plugin, &[7; 512])
        .await
        .context("the control: the largest seed is taken")?;
    for (size, code) in [
        (0, Code::InvalidArgument),
        (513, Code::InvalidArgument),
        (128 * 1024, Code::OutOfRange),
    ] {
        let status = seal(plugin, &vec![7; size])
            .await
            .err()
            .context("was taken")?;
        ensure!(status.code() == code, "{size} bytes: {status:?}");
    }
    Ok(())
}

/// Behind the plugin's own checks the key service has them too.
fn key_service_refuses_by_itself(
    ours: &Installation,
    theirs: &Installation,
    sealed: &EncryptResponse,
) -> Result<()> {
    let path = ours.path("run/kms/key-service.sock");
    let other: serde_json::Value =
        serde_json::from_slice(&std::fs::read(theirs.path("service/pin.json"))?)?;
    let request = kms::DecryptRequest {
        instance_id: String::new(),
        key_id: sealed.key_id.clone(),
        ciphertext: sealed.ciphertext.clone(),
        request_id: "story".to_owned(),
        annotations: sealed.annotations.clone(),
    };
    let changed = |change: &dyn Fn(&mut kms::DecryptRequest)| {
        let mut request = request.clone();
        change(&mut request);
        request
    };
    let foreign = other["instanceId"].as_str().unwrap_or_default();
    let cases = [
        (changed(&|it| it.key_id.push('0')), Some(Code::NotFound)),
        (
            changed(&|it| it.annotations.clear()),
            Some(Code::InvalidArgument),
        ),
        (
            changed(&|it| it.ciphertext[100] ^= 1),
            Some(Code::InvalidArgument),
        ),
        (
            changed(&|it| foreign.clone_into(&mut it.instance_id)),
            Some(Code::InvalidArgument),
        ),
        (request.clone(), None),
    ];
    let codes = cases.clone().map(|(_, code)| code);
    let answered = as_user(PLUGIN_UID, PLUGIN_UID, async move || {
        let mut client = EtcdKeysClient::new(socket::channel(&path, KEY_SERVICE_UID));
        let mut answered = Vec::new();
        for (request, _) in cases {
            answered.push(
                client
                    .decrypt(request)
                    .await
                    .err()
                    .map(|status| status.code()),
            );
        }
        answered
    })?;
    ensure!(answered == codes, "{answered:?}");
    Ok(())
}

/// With the group that opens the folder, so that the user id alone decides.
fn strangers_get_no_answer(ours: &Installation) -> Result<()> {
    for uid in [STRANGER_UID, PLUGIN_UID] {
        let path = ours.path("run/kms/key-service.sock");
        let answered = as_user(uid, PLUGIN_UID, async move || probe(path).await)?;
        ensure!(
            answered.is_ok() == (uid == PLUGIN_UID),
            "{uid}: {answered:?}"
        );
    }
    for uid in [STRANGER_UID, PLUGIN_UID, KEY_SERVICE_UID] {
        let path = ours.path("run/hsm/agent.sock");
        let answered = as_user(uid, KEY_SERVICE_UID, async move || describe(path).await)?;
        ensure!(
            answered.is_ok() == (uid == KEY_SERVICE_UID),
            "{uid}: {answered:?}"
        );
    }
    Ok(())
}

async fn probe(path: PathBuf) -> Result<(), Status> {
    let mut client = EtcdKeysClient::new(socket::channel(&path, KEY_SERVICE_UID));
    let request = kms::ProbeRequest {
        instance_id: String::new(),
    };
    client.probe(request).await.map(drop)
}

async fn describe(path: PathBuf) -> Result<(), Status> {
    let mut client = HsmAgentClient::new(socket::channel(&path, AGENT_UID));
    client.describe(DescribeRequest {}).await.map(drop)
}

/// A key id that Encrypt returns was Status's before or after the call: kube-apiserver takes nothing else.
async fn status_and_encrypt_agree_while_rotating(
    ours: &Installation,
    plugin: &Plugin,
) -> Result<()> {
    let (done, agreed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut plugin, done, agreed) = (plugin.clone(), done.clone(), agreed.clone());
        callers.spawn(async move {
            let mut seen = Vec::new();
            while !done.load(Ordering::Relaxed) {
                let sealed = seal(&mut plugin, b"seed").await?;
                let status = plugin.status(StatusRequest {}).await?.into_inner();
                seen.push((sealed.key_id, status.key_id));
                agreed.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, Status>(seen)
        });
    }
    let order = rotate(ours, plugin, &agreed).await?;
    done.store(true, Ordering::Relaxed);
    let place = |key_id: &str| order.iter().position(|known| known == key_id);
    while let Some(seen) = callers.join_next().await {
        let mut last = 0;
        for (sealed, status) in seen?? {
            // Status after Encrypt is that of Encrypt or a newer one, and neither ever goes back.
            let (sealed, status) = (place(&sealed), place(&status));
            let in_order = sealed.is_some() && last <= sealed.unwrap_or(0) && sealed <= status;
            ensure!(in_order, "{last} then {sealed:?} then {status:?}");
            last = status.unwrap_or(0);
        }
    }
    Ok(())
}

/// Rotates and returns all key ids in their order.
async fn rotate(ours: &Installation, plugin: &Plugin, calls: &AtomicUsize) -> Result<Vec<String>> {
    let native = Native::connect(ours, "administrator").await?;
    let described = native
        .instance()
        .describe(DescribeInstanceRequest {})
        .await?;
    let described = described.into_inner();
    let mut plugin = plugin.clone();
    let mut order = vec![plugin.status(StatusRequest {}).await?.into_inner().key_id];
    for _ in 0..ROTATIONS {
        let before = calls.load(Ordering::Relaxed);
        let request = RotateKeyRequest {
            ring_id: described.system_ring_id.clone(),
            key: described.etcd_key_id.clone(),
            etag: String::new(),
        };
        native.keys().rotate_key(request).await?;
        // The first Encrypt after it moves the plugin on, whoever makes it.
        let newest = seal(&mut plugin, b"seed").await?.key_id;
        ensure!(!order.contains(&newest), "{newest} was in force before");
        order.push(newest);
        while calls.load(Ordering::Relaxed) == before {
            tokio::task::yield_now().await;
        }
    }
    Ok(order)
}
