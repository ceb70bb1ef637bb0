//! Parts of the operator's messages, from and to what the service works with.

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::{AccessBinding, AccessRole, Algorithm, Fence, ObjectId, ObjectName, Purpose};
use tonic::Status;

use super::rotation;
use crate::{
    grpc::{parse::field, secrets::parse_source},
    service::{
        ApplyOutcome, CallError, ObjectRef, ObjectType, Operator, WantedKey, WantedRing,
        WantedSecret,
    },
};

/// An error with its word, whatever it is.
pub(super) fn worded(error: CallError) -> Status {
    let word = error.code();
    CallError::with_word(error.into_status(), word)
}

/// A message that is wrong in itself.
pub(super) fn invalid(status: Status) -> Status {
    CallError::with_word(status, "Invalid")
}

pub(super) fn fence(given: Option<&wire::Fence>) -> Result<Fence, Status> {
    let given = given.ok_or_else(|| Status::invalid_argument("fence: is required"))?;
    Ok(Fence {
        epoch: given.control_epoch,
        process: field("fence.process", &given.process)?,
    })
}

pub(super) fn object(
    operator: &Operator,
    given: Option<&wire::ObjectRef>,
) -> Result<ObjectRef, Status> {
    let given = given.ok_or_else(|| Status::invalid_argument("object: is required"))?;
    let wire::ObjectRef {
        namespace,
        namespace_uid,
        name,
        uid,
    } = given;
    let namespace = field("object.namespace", namespace)?;
    let namespace_uid = field("object.namespace_uid", namespace_uid)?;
    Ok(ObjectRef {
        owner: operator.owner(namespace, namespace_uid),
        name: field("object.name", name)?,
        uid: field("object.uid", uid)?,
    })
}

pub(super) fn kind(kind: wire::ObjectKind) -> Result<ObjectType, Status> {
    match kind {
        wire::ObjectKind::KeyRing => Ok(ObjectType::KeyRing),
        wire::ObjectKind::CryptoKey => Ok(ObjectType::CryptoKey),
        wire::ObjectKind::ManagedSecret => Ok(ObjectType::ManagedSecret),
        wire::ObjectKind::SecretBundle => Ok(ObjectType::SecretBundle),
        wire::ObjectKind::Unspecified => Err(Status::invalid_argument("kind: is required")),
    }
}

pub(super) fn ring(request: &wire::ApplyKeyRingRequest) -> Result<WantedRing, Status> {
    let access = access(request.keep_access, &request.access, &AccessRole::ALL)?;
    Ok(WantedRing { access })
}

pub(super) fn key(request: &wire::ApplyKeyRequest) -> Result<WantedKey, Status> {
    let roles = [AccessRole::KeyEncrypter, AccessRole::KeyDecrypter];
    Ok(WantedKey {
        ring: field("ring", &request.ring)?,
        purpose: match request.purpose() {
            wire::KeyPurpose::EncryptDecrypt => Purpose::EncryptDecrypt,
            wire::KeyPurpose::Unspecified => {
                return Err(Status::invalid_argument("purpose: is required"));
            }
        },
        algorithm: match request.algorithm() {
            wire::KeyAlgorithm::Aes256Gcm => Algorithm::Aes256Gcm,
            wire::KeyAlgorithm::Unspecified => {
                return Err(Status::invalid_argument("algorithm: is required"));
            }
        },
        access: access(request.keep_access, &request.access, &roles)?,
        rotation: rotation::schedule(request.rotation.clone())?,
    })
}

pub(super) fn secret(request: wire::ApplySecretRequest) -> Result<WantedSecret, Status> {
    let roles = [AccessRole::SecretReader];
    Ok(WantedSecret {
        ring: field("ring", &request.ring)?,
        access: access(request.keep_access, &request.access, &roles)?,
        rotation: rotation::schedule(request.rotation)?,
        source: parse_source(request.source)?,
    })
}

/// Bindings with the roles that there are on a kind of object; none leaves them as they are.
fn access(
    keep: bool,
    access: &[wire::Binding],
    roles: &[AccessRole],
) -> Result<Option<Vec<AccessBinding>>, Status> {
    if keep {
        return Ok(None);
    }
    let bindings = access.iter().map(|given| binding(given, roles));
    bindings.collect::<Result<_, _>>().map(Some)
}

fn binding(given: &wire::Binding, roles: &[AccessRole]) -> Result<AccessBinding, Status> {
    let role = match given.role() {
        wire::AccessRole::KeyEncrypter => Some(AccessRole::KeyEncrypter),
        wire::AccessRole::KeyDecrypter => Some(AccessRole::KeyDecrypter),
        wire::AccessRole::SecretReader => Some(AccessRole::SecretReader),
        wire::AccessRole::Unspecified => None,
    };
    let role = role.filter(|role| roles.contains(role)).ok_or_else(|| {
        let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        Status::invalid_argument(format!("access.role: one of {}", names.join(", ")))
    })?;
    Ok(AccessBinding {
        role,
        account: ObjectId {
            name: field("access.service_account", &given.service_account)?,
            uid: field("access.service_account_uid", &given.service_account_uid)?,
        },
    })
}

pub(super) const fn outcome(outcome: ApplyOutcome) -> wire::ApplyOutcome {
    match outcome {
        ApplyOutcome::Unchanged => wire::ApplyOutcome::Unchanged,
        ApplyOutcome::Created => wire::ApplyOutcome::Created,
        ApplyOutcome::Updated => wire::ApplyOutcome::Updated,
        ApplyOutcome::Adopted => wire::ApplyOutcome::Adopted,
    }
}

pub(super) fn names(names: &[ObjectName]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}
