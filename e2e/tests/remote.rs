//! Plugins on other control-plane nodes: enrolled with a secret that is used once, the same key ids as on the key
//! service's own node, a door for each kind of certificate, and the end of an identity of which there is a copy.
#![forbid(unsafe_code)]

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use strongroom_api::strongroom::{
    kms::v1::{
        ProbeRequest, RenewRequest, etcd_keys_client::EtcdKeysClient,
        node_certificates_client::NodeCertificatesClient,
    },
    v1::{DescribeInstanceRequest, instance_client::InstanceClient},
};
use strongroom_e2e::{
    mtls::{self, Credentials, StoryClock},
    nodes::{clean_up, describe, enrol, invite, invite_now, read_audit, refused, stage, states},
    remote::{Remote, Ways},
    stage::Stage,
    world::wait,
};
use strongroom_hack::installation::Program;
use tokio::io::AsyncReadExt;
use tonic::Code;

const LIMIT: Duration = Duration::from_secs(60);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn two_nodes_share_key_ids_and_each_opens_what_the_other_sealed() -> Result<()> {
    let (stage, clock) = stage("remote", 24060)?;
    // Nobody listens on the first endpoint: the second one does the work.
    let ways = Ways {
        endpoints: &["127.0.0.1:24069"],
        ..Ways::default()
    };
    let mut remote = Remote::lay_out(&stage.installation, "cp-2", 24066, ways)?;
    remote.start(&stage.installation, "")?;
    remote.wait_missing("this node is not enrolled")?;

    let file = invite(&stage, "cp-2")?;
    enrol(&stage, &remote, &file)?;
    remote
        .wait_ready()
        .context("the running plugin takes the certificate over")?;
    check_same(&stage, &remote)?;

    let before = remote.plugin.status()?.key_id;
    stage.rotate()?;
    let after = stage.plugin.encrypt(&[1; 32])?.key_id;
    wait(LIMIT, "the rotation reaches the other node", || {
        Ok(remote.plugin.status()?.key_id != before)
    })?;
    assert_eq!(remote.plugin.status()?.key_id, after);
    check_same(&stage, &remote)?;

    let said = refused(&stage, &remote, &file)?;
    assert!(said.contains("was used already"), "{said}");
    let audit = read_audit(&stage)?;
    assert!(audit.contains("SecretUsed"), "a second use is recorded");
    let secret = fs::read_to_string(&file)?;
    let secret = secret
        .lines()
        .find_map(|line| line.strip_prefix("secret: "))
        .context("the file has a secret")?;
    assert!(!audit.contains(secret.trim()));
    check_same(&stage, &remote).context("the attempt changed nothing")?;

    remote.kill();
    clean_up(stage, &clock)
}

fn check_same(stage: &Stage, remote: &Remote) -> Result<()> {
    let here = stage.plugin.encrypt(&[7; 32])?;
    let there = remote.plugin.encrypt(&[8; 32])?;
    assert_eq!(here.key_id, there.key_id, "one key id on all nodes");
    assert_eq!(here.annotations, there.annotations);
    assert_eq!(remote.plugin.decrypt(&here)?, [7; 32]);
    assert_eq!(stage.plugin.decrypt(&there)?, [8; 32]);
    Ok(())
}

#[test]
fn the_socket_is_preferred_and_an_endpoint_stands_in() -> Result<()> {
    let (stage, clock) = stage("remote-ways", 24070)?;
    let socket = stage.installation.path("run/kms/key-service.sock");
    let ways = Ways {
        socket: Some(&socket),
        ..Ways::default()
    };
    let mut remote = Remote::lay_out(&stage.installation, "cp-1", 24076, ways)?;
    enrol(&stage, &remote, &invite(&stage, "cp-1")?)?;
    remote.start(&stage.installation, "")?;
    remote.wait_ready()?;
    let sealed = remote.plugin.encrypt(&[1; 32])?;
    assert!(!read_audit(&stage)?.contains("kms-plugin:cp-1#"));

    let away = socket.with_extension("away");
    fs::rename(&socket, &away)?;
    // The connection that is open goes on; only a new one finds nobody.
    remote.start(&stage.installation, "")?;
    remote.wait_ready()?;
    assert_eq!(remote.plugin.decrypt(&sealed)?, [1; 32]);
    assert!(read_audit(&stage)?.contains("kms-plugin:cp-1#"));
    let up = |way: &str| {
        let metrics = remote.probe("/metrics")?.body;
        let name = format!("strongroom_kms_plugin_path_up{{path=\"{way}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        anyhow::Ok(line.context("the way is shown")? == "1")
    };
    assert!(!up("socket")?);
    assert!(up(&stage.installation.plugins_address())?);

    fs::rename(&away, &socket)?;
    wait(LIMIT, "the socket is used again", || up("socket"))?;
    remote.kill();
    clean_up(stage, &clock)
}

#[test]
fn each_certificate_opens_its_own_door_for_its_own_time() -> Result<()> {
    let (stage, clock) = stage("remote-doors", 24080)?;
    let remote = Remote::lay_out(&stage.installation, "cp-2", 24086, Ways::default())?;
    enrol(&stage, &remote, &invite(&stage, "cp-2")?)?;
    let node = Credentials::of_node(&remote.identity())?;
    let person = Credentials::of_administrator(&stage.installation, "administrator")?;
    let (native, plugins) = (
        stage.installation.server(),
        stage.installation.plugins_address(),
    );
    let served = stage.block_on(async {
        assert!(describe_with(&native, &node, &clock).await.is_err());
        assert!(probe_with(&plugins, &person, &clock).await.is_err());
        assert_eq!(
            probe_stranger(&plugins, &person, &clock).await?,
            Code::Unauthenticated
        );

        let open_native = mtls::channel(&native, &person, &clock).await?;
        let open_plugins = mtls::channel(&plugins, &node, &clock).await?;
        let mut idle = mtls::connect(&plugins, &node, &clock).await?;
        let mut instance = InstanceClient::new(open_native);
        let mut etcd_keys = EtcdKeysClient::new(open_plugins);
        instance.describe(DescribeInstanceRequest {}).await?;
        etcd_keys.probe(ProbeRequest::default()).await?;

        clock.skip(24 * HOUR + MINUTE)?;
        // Refused by the call's own look at the clock, or already cut off.
        let refused = instance.describe(DescribeInstanceRequest {}).await;
        ensure!(refused.is_err(), "the native port went on");
        let refused = etcd_keys.probe(ProbeRequest::default()).await;
        ensure!(refused.is_err(), "the port for plugins went on");
        let mut bytes = Vec::new();
        let ended = tokio::time::timeout(LIMIT, idle.read_to_end(&mut bytes)).await;
        ensure!(ended.is_ok(), "an idle connection outlives its certificate");
        Ok(())
    });
    served?;

    // The server's own certificates are replaced within seconds of the jump.
    wait(LIMIT, "the native port has a new certificate", || {
        describe(&stage, &clock).map(|_| true)
    })?;
    let file = invite_now(&stage, &clock, "cp-3")?;
    let late = Remote::lay_out(&stage.installation, "cp-3", 24087, Ways::default())?;
    clock.skip(15 * MINUTE)?;
    wait(LIMIT, "the expired secret is refused", || {
        let said = refused(&stage, &late, &file)?;
        ensure!(said.contains("the enrolment secret has expired"), "{said}");
        Ok(true)
    })?;
    assert!(read_audit(&stage)?.contains("SecretExpired"));
    clean_up(stage, &clock)
}

async fn describe_with(address: &str, who: &Credentials, clock: &StoryClock) -> Result<()> {
    let channel = mtls::channel(address, who, clock).await?;
    InstanceClient::new(channel)
        .describe(DescribeInstanceRequest {})
        .await?;
    Ok(())
}

async fn probe_with(address: &str, who: &Credentials, clock: &StoryClock) -> Result<()> {
    let channel = mtls::channel(address, who, clock).await?;
    EtcdKeysClient::new(channel)
        .probe(ProbeRequest::default())
        .await?;
    Ok(())
}

/// What somebody is told who trusts the root, but has no certificate.
async fn probe_stranger(address: &str, trusted: &Credentials, clock: &StoryClock) -> Result<Code> {
    let channel = mtls::stranger(address, trusted, clock).await?;
    let answer = EtcdKeysClient::new(channel)
        .probe(ProbeRequest::default())
        .await;
    match answer {
        Ok(_) => bail!("a stranger was served"),
        Err(status) => Ok(status.code()),
    }
}

#[test]
fn a_renewal_with_an_older_copy_revokes_the_node_until_it_is_enrolled_anew() -> Result<()> {
    let (stage, clock) = stage("remote-copies", 24100)?;
    let mut remote = Remote::lay_out(&stage.installation, "cp-2", 24106, Ways::default())?;
    enrol(&stage, &remote, &invite(&stage, "cp-2")?)?;
    let copy = fs::read(remote.identity())?;
    let thief = Credentials::of_node(&remote.identity())?;
    remote.start(&stage.installation, "")?;
    remote.wait_ready()?;
    let before = remote.serial()?;
    clock.skip(17 * HOUR)?;
    wait(LIMIT, "the certificate is renewed", || {
        Ok(remote.serial()? != before)
    })?;
    let sealed = remote.plugin.encrypt(&[4; 32])?;

    let plugins = stage.installation.plugins_address();
    // From the first use of the new one on, which may come after its file.
    wait(LIMIT, "the copy is refused", || {
        stage.block_on(async {
            let Err(error) = probe_with(&plugins, &thief, &clock).await else {
                return Ok(false);
            };
            let error = format!("{error:#}");
            ensure!(error.contains("newer certificate"), "{error}");
            Ok(true)
        })
    })?;
    assert_eq!(
        states(&stage, &clock)?,
        ["Enrolled"],
        "use alone revokes nobody"
    );

    stage.block_on(renew_with(&plugins, &thief, &clock))?;
    assert_eq!(states(&stage, &clock)?, ["Revoked"]);
    // The plugin's connection is open, and closed to it.
    let error = remote
        .plugin
        .decrypt(&sealed)
        .err()
        .context("it was served")?;
    assert!(error.message().contains("was revoked"), "{error}");
    remote.wait_missing("was revoked")?;
    check_alarm(&stage, &clock)?;

    enrol(&stage, &remote, &invite_now(&stage, &clock, "cp-2")?)?;
    remote.wait_ready().context("without a restart")?;
    assert_eq!(remote.plugin.decrypt(&sealed)?, [4; 32]);
    assert_eq!(states(&stage, &clock)?, ["Enrolled"]);

    // The plugin itself comes back with a copy, as a virtual machine that was put back does.
    remote.kill();
    let (newest, folder) = (remote.serial()?, remote.identity());
    fs::write(&folder, &copy)?;
    assert_ne!(remote.serial()?, newest);
    remote.start(&stage.installation, "")?;
    remote.wait_missing("was revoked")?;
    assert_eq!(states(&stage, &clock)?, ["Revoked"]);
    remote.kill();
    clean_up(stage, &clock)
}

/// Asks for a renewal for a key of the thief's own.
async fn renew_with(address: &str, thief: &Credentials, clock: &StoryClock) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let request_pem = rcgen::CertificateParams::default()
        .serialize_request(&key)?
        .pem()?;
    let channel = mtls::channel(address, thief, clock).await?;
    let request = RenewRequest { request_pem };
    let answer = NodeCertificatesClient::new(channel).renew(request).await;
    let status = answer.err().context("the copy was renewed")?;
    ensure!(status.code() == Code::Unauthenticated, "{status}");
    ensure!(status.message().contains("was revoked"), "{status}");
    Ok(())
}

fn check_alarm(stage: &Stage, clock: &StoryClock) -> Result<()> {
    let audit = read_audit(stage)?;
    assert!(audit.contains("RevokeNode") && audit.contains("OldCertificateRenewed"));
    let described = describe(stage, clock)?;
    let condition = described
        .conditions
        .iter()
        .find(|it| it.r#type == "NodesTrusted");
    let condition = condition.context("there is a condition")?;
    assert!(
        !condition.ok && condition.message.contains("cp-2"),
        "{}",
        condition.message
    );
    wait(LIMIT, "the metric is an alarm", || {
        let metrics = stage
            .installation
            .probe(Program::KeyService, "/metrics")?
            .body;
        Ok(metrics.contains("strongroom_nodes_revoked 1")
            && metrics.contains("strongroom_node_revocations_total 1"))
    })
}
