//! Two operators, and a Lease that lies: every effect happens once.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use strongroom_api::strongroom::v1::{
    AcquireControlEpochRequest, DescribeSecretRequest, Secret, Tenant,
    operator_client::OperatorClient,
};
use strongroom_e2e::{
    native::Native,
    operated::{LIMIT, Operated, SYSTEM},
    world::wait,
};
use tonic::{
    Request,
    transport::{Certificate, ClientTlsConfig, Endpoint},
};

const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}";
const SECRET: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {name: db, namespace: payments}, \
     spec: {source: {generate: {fields: [{name: password}]}}}}";
/// How long the leader stands still.
const STOPPED: Duration = Duration::from_secs(60);

fn rotation(name: &str) -> String {
    format!(
        "{{apiVersion: strongroom.dev/v1alpha1, kind: SecretRotation, metadata: {{name: {name}, namespace: payments}}, \
         spec: {{secretRef: {{name: db}}}}}}"
    )
}

fn epoch(story: &Operated, pod: &str) -> Result<f64> {
    story.metric(pod, "strongroom_operator_control_epoch", "")
}

fn is_leader(story: &Operated, pod: &str) -> Result<bool> {
    Ok(story.metric(pod, "strongroom_operator_leader", "")? > 0.5)
}

fn version(story: &Operated) -> Result<String> {
    let secret = story.object("managedsecret", "db")?;
    Ok(secret["status"]["version"]
        .as_str()
        .unwrap_or("-")
        .to_owned())
}

fn lease(story: &Operated, words: &[&str]) -> Result<String> {
    let lease = ["lease", "strongroom-operator", "-n", SYSTEM];
    story
        .cluster
        .kubectl(&[&words[..1], &lease, &words[1..]].concat())
}

fn period(story: &Operated, hours: u32) -> Result<()> {
    let patch = format!("{{\"spec\":{{\"rotation\":{{\"period\":\"{hours}h\"}}}}}}");
    story
        .kubectl(&["patch", "msec", "db", "--type=merge", "-p", &patch])
        .map(drop)
}

/// The secret as the key service has it: its etag tells each change.
fn secret(story: &Operated) -> Result<Secret> {
    runtime()?.block_on(async {
        let native = Native::connect(&story.installation, "administrator").await?;
        let request = DescribeSecretRequest {
            ring_id: String::new(),
            secret: "db".to_owned(),
            tenant: Some(Tenant {
                cluster: "main".to_owned(),
                namespace: "payments".to_owned(),
            }),
        };
        Ok(native
            .secrets()
            .describe_secret(request)
            .await?
            .into_inner())
    })
}

/// Somebody with the operator's token asks for the control epoch, and never looked at the Lease.
fn takes_the_epoch(story: &Operated) -> Result<u64> {
    let uid = "jsonpath={.metadata.uid}";
    let words = ["get", "namespace", "kube-system", "-o", uid];
    let cluster_uid = story.cluster.kubectl(&words)?;
    let token = story.key_service_token("operator-b")?;
    let root = fs::read(story.installation.path("etc/administrator-root.crt"))?;
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(root))
        .domain_name("key-service.strongroom.dev");
    let address = format!("https://{}", story.installation.workloads_address());
    let mut request = Request::new(AcquireControlEpochRequest {
        process: "0a".repeat(16),
        cluster_uid,
    });
    let bearer = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    runtime()?.block_on(async {
        let endpoint = Endpoint::from_shared(address)?.tls_config(tls)?;
        let mut client = OperatorClient::new(endpoint.connect().await?);
        let acquired = client.acquire_control_epoch(request).await?;
        Ok(acquired.into_inner().control_epoch)
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

/// Requests that the key service has refused because their sender is not the one that works.
fn refused(story: &Operated) -> Result<usize> {
    Ok(story.audit()?.matches("\"StaleControlEpoch\"").count())
}

#[test]
fn stopped_leader_that_goes_on_changes_nothing() -> Result<()> {
    let mut story = Operated::begin("operator-fence", 29460, 0)?;
    let gate = story.gate()?;
    story.start_through("operator-a", &gate)?;
    story.apply(RING)?;
    story.apply(SECRET)?;
    story.wait_ready("managedsecret", "db")?;
    story.start("operator-b")?;
    ensure!(is_leader(&story, "operator-a")? && !is_leader(&story, "operator-b")?);

    // The leader asks for what it was told, and its request is on the way while it stands still.
    gate.shut();
    period(&story, 720)?;
    wait(LIMIT, "the request is on the way", || Ok(gate.held() > 0))?;
    story.signal("operator-a", Signal::STOP)?;
    let stopped = Instant::now();
    story.apply(&rotation("one"))?;
    story.wait_condition("secretrotation", "one", "Ready", "True Rotated")?;
    assert_eq!(version(&story)?, "1.2");
    ensure!(is_leader(&story, "operator-b")?);
    // Meanwhile somebody wishes otherwise.
    period(&story, 360)?;
    story.wait_ready("managedsecret", "db")?;
    thread::sleep(STOPPED.saturating_sub(stopped.elapsed()));

    // It arrives on a connection that lived all the while, and is refused by the epoch alone.
    let (before, unrefused) = (secret(&story)?, refused(&story)?);
    gate.release();
    wait(LIMIT, "the late request is refused", || {
        Ok(refused(&story)? > unrefused)
    })?;
    ensure!(secret(&story)? == before, "a late request had an effect");
    story.signal("operator-a", Signal::CONT)?;
    wait(LIMIT, "the former leader notices", || {
        Ok(!is_leader(&story, "operator-a")?)
    })?;
    ensure!(secret(&story)? == before, "the former leader had an effect");
    story.apply(&rotation("two"))?;
    story.wait_condition("secretrotation", "two", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.3")
    })?;
    ensure!(epoch(&story, "operator-b")? > epoch(&story, "operator-a")?);
    story.end()
}

#[test]
fn lease_that_lies_gives_nobody_anything() -> Result<()> {
    let mut story = Operated::begin("operator-lease", 30400, 0)?;
    story.start("operator-a")?;
    story.apply(RING)?;
    story.apply(SECRET)?;
    story.wait_ready("managedsecret", "db")?;
    story.start("operator-b")?;

    // Whoever deletes the Lease, or writes nonsense into it, wins nothing.
    lease(&story, &["delete"])?;
    story.apply(&rotation("one"))?;
    story.wait_condition("secretrotation", "one", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.2")
    })?;
    wait(LIMIT, "the Lease is there again", || {
        Ok(lease(&story, &["get"]).is_ok())
    })?;
    let nonsense = r#"{"spec":{"leaseTransitions":2147483647,"leaseDurationSeconds":2147483647}}"#;
    lease(&story, &["patch", "--type=merge", "-p", nonsense])?;
    let holder = lease(&story, &["get", "-o", "jsonpath={.spec.holderIdentity}"])?;
    let (leader, other) = if holder.starts_with("operator-a") {
        ("operator-a", "operator-b")
    } else {
        ("operator-b", "operator-a")
    };
    story.stop(leader)?;
    wait(LIMIT, "the other works", || is_leader(&story, other))?;
    story.apply(&rotation("two"))?;
    story.wait_condition("secretrotation", "two", "Ready", "True Rotated")?;
    wait(LIMIT, "the secret shows it", || {
        Ok(version(&story)? == "1.3")
    })?;

    // Whoever takes the epoch without the Lease holds the operator up for a moment, and not for ever.
    let taken = takes_the_epoch(&story)?;
    story.apply(&rotation("three"))?;
    story.wait_condition("secretrotation", "three", "Ready", "True Rotated")?;
    ensure!(epoch(&story, other)? > taken as f64, "it has no newer one");
    story.end()
}
