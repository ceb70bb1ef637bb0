//! The port: everything that the key service can ask of a token.

use async_trait::async_trait;
use strongroom_core::{InstanceId, SecretBytes};

use crate::{
    CaCertificateRequest, CheckpointKeyStatement, HsmError, KekPlace, KekRecord, RootEnvelope,
    SignedKekRecord, TokenDescription, TokenSignature,
};

/// A token that belongs to one instance.
///
/// # Guarantees
/// Every call but [`initialize`](Self::initialize) leaves the token as it was, so each can be repeated. `initialize` is
/// idempotent for its instance. A call ends within a deadline of the implementation's choice.
///
/// # Errors
/// [`HsmError::Unavailable`] may pass by itself; the others do not.
#[async_trait]
pub trait Hsm: Send + Sync {
    /// Tells what the token is and holds, as it was seen last; never waits for the token.
    async fn describe(&self) -> Result<TokenDescription, HsmError>;

    /// Makes the keys of an instance in an empty token, or finishes what a crash left of it. Refused when the token has
    /// objects of another instance.
    async fn initialize(&self, instance: InstanceId) -> Result<TokenDescription, HsmError>;

    /// Draws 1 to [`RANDOM_MAX_LEN`](crate::RANDOM_MAX_LEN) bytes in the token.
    async fn random(&self, len: usize) -> Result<SecretBytes, HsmError>;

    /// Wraps a KEK of [`KEK_LEN`](crate::KEK_LEN) bytes under the root, and opens the envelope once to prove it.
    async fn wrap_kek(&self, place: KekPlace, kek: &SecretBytes) -> Result<RootEnvelope, HsmError>;

    /// Signs a record whose envelope of the token's root holds the KEK that the check value tells.
    async fn sign_kek_record(&self, record: KekRecord) -> Result<SignedKekRecord, HsmError>;

    /// Opens the KEK of a record after checking its signature, instance and root.
    async fn unwrap_kek(&self, record: &SignedKekRecord) -> Result<SecretBytes, HsmError>;

    /// Certifies a checkpoint key of an audit log.
    async fn certify_checkpoint_key(
        &self,
        statement: &CheckpointKeyStatement,
    ) -> Result<TokenSignature, HsmError>;

    /// Makes a certificate of the certificate authority and gives its DER.
    async fn sign_ca_certificate(
        &self,
        request: &CaCertificateRequest,
    ) -> Result<Vec<u8>, HsmError>;
}
