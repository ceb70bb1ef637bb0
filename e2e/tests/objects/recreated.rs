//! A namespace that is deleted and made again gets nothing of the former one, until an administrator says so; a custom
//! resource that is made again takes up what the former one held.

use anyhow::{Context, Result, ensure};
use strongroom_api::strongroom::v1::{
    AdoptKeyRingRequest, ApplyOutcome, KeyRing, ObjectKind, ObjectRef, Owner, SecretState,
};
use strongroom_e2e::{issuer::Pod, native::Native};
use tonic::{Code, Status};

use super::support::{API, Clusters, Process, object, read, reader, up, word};

/// The account of the same name in the namespace that was made again.
const API_AGAIN: Pod = Pod {
    account_uid: "uid-of-the-next-api",
    name: "api-2",
    ..API
};

fn ring_of(namespace_uid: &str) -> ObjectRef {
    object(
        "payments",
        namespace_uid,
        "main",
        &format!("ring-of-{namespace_uid}"),
    )
}

fn secret_of(namespace_uid: &str) -> ObjectRef {
    object(
        "payments",
        namespace_uid,
        "db",
        &format!("db-of-{namespace_uid}"),
    )
}

fn key_of(namespace_uid: &str) -> ObjectRef {
    object(
        "payments",
        namespace_uid,
        "orders",
        &format!("key-of-{namespace_uid}"),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_made_again_gets_nothing_before_an_administrator_says_so() -> Result<()> {
    let mut world = up("objects-recreated", 29_110)?;
    let operator = Process::of(&world, &world.east).await?;
    operator.ring(&ring_of("first"), Vec::new()).await??;
    operator.key(&key_of("first"), "main").await??;
    let made = operator
        .secret(&secret_of("first"), "main", vec![reader(&API)])
        .await??;
    let value = read(&world, &world.east, &API, "db").await??;

    nothing_is_there(&world, &operator).await?;
    // Neither does a restart forget whose it is.
    world.restart()?;
    let operator = Process::of(&world, &world.east).await?;
    nothing_is_there(&world, &operator).await?;
    strangers_adopt_nothing(&world).await?;
    adopt(&world.administrator().await?, "second").await??;

    let ring = operator.ring(&ring_of("second"), Vec::new()).await??;
    ensure!(ring.outcome() == ApplyOutcome::Adopted && (ring.keys, ring.secrets) == (1, 1));
    let key = operator.key(&key_of("second"), "main").await??;
    ensure!(key.outcome() == ApplyOutcome::Adopted);
    // Before it is bound again, the new account reads nothing.
    ensure!(word(read(&world, &world.east, &API_AGAIN, "db").await?)? == "RoleMissing");
    let again = operator
        .secret(&secret_of("second"), "main", vec![reader(&API_AGAIN)])
        .await??;
    ensure!(
        again.outcome() == ApplyOutcome::Adopted && again.rebound == ["api"],
        "{:?}",
        again.rebound
    );
    ensure!(versions(&again) == versions(&made), "the value is another");
    ensure!(read(&world, &world.east, &API_AGAIN, "db").await?? == value);
    ensure!(word(read(&world, &world.east, &API, "db").await?)? == "RoleMissing");

    // The former one is the foreigner now.
    let refused = operator.ring(&ring_of("first"), Vec::new()).await?;
    ensure!(word(refused)? == "OwnedByFormerNamespace");
    let audit = world.audit()?;
    let made = |line: &&str| line.contains("\"AdoptKeyRing\"") && line.contains("\"Succeeded\"");
    let adopted = audit.lines().find(made);
    let adopted = adopted.context("no record of the adoption")?;
    for part in ["INC-42", "east/payments#first", "east/payments#second"] {
        ensure!(adopted.contains(part), "{part}: {adopted}");
    }
    world.down()
}

async fn nothing_is_there(world: &Clusters, operator: &Process) -> Result<()> {
    let refused = operator.ring(&ring_of("second"), Vec::new()).await?;
    let sentence = refused
        .as_ref()
        .err()
        .map(|status| status.message().to_owned());
    ensure!(sentence.is_some_and(|it| it.contains("ring adopt main -n payments")));
    ensure!(word(refused)? == "OwnedByFormerNamespace");
    let refused = operator
        .secret(&secret_of("second"), "main", vec![reader(&API_AGAIN)])
        .await?;
    ensure!(word(refused)? == "OwnedByFormerNamespace");
    let refused = operator.key(&key_of("second"), "main").await?;
    ensure!(word(refused)? == "OwnedByFormerNamespace");
    for (kind, object) in [
        (ObjectKind::KeyRing, ring_of("second")),
        (ObjectKind::CryptoKey, key_of("second")),
        (ObjectKind::ManagedSecret, secret_of("second")),
    ] {
        ensure!(
            operator.release(kind, &object).await??.is_empty(),
            "{}",
            kind.as_str_name()
        );
    }
    ensure!(word(read(world, &world.east, &API_AGAIN, "db").await?)? == "RoleMissing");
    Ok(())
}

async fn adopt(native: &Native, namespace_uid: &str) -> Result<Result<KeyRing, Status>> {
    let request = AdoptKeyRingRequest {
        name: "main".to_owned(),
        owner: Some(Owner {
            cluster: String::new(),
            namespace: "payments".to_owned(),
            namespace_uid: namespace_uid.to_owned(),
        }),
        reason: "INC-42".to_owned(),
    };
    let adopted = native.keys().adopt_key_ring(request).await;
    Ok(adopted.map(tonic::Response::into_inner))
}

async fn strangers_adopt_nothing(world: &Clusters) -> Result<()> {
    world.installation.administrator("somebody")?;
    let somebody = Native::connect(&world.installation, "somebody").await?;
    let refused = adopt(&somebody, "second")
        .await?
        .err()
        .context("is nobody")?;
    ensure!(refused.code() == Code::NotFound, "{refused}");
    let refused = adopt(&world.administrator().await?, "first").await?;
    let refused = refused.err().context("is the owner")?;
    ensure!(refused.code() == Code::FailedPrecondition, "{refused}");
    Ok(())
}

fn versions(state: &SecretState) -> Vec<String> {
    let secret = state.secret.clone().unwrap_or_default();
    secret.versions.into_iter().map(|it| it.version).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_let_go_of_is_kept_and_taken_up_again() -> Result<()> {
    let world = up("objects-released", 29_120)?;
    let operator = Process::of(&world, &world.east).await?;
    let named = |name: &str, uid: &str| object("payments", "uid-of-payments", name, uid);
    operator
        .ring(&named("main", "ring-1"), vec![reader(&API)])
        .await??;
    operator.key(&named("orders", "key-1"), "main").await??;
    let made = operator
        .secret(&named("db", "db-1"), "main", Vec::new())
        .await??;
    // A role on the ring is one on each of its secrets.
    let value = read(&world, &world.east, &API, "db").await??;

    for (kind, name, uid, sentence) in [
        (
            ObjectKind::ManagedSecret,
            "db",
            "db-1",
            "ManagedSecret payments/db is kept with its values",
        ),
        (
            ObjectKind::CryptoKey,
            "orders",
            "key-1",
            "CryptoKey payments/orders is kept with 1 versions",
        ),
        (
            ObjectKind::KeyRing,
            "main",
            "ring-1",
            "KeyRing payments/main is kept with 1 keys and 1 secrets",
        ),
    ] {
        // Whoever does not hold it lets go of nothing.
        ensure!(
            operator
                .release(kind, &named(name, "other"))
                .await??
                .is_empty()
        );
        let kept = operator.release(kind, &named(name, uid)).await??;
        ensure!(kept.starts_with(sentence), "{kept}");
        ensure!(operator.release(kind, &named(name, uid)).await??.is_empty());
    }
    ensure!(
        read(&world, &world.east, &API, "db").await?? == value,
        "was destroyed"
    );

    let ring = operator
        .ring(&named("main", "ring-2"), vec![reader(&API)])
        .await??;
    ensure!(ring.outcome() == ApplyOutcome::Adopted);
    let key = operator.key(&named("orders", "key-2"), "main").await??;
    ensure!(key.outcome() == ApplyOutcome::Adopted);
    let again = operator
        .secret(&named("db", "db-2"), "main", Vec::new())
        .await??;
    ensure!(again.outcome() == ApplyOutcome::Adopted && versions(&again) == versions(&made));
    // One whose predecessor is gone without a word is taken up as well; then there is nothing more to do.
    let third = operator
        .secret(&named("db", "db-3"), "main", Vec::new())
        .await??;
    ensure!(third.outcome() == ApplyOutcome::Adopted);
    let same = operator
        .secret(&named("db", "db-3"), "main", Vec::new())
        .await??;
    let etag = |state: &SecretState| state.secret.clone().unwrap_or_default().etag;
    ensure!(same.outcome() == ApplyOutcome::Unchanged && etag(&same) == etag(&third));
    ensure!(read(&world, &world.east, &API, "db").await?? == value);

    // Without the role on the ring there is none on the secret.
    let ring = operator
        .ring(&named("main", "ring-2"), Vec::new())
        .await??;
    ensure!(ring.outcome() == ApplyOutcome::Updated);
    ensure!(word(read(&world, &world.east, &API, "db").await?)? == "RoleMissing");
    world.down()
}
