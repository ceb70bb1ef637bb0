//! Native Encrypt and Decrypt beside etcd's key: no use opens what another sealed, and no refusal tells why. What is kept
//! of a key for the next call never outlives a change of its state.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use strongroom_api::{
    kubernetes::kms::v2::{
        DecryptRequest as OpenSeed, EncryptRequest as SealSeed,
        key_management_service_client::KeyManagementServiceClient,
    },
    strongroom::v1::{
        ChangeVersionRequest, CreateKeyRequest, CreateKeyRingRequest, DecryptRequest,
        DescribeInstanceRequest, EncryptRequest, EncryptResponse, KeyAlgorithm, KeyPurpose,
        RotateKeyRequest, crypto_client::CryptoClient,
    },
};
use strongroom_e2e::{native::Native, world::installation};
use strongroom_hack::installation::{Installation, PLUGIN_UID, Program};
use strongroom_runtime::socket;
use tonic::{Code, Status, transport::Channel};

/// Offsets in the message format: key id, commitment.
const KEY_ID_AT: usize = 6;
const COMMITMENT_AT: usize = 58;

struct Rings {
    system: String,
    mine: String,
    others: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_separate_and_refusals_of_decrypt_are_alike() -> Result<()> {
    let mut installation = installation("uses-api", 23100)?;
    installation.bring_up()?;
    installation.administrator("administrator")?;
    let native = Native::connect(&installation, "administrator").await?;
    let rings = make_rings(&native).await?;
    let bind = |name: &str, role: &str, ring: &str| {
        format!("{{role: {role}, certificate: {name}, ring: {ring}}}")
    };
    installation.settings_mut().access = vec![
        bind("app", "KeyEncrypter", &rings.mine),
        bind("app", "KeyDecrypter", &rings.mine),
        bind("other", "KeyEncrypter", &rings.others),
        bind("other", "KeyDecrypter", &rings.others),
    ];
    installation.write_configuration()?;
    installation.stop(Program::KeyService)?;
    installation.start(Program::KeyService, &[])?;
    installation.wait_ready(Program::KeyService)?;
    installation.wait_ready(Program::KmsPlugin)?;
    for name in ["app", "other"] {
        installation.administrator(name)?;
    }
    let app = CryptoClient::new(Native::connect(&installation, "app").await?.channel());
    let other = CryptoClient::new(Native::connect(&installation, "other").await?.channel());

    uses_do_not_open_one_another(&installation, app.clone(), &rings).await?;
    refusals_are_alike(app.clone(), other, &rings).await?;
    changes_count_at_the_next_call(&native, app, &rings.mine).await?;
    installation.stop_all()?;
    Ok(std::fs::remove_dir_all(installation.path(""))?)
}

async fn make_rings(native: &Native) -> Result<Rings> {
    let described = native
        .instance()
        .describe(DescribeInstanceRequest {})
        .await?;
    let mut made = Vec::new();
    for name in ["mine", "others"] {
        let request = CreateKeyRingRequest {
            name: name.to_owned(),
            owner: None,
        };
        let ring = native
            .keys()
            .create_key_ring(request)
            .await?
            .into_inner()
            .id;
        let request = CreateKeyRequest {
            ring_id: ring.clone(),
            name: "data".to_owned(),
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
        };
        native.keys().create_key(request).await?;
        made.push(ring);
    }
    let [mine, others] = made.try_into().ok().context("two rings")?;
    Ok(Rings {
        system: described.into_inner().system_ring_id,
        mine,
        others,
    })
}

fn context() -> HashMap<String, String> {
    HashMap::from([("order".to_owned(), "17".to_owned())])
}

async fn seal(client: CryptoClient<Channel>, ring: &str) -> Result<Vec<u8>> {
    Ok(try_seal(client, ring).await?.ciphertext)
}

async fn try_seal(
    mut client: CryptoClient<Channel>,
    ring: &str,
) -> Result<EncryptResponse, Status> {
    let request = EncryptRequest {
        ring_id: ring.to_owned(),
        key: "data".to_owned(),
        plaintext: b"plain".to_vec(),
        plaintext_crc32c: None,
        context: context(),
    };
    Ok(client.encrypt(request).await?.into_inner())
}

fn request(ring: &str, ciphertext: &[u8]) -> DecryptRequest {
    DecryptRequest {
        ring_id: ring.to_owned(),
        ciphertext: ciphertext.to_vec(),
        ciphertext_crc32c: None,
        context: context(),
    }
}

async fn refusal(
    client: &CryptoClient<Channel>,
    request: DecryptRequest,
) -> Result<(Code, Vec<u8>)> {
    let status = client
        .clone()
        .decrypt(request)
        .await
        .err()
        .context("it opened")?;
    let told = [status.message().as_bytes(), status.details()].concat();
    Ok((status.code(), told))
}

async fn uses_do_not_open_one_another(
    installation: &Installation,
    app: CryptoClient<Channel>,
    rings: &Rings,
) -> Result<()> {
    let of_api = seal(app.clone(), &rings.mine).await?;
    let socket = socket::channel(&installation.plugin_socket(), PLUGIN_UID);
    let mut plugin = KeyManagementServiceClient::new(socket);
    let seed = plugin
        .encrypt(SealSeed {
            plaintext: b"seed".to_vec(),
            uid: "story".to_owned(),
        })
        .await?
        .into_inner();
    let as_seed = OpenSeed {
        ciphertext: of_api,
        uid: "story".to_owned(),
        key_id: seed.key_id,
        annotations: seed.annotations,
    };
    let status = plugin.decrypt(as_seed).await.err().context("it opened")?;
    ensure!(status.code() == Code::InvalidArgument, "{status:?}");
    for ring in [&rings.mine, &rings.system] {
        let (code, _) = refusal(&app, request(ring, &seed.ciphertext)).await?;
        ensure!(code == Code::InvalidArgument, "{code:?}");
    }
    Ok(())
}

async fn refusals_are_alike(
    app: CryptoClient<Channel>,
    other: CryptoClient<Channel>,
    rings: &Rings,
) -> Result<()> {
    let sealed = seal(app.clone(), &rings.mine).await?;
    let foreign = seal(other.clone(), &rings.others).await?;
    let opened = app.clone().decrypt(request(&rings.mine, &sealed)).await?;
    ensure!(opened.into_inner().plaintext == b"plain", "the control");

    let flipped = |at: usize| {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        request(&rings.mine, &changed)
    };
    let mut elsewhere = request(&rings.mine, &sealed);
    elsewhere.context.clear();
    let absent_ring = "00".repeat(16);
    let cases = [
        ("changed tag", &app, flipped(sealed.len() - 1)),
        ("changed commitment", &app, flipped(COMMITMENT_AT)),
        ("absent key", &app, flipped(KEY_ID_AT)),
        ("absent ring", &app, request(&absent_ring, &sealed)),
        ("wrong context", &app, elsewhere),
        ("no message", &app, request(&rings.mine, b"no message")),
        ("key of another ring", &app, request(&rings.mine, &foreign)),
        ("not permitted", &app, request(&rings.others, &foreign)),
        (
            "not permitted either",
            &other,
            request(&rings.mine, &sealed),
        ),
    ];
    let expected = (
        Code::InvalidArgument,
        b"the ciphertext cannot be opened".to_vec(),
    );
    for (name, client, request) in cases {
        let told = refusal(client, request).await?;
        ensure!(told == expected, "{name}: {told:?}");
    }
    Ok(())
}

/// The connection has used the version just before each change, so that all of it is in the service's memory.
async fn changes_count_at_the_next_call(
    administrator: &Native,
    mut app: CryptoClient<Channel>,
    ring: &str,
) -> Result<()> {
    let mut keys = administrator.keys();
    let version = |version: &str| ChangeVersionRequest {
        ring_id: ring.to_owned(),
        key: "data".to_owned(),
        etag: String::new(),
        version: version.to_owned(),
    };
    let first = try_seal(app.clone(), ring).await?;
    ensure!(first.version == "1.1", "{}", first.version);
    keys.disable_version(version("1.1")).await?;
    let refused = try_seal(app.clone(), ring).await.err();
    let code = refused.context("a disabled version sealed")?.code();
    ensure!(code == Code::FailedPrecondition, "{code:?}");
    let (code, _) = refusal(&app, request(ring, &first.ciphertext)).await?;
    ensure!(code == Code::FailedPrecondition, "{code:?}");

    keys.enable_version(version("1.1")).await?;
    try_seal(app.clone(), ring).await?;
    let rotate = RotateKeyRequest {
        ring_id: ring.to_owned(),
        key: "data".to_owned(),
        etag: String::new(),
    };
    keys.rotate_key(rotate).await?;
    let second = try_seal(app.clone(), ring).await?;
    ensure!(second.version == "1.2", "{}", second.version);
    for (sealed, primary) in [(&first, false), (&second, true)] {
        let opened = app.decrypt(request(ring, &sealed.ciphertext)).await?;
        let opened = opened.into_inner();
        ensure!(opened.plaintext == b"plain", "{primary}");
        ensure!(opened.used_primary == primary, "{}", opened.version);
    }
    Ok(())
}
