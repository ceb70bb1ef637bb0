//! The operator's token encrypts nothing, decrypts nothing, reads and reveals nothing, and nobody else's token does its work.

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{
    AccessRole, AcquireControlEpochRequest, ApplyKeyRingRequest, Binding, DecryptRequest,
    DescribeInstallationRequest, EncryptRequest, ReadForPodRequest, RevealSecretRequest, Want,
    WatchObjectsRequest, crypto_client::CryptoClient, keys_client::KeysClient,
    operator_client::OperatorClient, pods_client::PodsClient, secrets_client::SecretsClient,
};
use strongroom_e2e::issuer::Pod;
use tonic::{Code, Request, Status};

use super::support::{
    self, API, Clusters, DRIVER, OPERATOR, Process, object, reader, up, with_token, word,
};

/// A pod of the operator's own namespace, bound as the operator is.
const TOOLS: Pod = Pod {
    account: "tools",
    account_uid: "uid-of-tools",
    name: "tools-1",
    ..OPERATOR
};
/// A namespace whose objects its operator makes, and in which it gives itself every role.
const SYSTEM: &str = OPERATOR.namespace;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_token_opens_nothing() -> Result<()> {
    let world = up("objects-rights", 29_150)?;
    let operator = Process::of(&world, &world.east).await?;
    let of_system = |name: &str, uid: &str| object(SYSTEM, "uid-of-system", name, uid);
    let roles = [
        AccessRole::KeyEncrypter,
        AccessRole::KeyDecrypter,
        AccessRole::SecretReader,
    ];
    let bound = roles.iter().flat_map(|role| {
        [&OPERATOR, &TOOLS].map(|pod| Binding {
            role: (*role).into(),
            ..reader(pod)
        })
    });
    let ring = of_system("main", "ring-1");
    let made = operator.ring(&ring, bound.collect()).await??;
    let ring_id = made.ring.unwrap_or_default().id;
    operator
        .secret(&of_system("db", "db-1"), "main", Vec::new())
        .await??;
    operator
        .key(&of_system("orders", "key-1"), "main")
        .await??;

    uses_no_key(&world, &ring_id).await?;
    reads_nothing(&world, &ring_id).await?;
    is_described_and_nothing_more(&world, &operator).await?;
    nobody_else_does_its_work(&world).await?;
    world.down()
}

async fn uses_no_key(world: &Clusters, ring_id: &str) -> Result<()> {
    let mut crypto = CryptoClient::new(world.workloads().await?);
    let encrypt = EncryptRequest {
        ring_id: ring_id.to_owned(),
        key: "orders".to_owned(),
        plaintext: b"order 7".to_vec(),
        ..EncryptRequest::default()
    };
    let sealed = with_token(encrypt.clone(), &world.east.token(&TOOLS)?)?;
    let sealed = crypto.encrypt(sealed).await?.into_inner().ciphertext;
    let decrypt = DecryptRequest {
        ring_id: ring_id.to_owned(),
        ciphertext: sealed,
        ..DecryptRequest::default()
    };
    let opened = with_token(decrypt.clone(), &world.east.token(&TOOLS)?)?;
    let opened = crypto.decrypt(opened).await?.into_inner();
    ensure!(opened.plaintext == b"order 7", "the role counts");

    let token = world.east.token(&OPERATOR)?;
    let refused = crypto.encrypt(with_token(encrypt, &token)?).await;
    refused_as(refused, &[Code::NotFound])?;
    let refused = crypto.decrypt(with_token(decrypt, &token)?).await;
    refused_as(refused, &[Code::InvalidArgument])
}

async fn reads_nothing(world: &Clusters, ring_id: &str) -> Result<()> {
    let token = world.east.token(&OPERATOR)?;
    let channel = world.workloads().await?;
    let read = ReadForPodRequest {
        pod_token: world.east.token(&TOOLS)?,
        pod_uid: TOOLS.uid(),
        want: Some(Want {
            secrets: vec!["db".to_owned()],
            bundle: String::new(),
        }),
        have: String::new(),
    };
    // With a pod's token in hand it is no driver all the same.
    let refused = PodsClient::new(channel.clone())
        .read_for_pod(with_token(read, &token)?)
        .await;
    ensure!(word(refused)? == "NotADriver");
    // Nor does a volume of its own pod hold anything, whatever its account is bound to.
    ensure!(
        support::read(world, &world.east, &TOOLS, "db")
            .await??
            .len()
            == 1
    );
    let refused = support::read(world, &world.east, &OPERATOR, "db").await?;
    ensure!(word(refused)? == "NotAReader");

    let reveal = RevealSecretRequest {
        ring_id: ring_id.to_owned(),
        secret: "db".to_owned(),
        reason: "INC-42".to_owned(),
        ..RevealSecretRequest::default()
    };
    let refused = SecretsClient::new(channel.clone())
        .reveal_secret(with_token(reveal, &token)?)
        .await;
    refused_as(refused, &[Code::Unimplemented])?;
    let refused = KeysClient::new(channel)
        .list_key_rings(with_token(Default::default(), &token)?)
        .await;
    refused_as(refused, &[Code::Unimplemented])
}

async fn is_described_and_nothing_more(world: &Clusters, operator: &Process) -> Result<()> {
    let request = operator.request(DescribeInstallationRequest {})?;
    let described = operator.client().describe_installation(request).await?;
    let described = described.into_inner();
    ensure!(!described.hardware && described.store_epoch == 1 && described.seq > 0);
    let ready = described.conditions.iter().find(|it| it.r#type == "Ready");
    ensure!(ready.is_some_and(|ready| ready.ok), "not ready");

    // A change says which process makes it.
    let unfenced = ApplyKeyRingRequest {
        fence: None,
        object: Some(object("payments", "uid-of-payments", "main", "ring-1")),
        access: Vec::new(),
        keep_access: true,
    };
    let refused = operator
        .client()
        .apply_key_ring(operator.request(unfenced)?)
        .await;
    ensure!(word(refused)? == "Invalid");
    let nobody = OperatorClient::new(world.workloads().await?)
        .describe_installation(Request::new(DescribeInstallationRequest {}))
        .await;
    ensure!(word(nobody)? == "NoToken");
    Ok(())
}

async fn nobody_else_does_its_work(world: &Clusters) -> Result<()> {
    let mut client = OperatorClient::new(world.workloads().await?);
    for other in [&API, &DRIVER] {
        let token = world.east.token(other)?;
        let acquire = AcquireControlEpochRequest {
            process: "0a".repeat(16),
            cluster_uid: "uid-of-kube-system".to_owned(),
        };
        let refused = client
            .acquire_control_epoch(with_token(acquire, &token)?)
            .await;
        ensure!(word(refused)? == "NotTheOperator");
        let watch = with_token(WatchObjectsRequest {}, &token)?;
        ensure!(word(client.watch_objects(watch).await)? == "NotTheOperator");
        let process = Process::new(world.workloads().await?, token, 1).with_epoch(1);
        let ring = object("payments", "uid-of-payments", "main", "ring-1");
        ensure!(word(process.ring(&ring, Vec::new()).await?)? == "NotTheOperator");
    }
    Ok(())
}

fn refused_as<T>(outcome: Result<T, Status>, codes: &[Code]) -> Result<()> {
    let status = outcome.err().expect("is refused");
    ensure!(codes.contains(&status.code()), "{status}");
    Ok(())
}
