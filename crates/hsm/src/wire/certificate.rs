//! Requests for certificates of the certificate authority.

use strongroom_api::strongroom::hsm::v1::{self as pb, sign_ca_certificate_request::Subject};

use super::{MalformedField, instance, present};
use crate::{CaCertificateRequest, CaSubject, Validity};

impl From<&CaCertificateRequest> for pb::SignCaCertificateRequest {
    fn from(request: &CaCertificateRequest) -> Self {
        let CaCertificateRequest {
            instance,
            subject,
            validity,
        } = request;
        let intermediate = |key: &[u8]| pb::CaIntermediate {
            subject_public_key_info: key.to_vec(),
        };
        let subject = match subject {
            CaSubject::Root => Subject::Root(pb::CaRoot {}),
            CaSubject::ServerIntermediate { public_key } => {
                Subject::ServerIntermediate(intermediate(public_key))
            }
            CaSubject::ClientIntermediate { public_key } => {
                Subject::ClientIntermediate(intermediate(public_key))
            }
        };
        Self {
            instance_id: instance.as_bytes().to_vec(),
            subject: Some(subject),
            not_before_s: validity.not_before_s(),
            not_after_s: validity.not_after_s(),
        }
    }
}

impl TryFrom<pb::SignCaCertificateRequest> for CaCertificateRequest {
    type Error = MalformedField;

    fn try_from(message: pb::SignCaCertificateRequest) -> Result<Self, MalformedField> {
        let pb::SignCaCertificateRequest {
            instance_id,
            subject,
            not_before_s,
            not_after_s,
        } = message;
        let subject = match present("subject", subject)? {
            Subject::Root(pb::CaRoot {}) => CaSubject::Root,
            Subject::ServerIntermediate(intermediate) => CaSubject::ServerIntermediate {
                public_key: intermediate.subject_public_key_info,
            },
            Subject::ClientIntermediate(intermediate) => CaSubject::ClientIntermediate {
                public_key: intermediate.subject_public_key_info,
            },
        };
        let validity = Validity::new(not_before_s, not_after_s)
            .map_err(|error| MalformedField::new("not_after_s", error))?;
        if validity.length_s() > subject.longest_s() {
            let problem = format!("longer than {} days", subject.longest_s() / 86_400);
            return Err(MalformedField::new("not_after_s", problem));
        }
        Ok(Self {
            instance: instance(&instance_id)?,
            subject,
            validity,
        })
    }
}

#[cfg(test)]
mod tests {
    use strongroom_core::InstanceId;

    use super::*;

    fn request(subject: CaSubject, not_after_s: i64) -> CaCertificateRequest {
        CaCertificateRequest {
            instance: InstanceId::from_bytes([1; 16]),
            subject,
            validity: Validity::new(0, not_after_s).unwrap(),
        }
    }

    #[test]
    fn a_request_reads_back_what_it_wrote() {
        let key = || vec![1, 2, 3];
        for subject in [
            CaSubject::Root,
            CaSubject::ServerIntermediate { public_key: key() },
            CaSubject::ClientIntermediate { public_key: key() },
        ] {
            let request = request(subject, 60);
            let message = pb::SignCaCertificateRequest::from(&request);
            assert_eq!(CaCertificateRequest::try_from(message), Ok(request));
        }
    }

    #[test]
    fn a_certificate_for_ever_is_refused() {
        let message = pb::SignCaCertificateRequest::from(&request(CaSubject::Root, i64::MAX));
        let error = CaCertificateRequest::try_from(message).unwrap_err();
        assert_eq!(error.to_string(), "not_after_s: longer than 7320 days");
    }
}
