//! Certificates for administrators.

use std::time::Duration;

use strongroom_core::{ContextDigest, Resource, action};

use super::{CallContext, CallError, Detail, Service, detail};

/// Longest life of a certificate.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Shortest life of a certificate.
const LIFETIME_MIN: Duration = Duration::from_secs(60);

/// A certificate to be made.
pub struct CertificateRequest {
    /// The common name.
    pub name: String,
    /// PKCS#10 in PEM.
    pub request_pem: String,
    /// How long it counts.
    pub lifetime: Option<Duration>,
}

/// A certificate that was made.
pub struct IssuedCertificate {
    /// Certificate and intermediate, PEM.
    pub chain_pem: String,
    /// The root that verifies the service, PEM.
    pub root_pem: String,
    /// Lower-case hexadecimal.
    pub serial: String,
}

impl Service {
    /// Signs a client certificate for a name that the configuration lists.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn issue_certificate(
        &self,
        context: &CallContext,
        request: CertificateRequest,
    ) -> Result<IssuedCertificate, CallError> {
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::IssueCertificate>(
                context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        let outcome = self.issue_with(&request);
        self.conclude(context, &permit, outcome).await
    }

    fn issue_with(
        &self,
        request: &CertificateRequest,
    ) -> Result<(IssuedCertificate, Detail), CallError> {
        if !self.certificate_names.contains(&request.name) {
            return Err(CallError::Invalid(format!(
                "the configuration lists no certificate {:?} under administrators or access",
                request.name
            )));
        }
        let lifetime = request.lifetime.unwrap_or(LIFETIME_MAX);
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
            return Err(CallError::Invalid(
                "a certificate counts for 1m to 24h".to_owned(),
            ));
        }
        let signed = self
            .issuer
            .sign_client_request(
                &request.request_pem,
                &request.name,
                lifetime,
                self.clock.now(),
            )
            .map_err(|error| CallError::Invalid(format!("request: {error}")))?;
        let detail = detail([
            ("name", request.name.clone()),
            ("serial", signed.serial.clone()),
            ("lifetime_s", lifetime.as_secs().to_string()),
        ]);
        let root_pem = self.issuer.root_pem();
        Ok((
            IssuedCertificate {
                chain_pem: signed.chain_pem,
                root_pem,
                serial: signed.serial,
            },
            detail,
        ))
    }
}
