//! The three methods of an encryption plugin, without any transport.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use strongroom_runtime::fault;
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use strongroom_api::{
    kubernetes::kms::v2::{DecryptRequest, EncryptRequest, EncryptResponse},
    strongroom::kms::v1::EncryptResponse as SealedSeed,
};

use crate::{
    config::Config,
    probe::{Board, Unusable},
    service::KeyManagement,
    snapshot::{Activation, MAX_CIPHERTEXT_BYTES, Snapshot},
    upstream::{Sealed, Upstream, UpstreamError},
};

/// What the key service seals at most; kube-apiserver sends 32 bytes.
const MAX_SEED_BYTES: usize = 512;
/// kube-apiserver sends a UUID.
const MAX_REQUEST_ID_BYTES: usize = 128;
/// An unknown key id may come from a rotation that this node has not heard of, but not more often than this.
const UNKNOWN_KEY_REFRESH: Duration = Duration::from_secs(1);

/// Why a seed was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum EncryptError {
    /// `Status` is an error too.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// kube-apiserver asked for something that it does not ask for.
    #[error(
        "a plaintext has 1 to {MAX_SEED_BYTES} bytes, and a uid at most {MAX_REQUEST_ID_BYTES}"
    )]
    Request,
    /// The key service failed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The key service's answer is not used.
    #[error("the key service answered with an invalid {0}")]
    Answer(&'static str),
    /// It took too long.
    #[error("the seed was not sealed within {0:?}")]
    Late(Duration),
}

/// Why a seed was not opened.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError {
    /// There was no good probe since the start.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// Nobody here has sealed under this key id, or its version was given up.
    #[error("the key id is not known")]
    UnknownKeyId,
    /// Key id, annotations and ciphertext do not belong together. One text for all reasons.
    #[error("the ciphertext cannot be opened")]
    CannotOpen,
    /// The key service failed.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// It took too long.
    #[error("the seed was not opened within {0:?}")]
    Late(Duration),
}

/// The plugin.
#[derive(Debug)]
pub struct Plugin {
    board: Arc<Board>,
    upstream: Upstream,
    deadline: Duration,
    unknown_refreshed: Mutex<Option<Instant>>,
}

impl KeyManagement for Plugin {
    fn status(&self) -> Result<String, Unusable> {
        Ok(self.board.usable()?.primary.key_id.clone())
    }

    async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, EncryptError> {
        let sealed = timeout(self.deadline, self.seal(request)).await;
        let outcome = sealed.unwrap_or(Err(EncryptError::Late(self.deadline)));
        if matches!(outcome, Err(EncryptError::Upstream(_))) {
            // Status should hear of it before its next probe.
            self.board.nudge();
        }
        fault::point!("plugin.encrypt.before-reply");
        outcome
    }

    async fn decrypt(&self, request: DecryptRequest) -> Result<Vec<u8>, DecryptError> {
        let opened = timeout(self.deadline, self.open(request)).await;
        fault::point!("plugin.decrypt.before-reply");
        opened.unwrap_or(Err(DecryptError::Late(self.deadline)))
    }
}

impl Plugin {
    /// Makes the plugin over what the probe finds.
    pub fn new(config: &Config, board: Arc<Board>, upstream: Upstream) -> Self {
        Self {
            board,
            upstream,
            deadline: config.deadline,
            unknown_refreshed: Mutex::default(),
        }
    }

    async fn seal(&self, request: EncryptRequest) -> Result<EncryptResponse, EncryptError> {
        let EncryptRequest { plaintext, uid } = request;
        let seed = Zeroizing::new(plaintext);
        if seed.is_empty() || seed.len() > MAX_SEED_BYTES || uid.len() > MAX_REQUEST_ID_BYTES {
            return Err(EncryptError::Request);
        }
        loop {
            match self.seal_once(&seed, &uid).await {
                // The new activation is on the board, and so in Status, before it is used here. The deadline ends this
                // should the key be rotated faster than it can be used.
                Err(EncryptError::Upstream(UpstreamError::Moved)) => self.board.refresh().await,
                outcome => return outcome,
            }
        }
    }

    async fn seal_once(
        &self,
        seed: &Zeroizing<Vec<u8>>,
        uid: &str,
    ) -> Result<EncryptResponse, EncryptError> {
        let snapshot = self.board.usable()?;
        let sealed = self.upstream.encrypt(&snapshot, seed, uid).await?;
        answer(&snapshot, sealed)
    }

    async fn open(&self, request: DecryptRequest) -> Result<Vec<u8>, DecryptError> {
        let DecryptRequest {
            ciphertext,
            uid,
            key_id,
            annotations,
        } = request;
        let (snapshot, activation) = self.find(&key_id).await?;
        let fits = (1..=MAX_CIPHERTEXT_BYTES).contains(&ciphertext.len())
            && uid.len() <= MAX_REQUEST_ID_BYTES
            && annotations == snapshot.annotations(&activation);
        if !fits {
            return Err(DecryptError::CannotOpen);
        }
        let sealed = Sealed {
            key_id,
            ciphertext,
            request_id: uid,
            annotations,
        };
        match self.upstream.decrypt(&snapshot, sealed).await {
            Err(UpstreamError::Refused) => Err(DecryptError::CannotOpen),
            outcome => Ok(outcome?),
        }
    }

    /// Finds the activation of a key id; without one, nothing is asked of the key.
    async fn find(&self, key_id: &str) -> Result<(Arc<Snapshot>, Activation), DecryptError> {
        if let Some(found) = self.find_known(key_id)? {
            return Ok(found);
        }
        if self.may_refresh() {
            self.board.refresh().await;
        }
        self.find_known(key_id)?.ok_or(DecryptError::UnknownKeyId)
    }

    fn find_known(&self, key_id: &str) -> Result<Option<(Arc<Snapshot>, Activation)>, Unusable> {
        let snapshot = self.board.last_good()?;
        let activation = snapshot.known(key_id).cloned();
        Ok(activation.map(|activation| (snapshot, activation)))
    }

    fn may_refresh(&self) -> bool {
        let mut last = self
            .unknown_refreshed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= UNKNOWN_KEY_REFRESH);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// Checks what the key service sealed and makes the answer for kube-apiserver, within its limits.
fn answer(snapshot: &Snapshot, sealed: SealedSeed) -> Result<EncryptResponse, EncryptError> {
    let SealedSeed { ciphertext, key_id } = sealed;
    if key_id != snapshot.primary.key_id {
        return Err(EncryptError::Answer("key id"));
    }
    if !(1..=MAX_CIPHERTEXT_BYTES).contains(&ciphertext.len()) {
        return Err(EncryptError::Answer("ciphertext"));
    }
    let annotations = snapshot.annotations(&snapshot.primary);
    Ok(EncryptResponse {
        ciphertext,
        key_id,
        annotations,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{MAX_KEY_ID_BYTES, tests::answer as probe_answer};

    proptest! {
        #[test]
        fn no_answer_leaves_the_limits_of_kube_apiserver(
            length in 0usize..2048,
            key_id in prop_oneof![Just("key-1".to_owned()), "\\PC{0,1100}"],
        ) {
            let snapshot = Snapshot::parse(probe_answer(1, 1, 1)).unwrap();
            let sealed = SealedSeed { ciphertext: vec![7; length], key_id: key_id.clone() };
            let fits = key_id == "key-1" && (1..=MAX_CIPHERTEXT_BYTES).contains(&length);
            match answer(&snapshot, sealed) {
                Ok(response) => {
                    prop_assert!(fits);
                    prop_assert!((1..=MAX_KEY_ID_BYTES).contains(&response.key_id.len()));
                    prop_assert_eq!(response.ciphertext.len(), length);
                }
                Err(_) => prop_assert!(!fits),
            }
        }
    }
}
