//! An API server's signer of service account tokens, for stories that need no cluster: tokens as kubelets get them, each claim
//! changeable.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use strongroom_core::Clock;
use strongroom_runtime::SystemClock;

/// A cluster's key and what its tokens say.
pub struct Issuer {
    key: EcdsaKeyPair,
    issuer: String,
}

/// Whom a token is for. Uids are `uid-` and the name, unless they are set.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: &'static str,
    /// The account.
    pub account: &'static str,
    /// The account's uid.
    pub account_uid: &'static str,
    /// The pod.
    pub name: &'static str,
    /// The node.
    pub node: &'static str,
}

impl Pod {
    /// The pod's uid.
    #[must_use]
    pub fn uid(&self) -> String {
        format!("uid-{}", self.name)
    }
}

/// How long the tokens of kubelets count.
const LIFETIME: Duration = Duration::from_secs(600);

impl Issuer {
    /// A cluster with a key of its own.
    ///
    /// # Errors
    /// Without a random generator.
    pub fn new(issuer: &str) -> Result<Self> {
        Ok(Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            issuer: issuer.to_owned(),
        })
    }

    /// Its keys as `/openid/v1/jwks` gives them.
    #[must_use]
    pub fn jwks(&self) -> String {
        let point = &self.key.public_key().as_ref()[1..];
        let (x, y) = point.split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id(),
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    fn key_id(&self) -> String {
        format!(
            "key-of-{}",
            hex::encode(&self.key.public_key().as_ref()[1..9])
        )
    }

    /// The token of a pod, for the audience of the product.
    ///
    /// # Errors
    /// As `token_for`.
    pub fn token(&self, pod: &Pod) -> Result<String> {
        self.token_with(pod, LIFETIME, |_| {})
    }

    /// A token with another lifetime and other claims.
    ///
    /// # Errors
    /// Without a random generator.
    pub fn token_with(
        &self,
        pod: &Pod,
        lifetime: Duration,
        change: impl FnOnce(&mut Value),
    ) -> Result<String> {
        let now = SystemClock.now().as_i64() / 1000;
        let mut claims = json!({
            "iss": self.issuer,
            "aud": ["strongroom.dev"],
            "iat": now, "nbf": now, "exp": now + i64::try_from(lifetime.as_secs())?,
            "jti": format!("token-of-{}", pod.name),
            "sub": format!("system:serviceaccount:{}:{}", pod.namespace, pod.account),
            "kubernetes.io": {
                "namespace": pod.namespace,
                "serviceaccount": {"name": pod.account, "uid": pod.account_uid},
                "pod": {"name": pod.name, "uid": pod.uid()},
                "node": {"name": pod.node, "uid": format!("uid-{}", pod.node)},
            },
        });
        change(&mut claims);
        let header = json!({"alg": "ES256", "kid": self.key_id()});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.ok().context("the key signs")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
