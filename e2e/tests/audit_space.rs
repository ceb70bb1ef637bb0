//! A full audit log stops administration with a typed error, while the plugin's reserve lets an API server restart; tenants
//! fill their share alone; every acknowledged success is in the log.
#![forbid(unsafe_code)]

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::Value;
use strongroom_api::strongroom::v1::{
    CreateKeyRequest, CreateKeyRingRequest, DescribeKeyRequest, EncryptRequest, KeyAlgorithm,
    KeyPurpose, RotateKeyRequest, crypto_client::CryptoClient,
};
use strongroom_e2e::{native::Native, stage::Stage};
use strongroom_hack::{installation::Program, programs::Build};
use tonic::{Code, Status};

const CAPACITY_MIB: u64 = 1;
/// 70 % of it.
const SHARE: usize = 1024 * 1024 / 10 * 7;
/// The system may fill 90 %.
const INTO_THE_RESERVE: usize = 1024 * 1024 / 100 * 95;
/// The certificate of an application.
const TENANT: &str = "orders";
const GONE_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn full_log_stops_administration_and_leaves_the_reserve_to_the_plugin() -> Result<()> {
    let mut stage = Stage::lay_out("audit-space", 24040, Build::Plain, |settings| {
        settings.audit_capacity_mib = CAPACITY_MIB;
    })?;
    stage.bring_up()?;
    let mut acknowledged = Acknowledged::default();
    fill(&stage, &mut acknowledged)?;
    let refused = refusal(stage.rotate())?;
    ensure!(refused.message().contains("audit log"), "{refused}");
    // What an API server needs at its start, many times over: far beyond what anybody else may fill.
    while log(&stage)?.len() < INTO_THE_RESERVE {
        let sealed = stage.plugin.encrypt(&[7; 32])?;
        ensure!(stage.plugin.decrypt(&sealed)? == [7; 32]);
        acknowledged.encrypted += 1;
        acknowledged.decrypted += 1;
    }
    compare_with_log(&stage, &acknowledged)?;

    stage.installation.settings_mut().audit_capacity_mib = 8 * CAPACITY_MIB;
    restart(&mut stage)?;
    stage.rotate()?;
    stage.check_seeds()?;
    stage.verify_audit()?;
    stage.clean_up()
}

/// Successes that somebody was told of. The log may have more: those of the bringing up.
#[derive(Debug, Default)]
struct Acknowledged {
    encrypted: usize,
    decrypted: usize,
    rotated: usize,
}

/// Uses the key until administration is refused.
fn fill(stage: &Stage, acknowledged: &mut Acknowledged) -> Result<()> {
    for _ in 0..500 {
        for _ in 0..20 {
            stage.plugin.encrypt(&[7; 32])?;
            acknowledged.encrypted += 1;
        }
        match stage.describe() {
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
        match stage.rotate() {
            Ok(_) => acknowledged.rotated += 1,
            Err(_) => return Ok(()),
        }
    }
    bail!("the log never fills")
}

fn refusal<T>(outcome: Result<T>) -> Result<Status> {
    let error = outcome.err().context("it was not refused")?;
    let status: Status = error.downcast()?;
    ensure!(status.code() == Code::ResourceExhausted, "{status}");
    Ok(status)
}

/// Starts the key service again with the configuration as it is now.
fn restart(stage: &mut Stage) -> Result<()> {
    stage.installation.write_configuration()?;
    stage
        .process(Program::KeyService)?
        .end(Signal::TERM, GONE_WITHIN)?;
    stage.recover()
}

/// The log's text; one segment holds all of it.
fn log(stage: &Stage) -> Result<String> {
    let mut text = String::new();
    for entry in fs::read_dir(stage.installation.audit_dir())? {
        let path = entry?.path();
        if path.extension().is_some_and(|name| name == "jsonl") {
            text.push_str(&fs::read_to_string(path)?);
        }
    }
    Ok(text)
}

fn records(stage: &Stage) -> Result<Vec<Value>> {
    let text = log(stage)?;
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

fn compare_with_log(stage: &Stage, acknowledged: &Acknowledged) -> Result<()> {
    let records = records(stage)?;
    let count = |action: &str| {
        let of_action = records.iter().filter(|record| record["action"] == action);
        of_action
            .filter(|record| record["outcome"] == "Succeeded")
            .count()
    };
    // One seed of the bringing up and one to see that the plugin is well.
    ensure!(
        count("EncryptSeed") == acknowledged.encrypted + 2,
        "{acknowledged:?} {}",
        count("EncryptSeed")
    );
    ensure!(
        count("DecryptSeed") == acknowledged.decrypted,
        "{acknowledged:?}"
    );
    ensure!(
        count("RotateKey") == acknowledged.rotated,
        "{acknowledged:?}"
    );
    Ok(())
}

#[test]
fn tenants_fill_their_share_and_stop_nobody_else() -> Result<()> {
    let mut stage = Stage::lay_out("audit-share", 25060, Build::Plain, |settings| {
        settings.audit_capacity_mib = CAPACITY_MIB;
    })?;
    stage.bring_up()?;
    let ring_id = make_tenant(&mut stage)?;
    let tenant = Tenant { ring_id };
    let acknowledged = tenant.fill(&stage)?;
    let used = used_by_then(&stage)?;
    ensure!(
        (SHARE - SHARE / 50..=SHARE).contains(&used),
        "{used} of {SHARE} bytes are used"
    );

    let before = of_tenant(&records(&stage)?);
    for refused in tenant.all_calls(&stage)? {
        ensure!(refused.code() == Code::ResourceExhausted, "{refused}");
        ensure!(
            refused.message() == "the audit log has no space for this caller; nothing was done",
            "{refused}"
        );
    }
    tenant.asks_for_what_is_not_his(&stage)?;
    let after = records(&stage)?;
    ensure!(of_tenant(&after) == before, "the tenant wrote more");
    let encrypted = after.iter().filter(|record| {
        is_tenants(record) && record["action"] == "Encrypt" && record["outcome"] == "Succeeded"
    });
    ensure!(encrypted.count() == acknowledged, "{acknowledged}");

    // Everybody else is served.
    stage.describe()?;
    stage.rotate()?;
    for _ in 0..20 {
        stage.seal()?;
    }
    stage.check_seeds()?;

    stage.installation.settings_mut().audit_capacity_mib = 8 * CAPACITY_MIB;
    restart(&mut stage)?;
    tenant.encrypt_once(&stage)?;
    stage.verify_audit()?;
    stage.clean_up()
}

/// Makes a ring with a key, and gives an application the use of it.
fn make_tenant(stage: &mut Stage) -> Result<String> {
    let ring_id = stage.native(async |native, _, _| {
        let name = TENANT.to_owned();
        let request = CreateKeyRingRequest {
            name: name.clone(),
            owner: None,
        };
        let ring = native.keys().create_key_ring(request).await?;
        let ring_id = ring.into_inner().id;
        let request = CreateKeyRequest {
            ring_id: ring_id.clone(),
            name,
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
        };
        native.keys().create_key(request).await?;
        Ok(ring_id)
    })?;
    let access = ["KeyEncrypter", "KeyDecrypter"]
        .map(|role| format!("{{role: {role}, certificate: {TENANT}, ring: {ring_id}}}"));
    stage.installation.settings_mut().access = access.to_vec();
    restart(stage)?;
    stage.installation.administrator(TENANT)?;
    Ok(ring_id)
}

/// The bytes of the log up to the tenant's last record.
fn used_by_then(stage: &Stage) -> Result<usize> {
    let text = log(stage)?;
    let caller = format!("certificate:{TENANT}#");
    let last = text.rfind(&caller).context("the tenant has records")?;
    let rest = text[last..].find('\n').context("records are lines")?;
    Ok(last + rest + 1)
}

fn is_tenants(record: &Value) -> bool {
    let caller = record["caller"].as_str().unwrap_or_default();
    caller.starts_with(&format!("certificate:{TENANT}#"))
}

fn of_tenant(records: &[Value]) -> usize {
    records.iter().filter(|record| is_tenants(record)).count()
}

struct Tenant {
    ring_id: String,
}

impl Tenant {
    fn encryption(&self) -> EncryptRequest {
        EncryptRequest {
            ring_id: self.ring_id.clone(),
            key: TENANT.to_owned(),
            plaintext: vec![7; 32],
            plaintext_crc32c: None,
            context: HashMap::new(),
        }
    }

    fn encrypt_once(&self, stage: &Stage) -> Result<()> {
        stage.block_on(async {
            let native = Native::connect(&stage.installation, TENANT).await?;
            let mut client = CryptoClient::new(native.channel());
            client.encrypt(self.encryption()).await?;
            Ok(())
        })
    }

    fn description(&self) -> DescribeKeyRequest {
        DescribeKeyRequest {
            ring_id: self.ring_id.clone(),
            key: TENANT.to_owned(),
        }
    }

    /// Encrypts until that is refused, and returns how often it was not. A description has a shorter record, which may fit
    /// where that of an encryption does not.
    fn fill(&self, stage: &Stage) -> Result<usize> {
        stage.block_on(async {
            let native = Native::connect(&stage.installation, TENANT).await?;
            let mut client = CryptoClient::new(native.channel());
            let mut acknowledged = 0;
            while client.encrypt(self.encryption()).await.is_ok() {
                acknowledged += 1;
                ensure!(acknowledged < 10_000, "the share never fills");
            }
            while native.keys().describe_key(self.description()).await.is_ok() {}
            Ok(acknowledged)
        })
    }

    /// What the roles allow, each refused.
    fn all_calls(&self, stage: &Stage) -> Result<Vec<Status>> {
        stage.block_on(async {
            let native = Native::connect(&stage.installation, TENANT).await?;
            let mut client = CryptoClient::new(native.channel());
            let refused = [
                client.encrypt(self.encryption()).await.err(),
                native.keys().describe_key(self.description()).await.err(),
            ];
            refused
                .into_iter()
                .map(|refused| refused.context("it was not refused"))
                .collect()
        })
    }

    /// Refusals of a tenant are his as well.
    fn asks_for_what_is_not_his(&self, stage: &Stage) -> Result<()> {
        stage.block_on(async {
            let native = Native::connect(&stage.installation, TENANT).await?;
            for _ in 0..5 {
                let request = RotateKeyRequest {
                    ring_id: self.ring_id.clone(),
                    key: TENANT.to_owned(),
                    etag: String::new(),
                };
                let refused = native.keys().rotate_key(request).await.err();
                let refused = refused.context("it was not refused")?;
                ensure!(refused.code() == Code::PermissionDenied, "{refused}");
            }
            Ok(())
        })
    }
}
