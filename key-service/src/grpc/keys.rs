//! `strongroom.v1.Keys`.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::{
    Algorithm, DESTROY_WINDOW_DEFAULT, KeyRole, ProtectionLevel, Purpose, Tenant, Version,
    VersionState,
};
use tonic::{Request, Response, Status};

use super::{
    identity::by_certificate,
    parse::{duration, etag, field, locator, next_page, page_size, page_token, timestamp},
};
use crate::{
    registry::{Ring, RingOwner, StoredHead},
    service::{Adoption, CallError, NewKeyRequest, NewRingRequest, Service, VersionChange},
};

type Answer<T> = Result<Response<T>, Status>;

/// Serves keys over TLS.
pub(crate) struct KeysServer(pub Arc<Service>);

impl KeysServer {
    fn answer(&self, outcome: Result<Arc<StoredHead>, CallError>) -> Answer<wire::Key> {
        outcome
            .map(|stored| Response::new(key(&self.0, &stored)))
            .map_err(CallError::into_status)
    }
}

pub(super) fn key(service: &Service, stored: &StoredHead) -> wire::Key {
    let StoredHead { head, seq } = stored;
    let primary = head.primary();
    wire::Key {
        id: head.id.to_string(),
        ring_id: head.ring.to_string(),
        name: head.name.to_string(),
        purpose: match head.purpose {
            Purpose::EncryptDecrypt => wire::KeyPurpose::EncryptDecrypt,
        }
        .into(),
        algorithm: match head.algorithm {
            Algorithm::Aes256Gcm => wire::KeyAlgorithm::Aes256Gcm,
        }
        .into(),
        protection_level: match head.protection {
            ProtectionLevel::HsmWrapped => wire::ProtectionLevel::HsmWrapped,
        }
        .into(),
        created: Some(timestamp(head.created)),
        primary_version: primary.version.to_string(),
        versions: head.versions.iter().map(version).collect(),
        etag: seq.to_string(),
        activation: primary.number,
        key_id_hash: match head.role {
            KeyRole::Api | KeyRole::Secrets => String::new(),
            KeyRole::Etcd => service.key_id_hash(head),
        },
    }
}

fn version(version: &Version) -> wire::KeyVersion {
    let (state, window_ends) = match version.state {
        VersionState::Enabled => (wire::KeyVersionState::Enabled, None),
        VersionState::Disabled => (wire::KeyVersionState::Disabled, None),
        VersionState::DestroyScheduled { window_ends } => {
            (wire::KeyVersionState::DestroyScheduled, Some(window_ends))
        }
    };
    wire::KeyVersion {
        version: version.id.to_string(),
        state: state.into(),
        created: Some(timestamp(version.created)),
        destroy_window_ends: window_ends.map(timestamp),
    }
}

pub(super) fn ring(ring: &Ring) -> wire::KeyRing {
    wire::KeyRing {
        id: ring.id.to_string(),
        name: ring.name.to_string(),
        owner: Some(ring.owner.as_ref().map_or_else(Default::default, owner)),
        created: Some(timestamp(ring.created)),
    }
}

fn owner(owner: &RingOwner) -> wire::Owner {
    wire::Owner {
        cluster: owner.tenant.cluster.to_string(),
        namespace: owner.tenant.namespace.to_string(),
        namespace_uid: owner.namespace_uid.to_string(),
    }
}

fn parse_owner(owner: &wire::Owner) -> Result<RingOwner, Status> {
    Ok(RingOwner {
        tenant: Tenant {
            cluster: field("owner.cluster", &owner.cluster)?,
            namespace: field("owner.namespace", &owner.namespace)?,
        },
        namespace_uid: field("owner.namespace_uid", &owner.namespace_uid)?,
    })
}

fn change(request: &wire::ChangeVersionRequest) -> Result<VersionChange, Status> {
    Ok(VersionChange {
        ring: field("ring_id", &request.ring_id)?,
        key: locator(&request.key)?,
        version: field("version", &request.version)?,
        etag: etag(&request.etag)?,
    })
}

#[tonic::async_trait]
impl wire::keys_server::Keys for KeysServer {
    async fn create_key_ring(
        &self,
        request: Request<wire::CreateKeyRingRequest>,
    ) -> Answer<wire::KeyRing> {
        let context = by_certificate(&request)?;
        let request = request.into_inner();
        let new = NewRingRequest {
            name: field("name", &request.name)?,
            owner: request.owner.as_ref().map(parse_owner).transpose()?,
            access: Vec::new(),
            holder: None,
        };
        let made = self
            .0
            .create_ring(&context, new)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(ring(&made)))
    }

    async fn list_key_rings(
        &self,
        request: Request<wire::ListKeyRingsRequest>,
    ) -> Answer<wire::ListKeyRingsResponse> {
        let context = by_certificate(&request)?;
        let wire::ListKeyRingsRequest {
            page_size: size,
            page_token: token,
        } = request.into_inner();
        let limit = page_size(size)?;
        let rings = self
            .0
            .list_rings(&context, page_token(&token)?, limit)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(wire::ListKeyRingsResponse {
            next_page_token: next_page(&rings, limit, |ring| ring.id.to_string()),
            rings: rings.iter().map(|it| ring(it)).collect(),
        }))
    }

    async fn adopt_key_ring(
        &self,
        request: Request<wire::AdoptKeyRingRequest>,
    ) -> Answer<wire::KeyRing> {
        let context = by_certificate(&request)?;
        let wire::AdoptKeyRingRequest {
            name,
            owner,
            reason,
        } = request.into_inner();
        let owner = owner.ok_or_else(|| Status::invalid_argument("owner: is required"))?;
        let cluster = Some(&owner.cluster).filter(|name| !name.is_empty());
        let adoption = Adoption {
            name: field("name", &name)?,
            cluster: cluster.map(|it| field("owner.cluster", it)).transpose()?,
            namespace: field("owner.namespace", &owner.namespace)?,
            namespace_uid: field("owner.namespace_uid", &owner.namespace_uid)?,
            reason: field("reason", &reason)?,
        };
        let adopted = self.0.adopt_ring(&context, &adoption).await;
        let adopted = adopted.map_err(CallError::into_status)?;
        Ok(Response::new(ring(&adopted)))
    }

    async fn create_key(&self, request: Request<wire::CreateKeyRequest>) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let request = request.into_inner();
        let new = NewKeyRequest {
            ring: field("ring_id", &request.ring_id)?,
            name: field("name", &request.name)?,
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
            access: Vec::new(),
            holder: None,
            rotation: None,
        };
        self.answer(self.0.create_key(&context, new).await)
    }

    async fn describe_key(&self, request: Request<wire::DescribeKeyRequest>) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let wire::DescribeKeyRequest { ring_id, key } = request.into_inner();
        self.answer(
            self.0
                .describe_key(&context, field("ring_id", &ring_id)?, &locator(&key)?)
                .await,
        )
    }

    async fn list_keys(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> Answer<wire::ListKeysResponse> {
        let context = by_certificate(&request)?;
        let wire::ListKeysRequest {
            ring_id,
            page_size: size,
            page_token: token,
        } = request.into_inner();
        let limit = page_size(size)?;
        let listed = self
            .0
            .list_keys(
                &context,
                field("ring_id", &ring_id)?,
                page_token(&token)?,
                limit,
            )
            .await;
        let keys = listed.map_err(CallError::into_status)?;
        Ok(Response::new(wire::ListKeysResponse {
            next_page_token: next_page(&keys, limit, |stored| stored.head.id.to_string()),
            keys: keys.iter().map(|stored| key(&self.0, stored)).collect(),
        }))
    }

    async fn rotate_key(&self, request: Request<wire::RotateKeyRequest>) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let wire::RotateKeyRequest {
            ring_id,
            key,
            etag: tag,
        } = request.into_inner();
        let (ring, key, tag) = (field("ring_id", &ring_id)?, locator(&key)?, etag(&tag)?);
        self.answer(self.0.rotate_key(&context, ring, &key, tag).await)
    }

    async fn set_primary_version(
        &self,
        request: Request<wire::SetPrimaryVersionRequest>,
    ) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let wire::SetPrimaryVersionRequest {
            ring_id,
            key,
            etag,
            version,
        } = request.into_inner();
        let change = change(&wire::ChangeVersionRequest {
            ring_id,
            key,
            etag,
            version,
        })?;
        self.answer(self.0.set_primary_version(&context, &change).await)
    }

    async fn enable_version(
        &self,
        request: Request<wire::ChangeVersionRequest>,
    ) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let change = change(request.get_ref())?;
        self.answer(self.0.enable_version(&context, &change).await)
    }

    async fn disable_version(
        &self,
        request: Request<wire::ChangeVersionRequest>,
    ) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let change = change(request.get_ref())?;
        self.answer(self.0.disable_version(&context, &change).await)
    }

    async fn schedule_version_destruction(
        &self,
        request: Request<wire::ScheduleVersionDestructionRequest>,
    ) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let wire::ScheduleVersionDestructionRequest {
            ring_id,
            key,
            etag,
            version,
            window,
        } = request.into_inner();
        let change = change(&wire::ChangeVersionRequest {
            ring_id,
            key,
            etag,
            version,
        })?;
        let window = match window {
            Some(window) => duration("window", window)?,
            None => DESTROY_WINDOW_DEFAULT,
        };
        self.answer(self.0.schedule_destruction(&context, &change, window).await)
    }

    async fn cancel_version_destruction(
        &self,
        request: Request<wire::ChangeVersionRequest>,
    ) -> Answer<wire::Key> {
        let context = by_certificate(&request)?;
        let change = change(request.get_ref())?;
        self.answer(self.0.cancel_destruction(&context, &change).await)
    }
}
