//! What a node's certificate is worth at each call, the next one for the newest, and the end of an identity of which there
//! is a copy.

use strongroom_core::{
    Caller, Job, NextCertificate, NodeCredential, Permit, Renewal, Revocation, RevocationCause,
    Standing, action,
};

use super::{ATTEMPTS, CredentialError, IssuedNodeCertificate, certificate_detail, parse};
use strongroom_runtime::Chain;

use crate::{
    pki::NodeRequest,
    registry::{Change, StoredNode},
    service::{CallContext, CallError, Service, detail},
    trail::Origin,
};

impl Service {
    /// Says who a plugin is at each call. The first use of a renewed certificate makes it the newest.
    ///
    /// # Errors
    /// `CallError::Credential` when the certificate does not count any more.
    pub async fn admit_node(
        &self,
        credential: NodeCredential,
        origin: Origin,
    ) -> Result<CallContext, CallError> {
        let context = CallContext {
            caller: Caller::KmsPlugin(credential.clone()),
            origin,
        };
        for _ in 0..ATTEMPTS {
            let stored = self.registry.node(&credential.identity);
            let refused = match standing(stored.as_deref(), &credential) {
                Standing::Newest => return Ok(context),
                Standing::Next => None,
                Standing::Superseded => Some(CredentialError::Superseded),
                Standing::Revoked => Some(CredentialError::Revoked),
            };
            if let Some(error) = refused {
                return Err(self
                    .refuse_credential::<action::ConfirmNodeCertificate>(&context, error)
                    .await);
            }
            match self.confirm(&context, stored.as_deref()).await {
                Ok(()) => return Ok(context),
                Err(CallError::Stale) => {}
                // The certificate is ours and may be used; that it is the newest is written down at another call.
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "a renewed certificate is used and not confirmed yet");
                    return Ok(context);
                }
            }
        }
        Err(CallError::Stale)
    }

    async fn confirm(
        &self,
        context: &CallContext,
        stored: Option<&StoredNode>,
    ) -> Result<(), CallError> {
        let Some(StoredNode { record, seq }) = stored.cloned() else {
            return Err(CallError::Stale);
        };
        let permit = self
            .permit::<action::ConfirmNodeCertificate>(context)
            .await?;
        let record = record.confirmed();
        let told = detail([("node", record.identity.to_string())]);
        let change = Change::default().node(&record, Some(seq));
        self.registry
            .commit(&permit, change, &context.origin, told)
            .await?;
        Ok(())
    }

    /// Gives the next certificate to the holder of the newest, or ends the identity of which there is a copy.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn renew_node(
        &self,
        credential: NodeCredential,
        origin: Origin,
        request_pem: &str,
    ) -> Result<IssuedNodeCertificate, CallError> {
        let context = CallContext {
            caller: Caller::KmsPlugin(credential.clone()),
            origin,
        };
        let permit = self
            .permit::<action::RenewNodeCertificate>(&context)
            .await?;
        let request = match parse(request_pem) {
            Ok(request) => request,
            Err(error) => return self.conclude_change(&context, &permit, Err(error)).await,
        };
        for _ in 0..ATTEMPTS {
            let outcome = self
                .renew_with(&context, &permit, &credential, &request)
                .await;
            if !matches!(outcome, Err(CallError::Stale)) {
                return self.conclude_change(&context, &permit, outcome).await;
            }
        }
        Err(CallError::Stale)
    }

    async fn renew_with(
        &self,
        context: &CallContext,
        permit: &Permit<action::RenewNodeCertificate>,
        credential: &NodeCredential,
        request: &NodeRequest,
    ) -> Result<IssuedNodeCertificate, CallError> {
        let stored = self.registry.node(&credential.identity);
        // A certificate of ours without a record: an older store was put back. Nobody can be told from a thief.
        let stored = stored.ok_or(CallError::Credential(CredentialError::Superseded))?;
        if standing(Some(&stored), credential) == Standing::Next {
            self.confirm(context, Some(&stored)).await?;
            return Err(CallError::Stale);
        }
        match stored
            .record
            .renewal(&credential.serial, request.key_digest())
        {
            Renewal::Again(next) => {
                let told = certificate_detail(&credential.identity, &next.certificate);
                let again = IssuedNodeCertificate {
                    chain_pem: next.chain_pem.clone(),
                    certificate: next.certificate.clone(),
                };
                self.conclude(context, permit, Ok((again, told))).await
            }
            Renewal::Refuse => Err(CallError::Credential(CredentialError::Revoked)),
            Renewal::Revoke(cause) => {
                self.revoke(context, &stored, credential, cause).await?;
                Err(CallError::Credential(CredentialError::Revoked))
            }
            Renewal::Issue => {
                let signed = self.sign_for(&stored.record.identity, request)?;
                let record = stored.record.clone().renewed(NextCertificate {
                    certificate: signed.certificate.clone(),
                    chain_pem: signed.chain_pem.clone(),
                });
                let told = certificate_detail(&record.identity, &signed.certificate);
                let change = Change::default().node(&record, Some(stored.seq));
                self.registry
                    .commit(permit, change, &context.origin, told)
                    .await?;
                Ok(signed.into())
            }
        }
    }

    /// Ends an identity. The alarm is the change's audit record, a metric, a condition of `status` and a line of the log.
    async fn revoke(
        &self,
        context: &CallContext,
        stored: &StoredNode,
        credential: &NodeCredential,
        cause: RevocationCause,
    ) -> Result<(), CallError> {
        let by_us = CallContext {
            caller: Caller::System(Job::Revoke),
            origin: context.origin.clone(),
        };
        let permit = self.permit::<action::RevokeNode>(&by_us).await?;
        let newest = stored.record.newest.as_ref();
        let told = detail([
            ("node", credential.identity.to_string()),
            ("cause", cause.as_str().to_owned()),
            ("serial", credential.serial.clone()),
            (
                "newest",
                newest.map(|it| it.serial.clone()).unwrap_or_default(),
            ),
        ]);
        let record = stored.record.clone().revoked(Revocation {
            at: self.time.now(),
            cause,
            serial: credential.serial.clone(),
        });
        let change = Change::default().node(&record, Some(stored.seq));
        self.registry
            .commit(&permit, change, &context.origin, told)
            .await?;
        self.enrolment_metrics.revoked();
        let (identity, serial) = (&credential.identity, &credential.serial);
        tracing::error!(%identity, serial, cause = cause.as_str(), "there is a copy of a node's key; its identity was revoked");
        Ok(())
    }
}

fn standing(stored: Option<&StoredNode>, credential: &NodeCredential) -> Standing {
    stored.map_or(Standing::Superseded, |stored| {
        stored.record.standing(&credential.serial)
    })
}
