//! Pods use keys with their own tokens, as far as the records of key and ring let their accounts.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use strongroom_api::strongroom::v1::{
    AccessRole, Binding, CreateKeyRequest, DecryptRequest, DecryptResponse, EncryptRequest,
    EncryptResponse, KeyAlgorithm, KeyPurpose, crypto_client::CryptoClient,
};
use strongroom_e2e::{issuer::Pod, native::Native, nodes::read_audit};
use tonic::{Code, Response, Status};

use super::support::{DRIVER, LEDGER, OPERATOR, Story, with_token};

/// Another account of the namespace.
const REPORTS: Pod = Pod {
    account: "reports",
    account_uid: "uid-of-reports",
    name: "reports-1",
    ..LEDGER
};

fn bind(role: AccessRole, pod: &Pod) -> Binding {
    Binding {
        role: role.into(),
        service_account: pod.account.to_owned(),
        service_account_uid: pod.account_uid.to_owned(),
    }
}

/// A key of the ring as one caller sees it.
struct Caller<'a> {
    story: &'a Story,
    ring: &'a str,
    token: String,
}

impl Caller<'_> {
    fn encrypt(&self, key: &str) -> Result<Result<EncryptResponse, Status>> {
        let request = EncryptRequest {
            ring_id: self.ring.to_owned(),
            key: key.to_owned(),
            plaintext: b"order 66".to_vec(),
            context: [("order".to_owned(), "66".to_owned())].into(),
            ..EncryptRequest::default()
        };
        let request = with_token(request, &self.token)?;
        self.story.stage.block_on(async {
            let mut client = CryptoClient::new(self.story.connect().await?);
            Ok(client.encrypt(request).await.map(Response::into_inner))
        })
    }

    fn decrypt(&self, ciphertext: &[u8]) -> Result<Result<DecryptResponse, Status>> {
        let request = DecryptRequest {
            ring_id: self.ring.to_owned(),
            ciphertext: ciphertext.to_vec(),
            context: [("order".to_owned(), "66".to_owned())].into(),
            ..DecryptRequest::default()
        };
        let request = with_token(request, &self.token)?;
        self.story.stage.block_on(async {
            let mut client = CryptoClient::new(self.story.connect().await?);
            Ok(client.decrypt(request).await.map(Response::into_inner))
        })
    }
}

#[test]
fn pods_use_keys_as_far_as_the_records_of_key_and_ring_let_them() -> Result<()> {
    let story = Story::up("workloads-keys", 29660)?;
    let (operator, ring) = story.begin(vec![bind(AccessRole::KeyDecrypter, &REPORTS)])?;
    let access = vec![
        bind(AccessRole::KeyEncrypter, &LEDGER),
        bind(AccessRole::KeyDecrypter, &LEDGER),
    ];
    operator.key(&story, None, access)??;
    let as_pod = |pod: &Pod| {
        let token = story.token(&story.east, pod)?;
        anyhow::Ok(Caller {
            story: &story,
            ring: &ring.id,
            token,
        })
    };
    let (ledger, reports) = (as_pod(&LEDGER)?, as_pod(&REPORTS)?);
    let sealed = ledger.encrypt("orders")??;
    ensure!(sealed.version == "1.1");
    let opened = ledger.decrypt(&sealed.ciphertext)??;
    ensure!(opened.plaintext == b"order 66" && opened.used_primary);
    // By its role on the ring, also on keys that are made later.
    ensure!(reports.decrypt(&sealed.ciphertext)??.plaintext == b"order 66");

    let refused = reports.encrypt("orders")?;
    expect(
        refused,
        Code::PermissionDenied,
        "RoleMissing",
        "ServiceAccount payments/reports has no role KeyEncrypter on CryptoKey payments/orders; add it under spec.access",
    )?;
    expect(ledger.encrypt("none")?, Code::NotFound, "", "not found")?;
    keys_of_others_are_not_there(&story, &ring.id, &sealed.ciphertext)?;
    tokens_must_count(&story, &ring.id)?;

    // A role that was taken away counts no more on the next call, over the same connection or another.
    operator.key(&story, None, vec![bind(AccessRole::KeyEncrypter, &LEDGER)])??;
    expect(
        ledger.decrypt(&sealed.ciphertext)?,
        Code::PermissionDenied,
        "RoleMissing",
        "has no role KeyDecrypter on CryptoKey payments/orders",
    )?;
    ensure!(ledger.encrypt("orders")?.is_ok());

    let audit = read_audit(&story.stage)?;
    let record = |parts: &[&str]| {
        let found = audit
            .lines()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found
            .map(drop)
            .with_context(|| format!("no record of {parts:?}"))
    };
    let ledger = "pod:east/payments/ledger-1#uid-ledger-1,account=ledger#uid-of-ledger";
    record(&[
        ledger,
        "\"Encrypt\"",
        "\"Succeeded\"",
        "\"version\":\"1.1\"",
    ])?;
    record(&[ledger, "\"Decrypt\"", "\"Denied\"", "RoleMissing"])?;
    story.down()
}

/// Whoever is of another namespace, another cluster or another kind learns nothing, not even that there is a key.
fn keys_of_others_are_not_there(story: &Story, ring: &str, sealed: &[u8]) -> Result<()> {
    let elsewhere = Pod {
        namespace: "other",
        ..LEDGER
    };
    let anew = Pod {
        account_uid: "uid-of-another",
        ..LEDGER
    };
    for (issuer, pod) in [
        (&story.east, &elsewhere),
        (&story.west, &LEDGER),
        (&story.east, &DRIVER),
        (&story.east, &OPERATOR),
    ] {
        let caller = Caller {
            story,
            ring,
            token: story.token(issuer, pod)?,
        };
        expect(caller.encrypt("orders")?, Code::NotFound, "", "not found")?;
        let opened = caller.decrypt(sealed)?;
        expect(opened, Code::InvalidArgument, "", "cannot be opened")?;
    }
    let caller = Caller {
        story,
        ring,
        token: story.token(&story.east, &anew)?,
    };
    expect(
        caller.encrypt("orders")?,
        Code::PermissionDenied,
        "RoleMissing",
        "has no role KeyEncrypter",
    )?;
    // A ring of the installation's own, of an administrator's, or none: all the same.
    let platform = story.stage.block_on(async {
        let native = Native::connect(&story.stage.installation, "administrator").await?;
        let request = strongroom_api::strongroom::v1::CreateKeyRingRequest {
            name: "platform".to_owned(),
            owner: None,
        };
        let ring = native.keys().create_key_ring(request).await?.into_inner();
        let request = CreateKeyRequest {
            ring_id: ring.id.clone(),
            name: "orders".to_owned(),
            purpose: KeyPurpose::EncryptDecrypt.into(),
            algorithm: KeyAlgorithm::Aes256Gcm.into(),
        };
        native.keys().create_key(request).await?;
        anyhow::Ok(ring.id)
    })?;
    let system = story.stage.native(async |_, ring, _| Ok(ring))?;
    for ring in [platform, system, "00".repeat(16)] {
        let caller = Caller {
            story,
            ring: &ring,
            token: story.token(&story.east, &LEDGER)?,
        };
        for key in ["orders", "etcd"] {
            expect(caller.encrypt(key)?, Code::NotFound, "", "not found")?;
        }
    }
    Ok(())
}

fn tokens_must_count(story: &Story, ring: &str) -> Result<()> {
    let changed = |name: &'static str, value: serde_json::Value| {
        story.token_with(&story.east, &LEDGER, |claims| claims[name] = value)
    };
    for (token, word) in [
        (changed("aud", json!(["other.dev"]))?, "WrongAudience"),
        (
            changed("aud", json!(["strongroom.dev", "other.dev"]))?,
            "WrongAudience",
        ),
        (
            format!("{}x", story.token(&story.east, &LEDGER)?),
            "TokenInvalid",
        ),
    ] {
        let caller = Caller { story, ring, token };
        expect(
            caller.encrypt("orders")?,
            Code::Unauthenticated,
            word,
            "the caller: ",
        )?;
    }
    let expired = story.token_with(&story.east, &LEDGER, |claims| {
        for name in ["iat", "nbf", "exp"] {
            claims[name] = json!(claims[name].as_i64().unwrap_or_default() - 700);
        }
    })?;
    let caller = Caller {
        story,
        ring,
        token: expired,
    };
    expect(
        caller.encrypt("orders")?,
        Code::Unauthenticated,
        "TokenExpired",
        "the token has expired",
    )
}

fn expect<T>(answer: Result<T, Status>, code: Code, word: &str, words: &str) -> Result<()> {
    let status = answer
        .err()
        .with_context(|| format!("not refused: {words}"))?;
    let given = status.metadata().get("strongroom-reason");
    let given = given
        .and_then(|word| word.to_str().ok())
        .unwrap_or_default();
    ensure!(
        status.code() == code && given == word && status.message().contains(words),
        "{status:?} in place of {word} {words}"
    );
    Ok(())
}
