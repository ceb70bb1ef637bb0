//! Names say nothing of whose a thing is: two namespaces, and two clusters, have everything by the same names.

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::{ApplyOutcome, KeyRingState};
use strongroom_e2e::issuer::Pod;
use tonic::Code;

use super::support::{API, Clusters, OPERATOR, Process, object, read, reader, up, word};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_others_open_nothing() -> Result<()> {
    let world = up("objects-owners", 29_100)?;
    let east = Process::of(&world, &world.east).await?;
    let made = two_namespaces(&world, &east).await?;
    foreign_rings(&east).await?;
    two_clusters(&world, &made).await?;
    world.down()
}

/// Ring `main` and secret `db` in `payments` and in `ledger`, each with the same reader by name and uid.
async fn two_namespaces(world: &Clusters, east: &Process) -> Result<Vec<KeyRingState>> {
    let mut rings = Vec::new();
    for namespace in ["payments", "ledger"] {
        let uid = format!("uid-of-{namespace}");
        let ring = object(namespace, &uid, "main", "ring-1");
        let made = east.ring(&ring, Vec::new()).await??;
        ensure!(made.outcome() == ApplyOutcome::Created);
        let secret = object(namespace, &uid, "db", "secret-1");
        let access = if namespace == "payments" {
            vec![reader(&API)]
        } else {
            Vec::new()
        };
        let made_secret = east.secret(&secret, "main", access).await??;
        ensure!(made_secret.outcome() == ApplyOutcome::Created);
        rings.push(made);
    }
    let ids: Vec<_> = rings
        .iter()
        .map(|it| it.ring.as_ref().map(|it| &it.id))
        .collect();
    ensure!(ids[0] != ids[1], "one ring for two namespaces");

    let own = read(world, &world.east, &API, "db").await??;
    ensure!(own[0].0 == "db/password" && own[0].1.len() == 32);
    // Its own namespace's secret of that name, which says nothing of it.
    let elsewhere = Pod {
        namespace: "ledger",
        ..API
    };
    let refused = read(world, &world.east, &elsewhere, "db").await?;
    ensure!(word(refused)? == "RoleMissing");
    Ok(rings)
}

/// Whoever names a ring of another namespace is told that there is none.
async fn foreign_rings(east: &Process) -> Result<()> {
    let only = object("payments", "uid-of-payments", "only-payments", "ring-2");
    east.ring(&only, Vec::new()).await??;
    let secret = object("ledger", "uid-of-ledger", "web", "secret-2");
    let refused = east.secret(&secret, "only-payments", Vec::new()).await?;
    ensure!(word(refused)? == "RingNotFound");
    let key = object("ledger", "uid-of-ledger", "orders", "key-1");
    let refused = east.key(&key, "only-payments").await?;
    ensure!(word(refused)? == "RingNotFound");
    Ok(())
}

/// The operator of the other cluster has the same names and uids, and gets rings of its own.
async fn two_clusters(world: &Clusters, made: &[KeyRingState]) -> Result<()> {
    let west = Process::of(world, &world.west).await?;
    let secret = object("payments", "uid-of-payments", "db", "secret-1");
    let refused = west.secret(&secret, "main", vec![reader(&API)]).await?;
    ensure!(
        word(refused)? == "RingNotFound",
        "the ring of the other cluster"
    );
    let refused = read(world, &world.west, &API, "db").await?;
    ensure!(word(refused)? == "NotFound", "a pod of the other cluster");

    let ring = object("payments", "uid-of-payments", "main", "ring-1");
    let own = west.ring(&ring, Vec::new()).await??;
    ensure!(own.outcome() == ApplyOutcome::Created);
    let id = |state: &KeyRingState| state.ring.clone().unwrap_or_default().id;
    ensure!(id(&own) != id(&made[0]));
    west.secret(&secret, "main", vec![reader(&API)]).await??;
    let (theirs, ours) = (
        read(world, &world.west, &API, "db").await??,
        read(world, &world.east, &API, "db").await??,
    );
    ensure!(theirs != ours, "one value in two clusters");

    // A cluster that was made anew, or a second one under the name of the first.
    let channel = world.workloads().await?;
    let mut anew = Process::new(channel, world.east.token(&OPERATOR)?, 2);
    let refused = anew.acquire("uid-of-another-kube-system").await;
    let refused = refused.expect_err("is another cluster");
    let status = refused.downcast::<tonic::Status>()?;
    ensure!(status.code() == Code::PermissionDenied, "{status}");
    ensure!(word::<()>(Err(status))? == "OtherCluster");
    Ok(())
}
