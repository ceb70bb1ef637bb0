//! A request of a process that has lost its epoch arrives late: on a connection that lived all the while, and later on a new one.

use std::time::Duration;

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{DescribeSecretRequest, Tenant};
use strongroom_e2e::gate::Gate;
use tokio::task::JoinSet;

use super::support::{OPERATOR, Process, connected, object, secret_request, up, word};

/// Longer than any request is worked on, and than the server bears a silent connection.
const HELD: Duration = Duration::from_secs(31);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_held_back_over_a_takeover_has_no_effect() -> Result<()> {
    let world = up("objects-held", 29_140)?;
    let root = world.installation.path("etc/administrator-root.crt");
    let gate = Gate::open(world.installation.workloads_address(), &root)?;
    let slow = connected(gate.root().as_bytes(), &gate.address().to_string()).await?;
    let mut first = Process::new(slow, world.east.token(&OPERATOR)?, 1);
    first.acquire("uid-of-kube-system").await?;
    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    first.ring(&ring, Vec::new()).await??;

    gate.shut();
    let db = object("payments", "uid-of-payments", "db", "db-of-the-first");
    let message = secret_request(first.fence(), &db, "main", Vec::new());
    let request = first.request(message)?;
    let mut client = first.client();
    let mut late = JoinSet::new();
    late.spawn(async move { client.apply_secret(request).await });

    // The operator is started anew while its request is on the way.
    let mut second = Process::new(world.workloads().await?, world.east.token(&OPERATOR)?, 2);
    second.acquire("uid-of-kube-system").await?;
    let own = object("payments", "uid-of-payments", "db", "db-of-the-second");
    let made = second.secret(&own, "main", Vec::new()).await??;
    tokio::time::sleep(HELD).await;
    ensure!(gate.held() == 1, "{} were held back", gate.held());
    ensure!(late.try_join_next().is_none(), "was not held back");

    gate.release();
    let answered = late.join_next().await.expect("one was sent")?;
    ensure!(word(answered)? == "StaleControlEpoch");
    // A client that gave its connection up asks again on another one.
    let again =
        Process::new(world.workloads().await?, world.east.token(&OPERATOR)?, 1).with_epoch(1);
    let refused = again.secret(&db, "main", Vec::new()).await?;
    ensure!(word(refused)? == "StaleControlEpoch");
    let native = world.administrator().await?;
    let request = DescribeSecretRequest {
        ring_id: String::new(),
        secret: "db".to_owned(),
        tenant: Some(Tenant {
            cluster: "east".to_owned(),
            namespace: "payments".to_owned(),
        }),
    };
    let now = native
        .secrets()
        .describe_secret(request)
        .await?
        .into_inner();
    ensure!(Some(now) == made.secret, "there was a second effect");
    world.down()
}
