//! Plugins on other nodes: an invitation, and the first certificate for its secret; `certificates` has what comes after. The
//! decisions are pure steps in `strongroom_core`; here they become changes.
//!
//! Whoever shows neither a secret nor a certificate that ever was ours is a counter; everybody else is in the audit log.

mod certificates;
mod credential;
mod metrics;
mod secret;

pub use credential::CredentialError;
pub use metrics::EnrolmentMetrics;
use std::time::Duration;

use strongroom_core::{
    Action, Caller, ContextDigest, Invitation, NodeCertificate, NodeIdentity, NodeRecord, Permit,
    RedeemError, Resource, SecretBytes, UnixMillis, action,
};

use self::secret::Secret;
use super::{CallContext, CallError, Detail, Service, detail};
use crate::{
    pki::{NodeRequest, SignedForNode},
    registry::{Change, StoredNode},
    trail::Origin,
};

/// For how long a secret may be used: long enough to carry a file to another node by hand.
const INVITATION_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Identities of one instance. Each is one record in memory and in the store; no cluster has so many control planes.
const NODES_MAX: usize = 1000;
/// How often a step is decided anew because the record changed under it.
const ATTEMPTS: usize = 8;

/// What an administrator carries to the node.
pub struct NodeInvitation {
    /// Which identity.
    pub identity: NodeIdentity,
    /// The secret, as text. It is nowhere else.
    pub secret: SecretBytes,
    /// It counts before this moment.
    pub expires: UnixMillis,
    /// SHA-256 of the root certificate.
    pub root_digest: [u8; 32],
    /// Where plugins connect, as the configuration says.
    pub endpoints: Vec<String>,
}

/// A certificate for a node.
pub struct IssuedNodeCertificate {
    /// Certificate and intermediate, PEM.
    pub chain_pem: String,
    /// The certificate.
    pub certificate: NodeCertificate,
}

impl From<SignedForNode> for IssuedNodeCertificate {
    fn from(signed: SignedForNode) -> Self {
        let SignedForNode {
            chain_pem,
            certificate,
        } = signed;
        Self {
            chain_pem,
            certificate,
        }
    }
}

impl Service {
    /// Makes a secret with which a node can be enrolled once.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn invite_node(
        &self,
        context: &CallContext,
        identity: NodeIdentity,
    ) -> Result<NodeInvitation, CallError> {
        let permit = self.permit::<action::InviteNode>(context).await?;
        let outcome = self.invite_with(context, &permit, identity).await;
        self.conclude_change(context, &permit, outcome).await
    }

    async fn invite_with(
        &self,
        context: &CallContext,
        permit: &Permit<action::InviteNode>,
        identity: NodeIdentity,
    ) -> Result<NodeInvitation, CallError> {
        let endpoints = self.plugin_endpoints.clone().ok_or(CallError::NoPlugins)?;
        let stored = self.registry.node(&identity);
        if stored.is_none() && self.registry.count_nodes(permit) >= NODES_MAX {
            return Err(CallError::TooManyNodes);
        }
        let secret = Secret::draw();
        let invitation = Invitation {
            secret: secret.hash(self.registry.instance().id, &identity),
            expires: self.time.now().plus(INVITATION_LIFETIME),
        };
        let expires = invitation.expires;
        let (record, seq) = match stored.as_deref().cloned() {
            Some(StoredNode { record, seq }) => (record, Some(seq)),
            None => (NodeRecord::new(identity.clone()), None),
        };
        let change = Change::default().node(&record.invited(invitation), seq);
        let told = detail([
            ("node", identity.to_string()),
            ("expires_ms", expires.to_string()),
        ]);
        self.registry
            .commit(permit, change, &context.origin, told)
            .await?;
        Ok(NodeInvitation {
            identity,
            secret: secret.into_text(),
            expires,
            root_digest: self.issuer.root_digest(),
            endpoints,
        })
    }

    /// Uses a secret up for the first certificate of a node.
    ///
    /// # Errors
    /// See `CallError`; what a stranger tries is only counted.
    pub async fn enrol_node(
        &self,
        origin: Origin,
        identity: NodeIdentity,
        secret: &str,
        request_pem: &str,
    ) -> Result<IssuedNodeCertificate, CallError> {
        let context = CallContext {
            caller: Caller::Enrolment(identity.clone()),
            origin,
        };
        let hash = Secret::parse(secret)
            .map(|secret| secret.hash(self.registry.instance().id, &identity))
            .ok_or_else(|| self.refuse_stranger())?;
        for _ in 0..ATTEMPTS {
            let stored = self.registry.node(&identity);
            let stored = stored.ok_or_else(|| self.refuse_stranger())?;
            if let Err(error) = stored.record.redeem(&hash, self.time.now()) {
                return Err(self.refuse_secret(&context, error).await);
            }
            let permit = self.permit::<action::EnrolNode>(&context).await?;
            let outcome = self
                .enrol_with(&context, &permit, &stored, request_pem)
                .await;
            if !matches!(outcome, Err(CallError::Stale)) {
                return self.conclude_change(&context, &permit, outcome).await;
            }
        }
        Err(CallError::Stale)
    }

    async fn enrol_with(
        &self,
        context: &CallContext,
        permit: &Permit<action::EnrolNode>,
        stored: &StoredNode,
        request_pem: &str,
    ) -> Result<IssuedNodeCertificate, CallError> {
        let signed = self.sign_for(&stored.record.identity, &parse(request_pem)?)?;
        let record = stored.record.clone().enrolled(signed.certificate.clone());
        let told = certificate_detail(&record.identity, &signed.certificate);
        let change = Change::default().node(&record, Some(stored.seq));
        self.registry
            .commit(permit, change, &context.origin, told)
            .await?;
        Ok(signed.into())
    }

    fn sign_for(
        &self,
        identity: &NodeIdentity,
        request: &NodeRequest,
    ) -> Result<SignedForNode, CallError> {
        let instance = self.registry.instance().id;
        self.issuer
            .sign_node_request(request, instance, identity, self.clock.now())
            .map_err(|error| CallError::Unavailable {
                what: "the certificate authority",
                source: Box::new(error),
            })
    }

    async fn permit<A: Action>(&self, context: &CallContext) -> Result<Permit<A>, CallError> {
        let resource = Resource::Instance;
        let none = ContextDigest::default();
        self.admit::<A>(context, &resource, Some(resource.clone()), none)
            .await
    }

    fn refuse_stranger(&self) -> CallError {
        let error = CredentialError::SecretUnknown;
        self.enrolment_metrics.refused(error);
        CallError::Credential(error)
    }

    /// A secret that was ours once is worth a record; any other is a counter.
    async fn refuse_secret(&self, context: &CallContext, error: RedeemError) -> CallError {
        let error = match error {
            RedeemError::Unknown => return self.refuse_stranger(),
            RedeemError::Used => CredentialError::SecretUsed,
            RedeemError::Expired => CredentialError::SecretExpired,
        };
        self.refuse_credential::<action::EnrolNode>(context, error)
            .await
    }

    /// Counts and records that a caller is known, but is not let in.
    pub(crate) async fn refuse_credential<A: Action>(
        &self,
        context: &CallContext,
        error: CredentialError,
    ) -> CallError {
        self.enrolment_metrics.refused(error);
        let error = CallError::Credential(error);
        self.record_failure::<A>(context, &Resource::Instance, &error)
            .await;
        error
    }
}

fn parse(request_pem: &str) -> Result<NodeRequest, CallError> {
    NodeRequest::parse(request_pem)
        .map_err(|error| CallError::Invalid(format!("request_pem: {error}")))
}

fn certificate_detail(identity: &NodeIdentity, certificate: &NodeCertificate) -> Detail {
    detail([
        ("node", identity.to_string()),
        ("serial", certificate.serial.clone()),
        ("not_after_ms", certificate.not_after.to_string()),
    ])
}
