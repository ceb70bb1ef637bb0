//! Each program comes and goes in order, and writes no secret down: random values travel every way that plaintext takes,
//! then everything that the programs wrote or said is searched for them.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use strongroom_api::strongroom::v1::{
    CreateKeyRequest, CreateKeyRingRequest, DecryptRequest, EncryptRequest, KeyAlgorithm,
    KeyPurpose, crypto_client::CryptoClient,
};
use strongroom_e2e::{canary::Canaries, native::Native, stage::Stage};
use strongroom_hack::{installation::Program, programs::Build};
use tonic::{Status, transport::Channel};

/// What a kubelet is told to give a program.
const GONE_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn each_program_is_ready_and_gone_in_order_after_sigterm() -> Result<()> {
    let mut stage = Stage::lay_out("lifecycle", 24020, Build::Plain, |_| {})?;
    stage.bring_up()?;
    for program in Program::ALL {
        let status = stage.process(program)?.end(Signal::TERM, GONE_WITHIN)?;
        assert_eq!(status.code(), Some(0), "{}", program.name());
        stage.recover()?;
        stage.check_seeds()?;
    }
    // Nobody is there who could answer a last call.
    for program in Program::ALL {
        let status = stage.process(program)?.end(Signal::TERM, GONE_WITHIN)?;
        assert_eq!(status.code(), Some(0), "{}", program.name());
    }
    stage.verify_audit()?;
    stage.clean_up()
}

#[test]
fn no_secret_is_in_logs_metrics_audit_store_or_errors() -> Result<()> {
    let mut stage = Stage::lay_out("canaries", 24030, Build::FaultPoints, |_| {})?;
    talk_much(&stage)?;
    let mut canaries = Canaries::default();
    add_pins(&stage, &mut canaries)?;
    stage.bring_up_made()?;
    let mut said = seeds(&stage, &mut canaries)?;
    said.extend(messages(&mut stage, &mut canaries)?);
    for program in Program::ALL {
        said.push(stage.installation.probe(program, "/metrics")?.body);
    }
    for program in Program::ALL {
        stage.process(program)?.end(Signal::TERM, GONE_WITHIN)?;
    }
    let said = said.join("\n");
    assert_eq!(canaries.find(said.as_bytes()), Vec::<String>::new());
    for folder in ["log", "audit", "service", "plugin"] {
        let found = canaries.find_below(&stage.installation.path(folder))?;
        assert_eq!(found, Vec::<String>::new());
    }
    scanner_finds_a_planted_secret(&stage, &mut canaries)?;
    stage.clean_up()
}

/// What is not in the most talkative log is in no other.
fn talk_much(stage: &Stage) -> Result<()> {
    for program in Program::ALL {
        let path = stage.installation.config(program);
        let text = fs::read_to_string(&path)?.replace("log: info\n", "");
        fs::write(path, format!("{text}log: debug\n"))?;
    }
    Ok(())
}

/// The security officer's PIN is gone after `init`, so the first one is interrupted.
fn add_pins(stage: &Stage, canaries: &mut Canaries) -> Result<()> {
    let mut init = stage.installation.command(Program::HsmAgent, "init");
    let point = "hsm.make-token.pins-written=kill";
    init.env("FAILPOINTS", point).output()?;
    for (name, file) in [
        ("the PIN", "agent/pin"),
        ("the officer's PIN", "agent/init-pending"),
    ] {
        let pin = fs::read(stage.installation.path(file)).context(name)?;
        canaries.add(name, hex::decode(&pin)?);
        canaries.add(name, pin);
    }
    stage.installation.init(Program::HsmAgent)?;
    ensure!(!stage.installation.path("agent/init-pending").exists());
    Ok(())
}

/// The API server's way, with everything that can be wrong; returns what was answered beside plaintext.
fn seeds(stage: &Stage, canaries: &mut Canaries) -> Result<Vec<String>> {
    let seed = canaries.draw("a seed")?;
    let sealed = stage.plugin.encrypt(&seed)?;
    ensure!(stage.plugin.decrypt(&sealed)? == seed);
    let mut damaged = sealed.clone();
    *damaged.ciphertext.last_mut().context("it is not empty")? ^= 1;
    let mut annotated = sealed.clone();
    let annotation = canaries.draw("an annotation")?;
    annotated
        .annotations
        .insert("example.org/strange".to_owned(), annotation);
    let mut unknown = sealed;
    unknown.key_id = hex::encode(canaries.draw("a key id")?);
    let mut large = canaries.draw("a seed that is too large")?;
    large.resize(4096, 0);
    Ok(vec![
        refusal(stage.plugin.decrypt(&damaged))?,
        refusal(stage.plugin.decrypt(&annotated))?,
        refusal(stage.plugin.decrypt(&unknown))?,
        refusal(stage.plugin.encrypt(&large))?,
    ])
}

/// An application's way.
fn messages(stage: &mut Stage, canaries: &mut Canaries) -> Result<Vec<String>> {
    let ring = application_ring(stage)?;
    let access = ["KeyEncrypter", "KeyDecrypter"]
        .map(|role| format!("{{role: {role}, certificate: orders, ring: {ring}}}"));
    stage.installation.settings_mut().access = access.to_vec();
    stage.installation.write_configuration()?;
    talk_much(stage)?;
    stage
        .process(Program::KeyService)?
        .end(Signal::TERM, GONE_WITHIN)?;
    stage.recover()?;
    stage.installation.administrator("orders")?;
    let plaintext = canaries.draw("a plaintext")?;
    let value = hex::encode(canaries.draw("a value of a context")?);
    stage.block_on(async {
        let native = Native::connect(&stage.installation, "orders").await?;
        refused_messages(CryptoClient::new(native.channel()), ring, plaintext, value).await
    })
}

fn application_ring(stage: &Stage) -> Result<String> {
    stage.native(async |native, _, _| {
        let name = "orders".to_owned();
        let ring = native
            .keys()
            .create_key_ring(CreateKeyRingRequest {
                name: name.clone(),
                owner: None,
            })
            .await?;
        let ring_id = ring.into_inner().id;
        let request = CreateKeyRequest {
            ring_id: ring_id.clone(),
            name,
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
        };
        native.keys().create_key(request).await?;
        Ok(ring_id)
    })
}

async fn refused_messages(
    mut client: CryptoClient<Channel>,
    ring_id: String,
    plaintext: Vec<u8>,
    value: String,
) -> Result<Vec<String>> {
    let context = HashMap::from([("order".to_owned(), value)]);
    let request = EncryptRequest {
        ring_id: ring_id.clone(),
        key: "orders".to_owned(),
        plaintext: plaintext.clone(),
        plaintext_crc32c: None,
        context: context.clone(),
    };
    let ciphertext = client
        .encrypt(request.clone())
        .await?
        .into_inner()
        .ciphertext;
    let opening = DecryptRequest {
        ring_id,
        ciphertext,
        ciphertext_crc32c: None,
        context,
    };
    let opened = client.decrypt(opening.clone()).await?.into_inner();
    ensure!(opened.plaintext == plaintext);

    let mut damaged = opening.clone();
    *damaged.ciphertext.last_mut().context("it is not empty")? ^= 1;
    let elsewhere = DecryptRequest {
        context: HashMap::new(),
        ..opening
    };
    let miscounted = EncryptRequest {
        plaintext_crc32c: Some(1),
        ..request.clone()
    };
    let keyless = EncryptRequest {
        key: "nobody".to_owned(),
        ..request
    };
    Ok(vec![
        refusal(client.decrypt(damaged).await)?,
        refusal(client.decrypt(elsewhere).await)?,
        refusal(client.encrypt(miscounted).await)?,
        refusal(client.encrypt(keyless).await)?,
    ])
}

fn refusal<T>(outcome: Result<T, Status>) -> Result<String> {
    let refused = outcome.err().context("it was not refused")?;
    Ok(format!("{refused} {refused:?}"))
}

/// The negative control, in the folder that was just found clean.
fn scanner_finds_a_planted_secret(stage: &Stage, canaries: &mut Canaries) -> Result<()> {
    let planted = canaries.draw("a planted secret")?;
    let log = stage.installation.path("log");
    fs::write(log.join("planted.log"), hex::encode(planted))?;
    assert_eq!(canaries.find_below(&log)?.len(), 1);
    Ok(())
}
