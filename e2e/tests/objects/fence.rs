//! Exactly one process changes anything: the one that acquired the control epoch last, whatever the others believe.

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{ApplyOutcome, ListKeyRingsRequest, ObjectKind};
use strongroom_e2e::issuer::Pod;

use super::support::{Clusters, OPERATOR, Process, object, up, word};

/// The pod that takes over.
const SECOND: Pod = Pod {
    name: "operator-2",
    ..OPERATOR
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_process_with_the_newest_epoch_changes_anything() -> Result<()> {
    let mut world = up("objects-fence", 29_130)?;
    let channel = world.workloads().await?;
    let mut first = Process::new(channel.clone(), world.east.token(&OPERATOR)?, 1);
    let mut second = Process::new(channel.clone(), world.east.token(&SECOND)?, 2);
    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    // Whoever never acquired one has none.
    ensure!(word(first.ring(&ring, Vec::new()).await?)? == "StaleControlEpoch");

    ensure!(first.acquire("uid-of-kube-system").await? == 1);
    first.ring(&ring, Vec::new()).await??;
    ensure!(second.acquire("uid-of-kube-system").await? == 2);
    refused_everything(&first).await?;
    let found = second.ring(&ring, Vec::new()).await??;
    ensure!(found.outcome() == ApplyOutcome::Unchanged);

    // The epoch of another process, or of another pod, is nobody's.
    let thief = Process::new(channel.clone(), world.east.token(&SECOND)?, 3).with_epoch(2);
    refused_everything(&thief).await?;
    let thief = Process::new(channel.clone(), world.east.token(&OPERATOR)?, 2).with_epoch(2);
    refused_everything(&thief).await?;
    // So is one that was not given yet, however large.
    refused_everything(&first.clone().with_epoch(u64::MAX)).await?;
    // That of another cluster's operator is of its own cluster.
    let mut west = Process::new(channel, world.west.token(&OPERATOR)?, 1);
    ensure!(west.acquire("uid-of-kube-system").await? == 1);
    let still = second.ring(&ring, Vec::new()).await??;
    ensure!(still.outcome() == ApplyOutcome::Unchanged);

    // A container that was started anew in the same pod is another process.
    world.restart()?;
    let channel = world.workloads().await?;
    let mut third = Process::new(channel.clone(), world.east.token(&SECOND)?, 4);
    ensure!(third.acquire("uid-of-kube-system").await? == 3);
    let late = Process::new(channel, world.east.token(&SECOND)?, 2).with_epoch(2);
    refused_everything(&late).await?;
    third.ring(&ring, Vec::new()).await??;
    ensure!(
        rings(&world).await? == ["main", "system"],
        "somebody else made one"
    );
    world.down()
}

/// Each kind of change, also those that would change nothing.
async fn refused_everything(process: &Process) -> Result<()> {
    let named = |name: &str| object("payments", "uid-of-payments", name, "uid-1");
    ensure!(word(process.ring(&named("main"), Vec::new()).await?)? == "StaleControlEpoch");
    ensure!(word(process.ring(&named("other"), Vec::new()).await?)? == "StaleControlEpoch");
    ensure!(word(process.key(&named("orders"), "main").await?)? == "StaleControlEpoch");
    let secret = process.secret(&named("db"), "main", Vec::new()).await?;
    ensure!(word(secret)? == "StaleControlEpoch");
    for kind in [
        ObjectKind::KeyRing,
        ObjectKind::CryptoKey,
        ObjectKind::ManagedSecret,
        ObjectKind::SecretBundle,
    ] {
        let released = process.release(kind, &named("main")).await?;
        ensure!(
            word(released)? == "StaleControlEpoch",
            "{}",
            kind.as_str_name()
        );
    }
    Ok(())
}

/// The names of all rings.
async fn rings(world: &Clusters) -> Result<Vec<String>> {
    let native = world.administrator().await?;
    let request = ListKeyRingsRequest::default();
    let listed = native.keys().list_key_rings(request).await?.into_inner();
    let mut names: Vec<_> = listed.rings.into_iter().map(|ring| ring.name).collect();
    names.sort_unstable();
    Ok(names)
}
