//! What the driver of a node reads for the pods of that node, and everything that is refused.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strongroom_api::strongroom::v1::{
    KeyRing, ReadForPodRequest, ReadForPodResponse, RotateSecretRequest, Want,
    pods_client::PodsClient,
};
use strongroom_e2e::{issuer::Pod, native::Native};
use tonic::{Code, Status, transport::Channel};

use super::support::{
    API, Clusters, DRIVER, generated, make_ring, make_secret, manual, owner, reader, up, with_token,
};

/// A driver's connection.
pub(crate) async fn connect(world: &Clusters) -> Result<PodsClient<Channel>> {
    Ok(PodsClient::new(world.workloads().await?))
}

pub(crate) fn want(secrets: &[&str]) -> Option<Want> {
    Some(Want {
        secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
        bundle: String::new(),
    })
}

/// One call, of which each part can be changed.
struct Read {
    driver: String,
    pod: String,
    pod_uid: String,
    secrets: &'static [&'static str],
    have: String,
}

impl Read {
    fn of(world: &Clusters) -> Result<Self> {
        Ok(Self {
            driver: world.east.token(&DRIVER)?,
            pod: world.east.token(&API)?,
            pod_uid: API.uid(),
            secrets: &["db"],
            have: String::new(),
        })
    }

    async fn send(
        &self,
        client: &PodsClient<Channel>,
    ) -> Result<Result<ReadForPodResponse, Status>> {
        let message = ReadForPodRequest {
            pod_token: self.pod.clone(),
            pod_uid: self.pod_uid.clone(),
            want: want(self.secrets),
            have: self.have.clone(),
        };
        let request = with_token(message, &self.driver)?;
        let answer = client.clone().read_for_pod(request).await;
        Ok(answer.map(tonic::Response::into_inner))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_read_for_pods_of_the_drivers_own_node() -> Result<()> {
    let world = up("secrets-pods", 23610)?;
    let native = world.administrator().await?;
    let ring = make_ring(&native, "payments", Some(owner("east", "payments"))).await?;
    make_secret(&native, &ring, "db", generated(), vec![reader(&API)]).await?;
    make_secret(
        &native,
        &ring,
        "stripe",
        manual(&["key"]),
        vec![reader(&API)],
    )
    .await?;
    make_secret(&native, &ring, "other", generated(), Vec::new()).await?;
    let foreign = make_ring(&native, "payments", Some(owner("east", "foreign"))).await?;
    make_secret(
        &native,
        &foreign,
        "foreign",
        generated(),
        vec![reader(&API)],
    )
    .await?;
    let client = connect(&world).await?;

    values_are_given_once(&world, &native, &ring, &client).await?;
    refusals_have_their_words(&world, &client).await?;
    world.down()
}

async fn values_are_given_once(
    world: &Clusters,
    native: &Native,
    ring: &KeyRing,
    client: &PodsClient<Channel>,
) -> Result<()> {
    let mut read = Read::of(world)?;
    let first = read.send(client).await??;
    let paths: Vec<&str> = first.files.iter().map(|file| file.path.as_str()).collect();
    ensure!(paths == ["db/password", "db/username"], "{paths:?}");
    ensure!(first.files[1].content == b"payments_api" && first.files[0].content.len() == 32);
    ensure!(!first.not_modified && first.store_epoch == 1 && first.seq > 0);

    read.have.clone_from(&first.etag);
    let again = read.send(client).await??;
    ensure!(again.not_modified && again.files.is_empty() && again.etag == first.etag);
    let rotate = RotateSecretRequest {
        ring_id: ring.id.clone(),
        secret: "db".to_owned(),
        etag: String::new(),
    };
    native.secrets().rotate_secret(rotate).await?;
    let rotated = read.send(client).await??;
    ensure!(!rotated.not_modified && rotated.etag != first.etag);
    ensure!(
        rotated.files[0].content != first.files[0].content,
        "nothing new"
    );

    // Two reads gave values, with one record each; the one between them is for the record of the hour.
    let audit = world.audit()?;
    let given: Vec<&str> = audit
        .lines()
        .filter(|line| line.contains("\"ReadSecret\"") && line.contains("\"Batch\""))
        .collect();
    ensure!(given.len() == 2, "{given:?}");
    for (line, version) in given.iter().zip(["/1.1\"", "/1.2\""]) {
        let parts = [
            "pod:east/payments/api-1#uid-api-1",
            "csi-1#uid-csi-1",
            version,
        ];
        ensure!(parts.iter().all(|part| line.contains(part)), "{line}");
    }
    Ok(())
}

struct Refusal {
    read: Read,
    code: Code,
    reason: &'static str,
    words: &'static str,
}

fn refusal(
    world: &Clusters,
    code: Code,
    reason: &'static str,
    words: &'static str,
    change: impl FnOnce(&mut Read) -> Result<()>,
) -> Result<Refusal> {
    let mut read = Read::of(world)?;
    change(&mut read)?;
    Ok(Refusal {
        read,
        code,
        reason,
        words,
    })
}

async fn refusals_have_their_words(world: &Clusters, client: &PodsClient<Channel>) -> Result<()> {
    for refusal in refusals_by_token(world)?
        .into_iter()
        .chain(refusals_by_secret(world)?)
    {
        let Refusal {
            read,
            code,
            reason,
            words,
        } = refusal;
        let status = read.send(client).await?.err().context(reason)?;
        let word = status
            .metadata()
            .get("strongroom-reason")
            .and_then(|it| it.to_str().ok());
        ensure!(
            status.code() == code && word == Some(reason) && status.message().contains(words),
            "not {reason}: {status:?}"
        );
    }
    // Whoever has no token that counts is counted; everything else is on record.
    let metrics = world.installation.probe(
        strongroom_hack::installation::Program::KeyService,
        "/metrics",
    )?;
    for counted in [
        "strongroom_tokens_refused_total{reason=\"WrongAudience\"} 2",
        "strongroom_tokens_refused_total{reason=\"TokenExpired\"} 1",
        "strongroom_tokens_refused_total{reason=\"TokenInvalid\"} 1",
        "strongroom_tokens_refused_total{reason=\"NoToken\"} 0",
    ] {
        ensure!(
            metrics.body.contains(counted),
            "{counted} is not in\n{}",
            metrics.body
        );
    }
    let audit = world.audit()?;
    for recorded in [
        "NotThisNode",
        "NotThisPod",
        "NotADriver",
        "RoleMissing",
        "AwaitingValue",
    ] {
        ensure!(
            audit.contains(&format!("\"code\":\"{recorded}\"")),
            "{recorded}"
        );
    }
    Ok(())
}

fn refusals_by_token(world: &Clusters) -> Result<Vec<Refusal>> {
    let two = |claims: &mut Value| claims["aud"] = json!(["strongroom.dev", "other"]);
    let past = |claims: &mut Value| {
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_u64().unwrap_or_default() - 1200);
        }
    };
    let hour = Duration::from_secs(600);
    let other_account = Pod {
        account: "somebody",
        ..DRIVER
    };
    let other_node = Pod {
        node: "worker-2",
        ..API
    };
    Ok(vec![
        refusal(
            world,
            Code::Unauthenticated,
            "WrongAudience",
            "the pod",
            |read| {
                read.pod = world.east.token_with(&API, hour, two)?;
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::Unauthenticated,
            "WrongAudience",
            "the caller",
            |read| {
                read.driver = world.east.token_with(&DRIVER, hour, |claims| {
                    claims["aud"] = json!(["https://kubernetes.default.svc"]);
                })?;
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::Unauthenticated,
            "TokenExpired",
            "expired",
            |read| {
                read.pod = world.east.token_with(&API, hour, past)?;
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::Unauthenticated,
            "TokenInvalid",
            "not acceptable",
            |read| {
                read.pod.push('A');
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::PermissionDenied,
            "NotADriver",
            "somebody",
            |read| {
                read.driver = world.east.token(&other_account)?;
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::PermissionDenied,
            "NotThisNode",
            "another node",
            |read| {
                read.pod = world.east.token(&other_node)?;
                Ok(())
            },
        )?,
        // The same names, in a cluster of the same issuer text.
        refusal(
            world,
            Code::PermissionDenied,
            "NotThisNode",
            "another node",
            |read| {
                read.pod = world.west.token(&API)?;
                Ok(())
            },
        )?,
        refusal(
            world,
            Code::PermissionDenied,
            "NotThisPod",
            "not that of the pod",
            |read| {
                "uid-api-2".clone_into(&mut read.pod_uid);
                Ok(())
            },
        )?,
    ])
}

fn refusals_by_secret(world: &Clusters) -> Result<Vec<Refusal>> {
    let secrets = |secrets: &'static [&'static str]| {
        move |read: &mut Read| {
            read.secrets = secrets;
            Ok(())
        }
    };
    let recreated = Pod {
        account_uid: "uid-of-the-next-api",
        ..API
    };
    let missing = "ServiceAccount payments/api has no role SecretReader on ManagedSecret payments/db; \
                   add it under spec.access";
    Ok(vec![
        refusal(
            world,
            Code::PermissionDenied,
            "RoleMissing",
            "payments/other",
            secrets(&["other"]),
        )?,
        // One that may not be read spoils the whole volume.
        refusal(
            world,
            Code::PermissionDenied,
            "RoleMissing",
            "payments/other",
            secrets(&["db", "other"]),
        )?,
        refusal(
            world,
            Code::NotFound,
            "NotFound",
            "payments/nothing",
            secrets(&["nothing"]),
        )?,
        refusal(
            world,
            Code::FailedPrecondition,
            "AwaitingValue",
            "payments/stripe",
            secrets(&["stripe"]),
        )?,
        // A secret of another namespace is not there, whatever its record says.
        refusal(
            world,
            Code::NotFound,
            "NotFound",
            "payments/foreign",
            secrets(&["foreign"]),
        )?,
        // An account that was made anew is another one.
        refusal(
            world,
            Code::PermissionDenied,
            "RoleMissing",
            missing,
            |read| {
                read.pod = world.east.token(&recreated)?;
                Ok(())
            },
        )?,
        // A whole cluster with the same names has nothing of this one's.
        refusal(
            world,
            Code::NotFound,
            "NotFound",
            "there is no KeyRing in namespace payments; the platform makes it",
            |read| {
                read.driver = world.west.token(&DRIVER)?;
                read.pod = world.west.token(&API)?;
                Ok(())
            },
        )?,
    ])
}
