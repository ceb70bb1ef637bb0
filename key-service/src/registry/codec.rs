//! Records as the store holds them, from and to the types of the core. Parsing refuses what this version does not know.

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{
    AccessRole, Activation, Algorithm, Generation, InstanceId, KeyHead, KeyId, KeyRole, Name,
    ProtectionLevel, Purpose, RingId, RingKind, StoreEpoch, Tenant, Uid, UnixMillis, Version,
    VersionId, VersionNumber, VersionState,
};
use strongroom_hsm::{KekPlace, KekRecord, RootEnvelope, RootId, SignedKekRecord, TokenSignature};

use super::records::{Instance, Intermediate, Ring, RingOwner, WrappedVersion};
use super::{access, rotation};

/// A record that cannot be read. Its MAC held, so a newer version of the program wrote it.
#[derive(Debug, thiserror::Error)]
#[error("field {0} is missing, out of range or unknown to this version of the program")]
pub struct DecodeError(pub(super) &'static str);

pub(super) type Decoded<T> = Result<T, DecodeError>;

pub(super) fn id16(bytes: &[u8], field: &'static str) -> Decoded<[u8; 16]> {
    bytes.try_into().map_err(|_| DecodeError(field))
}

pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Decoded<T> {
    value.ok_or(DecodeError(field))
}

pub(super) fn version_id(epoch: u32, number: u32) -> Decoded<VersionId> {
    let number = VersionNumber::new(number).map_err(|_| DecodeError("version number"))?;
    Ok(VersionId {
        epoch: StoreEpoch::new(epoch),
        number,
    })
}

/// What a binding on a key can allow.
const KEY_ROLES: [AccessRole; 2] = [AccessRole::KeyEncrypter, AccessRole::KeyDecrypter];

fn generation(number: u32) -> Decoded<Generation> {
    Generation::new(number).map_err(|_| DecodeError("KEK generation"))
}

pub(crate) fn encode_instance(instance: &Instance) -> wire::InstanceRecord {
    let intermediate = |it: &Intermediate| wire::Intermediate {
        certificate_der: it.certificate_der.clone(),
        sealed_key: it.sealed_key.clone(),
    };
    wire::InstanceRecord {
        instance_id: instance.id.as_bytes().to_vec(),
        system_ring_id: instance.system_ring.as_bytes().to_vec(),
        etcd_key_id: instance.etcd_key.as_bytes().to_vec(),
        sentinel: instance.sentinel.clone(),
        created_ms: instance.created.as_i64(),
        authority: Some(wire::CertificateAuthority {
            root_der: instance.root_certificate.clone(),
            server: Some(intermediate(&instance.server)),
            client: Some(intermediate(&instance.client)),
        }),
    }
}

pub(crate) fn decode_instance(record: wire::InstanceRecord) -> Decoded<Instance> {
    let authority = required(record.authority, "authority")?;
    let intermediate = |it: Option<wire::Intermediate>| {
        let wire::Intermediate {
            certificate_der,
            sealed_key,
        } = required(it, "intermediate")?;
        Ok(Intermediate {
            certificate_der,
            sealed_key,
        })
    };
    Ok(Instance {
        id: InstanceId::from_bytes(id16(&record.instance_id, "instance_id")?),
        system_ring: RingId::from_bytes(id16(&record.system_ring_id, "system_ring_id")?),
        etcd_key: KeyId::from_bytes(id16(&record.etcd_key_id, "etcd_key_id")?),
        sentinel: record.sentinel,
        created: UnixMillis::new(record.created_ms),
        root_certificate: authority.root_der,
        server: intermediate(authority.server)?,
        client: intermediate(authority.client)?,
    })
}

pub(crate) fn encode_ring(ring: &Ring) -> wire::Ring {
    let owner = ring.owner.as_ref();
    let tenant = ring.tenant();
    wire::Ring {
        id: ring.id.as_bytes().to_vec(),
        name: ring.name.to_string(),
        owner_cluster: text(tenant.map(|tenant| &tenant.cluster)),
        owner_namespace: text(tenant.map(|tenant| &tenant.namespace)),
        owner_namespace_uid: text(owner.map(|owner| &owner.namespace_uid)),
        created_ms: ring.created.as_i64(),
        kek_generation: ring.kek_generation.get(),
        kind: match ring.kind {
            RingKind::System => 1,
            RingKind::Application => 2,
        },
        object_uid: text(ring.holder.as_ref()),
        access: access::encode(&ring.access),
    }
}

pub(crate) fn decode_ring(record: wire::Ring) -> Decoded<Ring> {
    let owner = decode_owner(
        &record.owner_cluster,
        &record.owner_namespace,
        &record.owner_namespace_uid,
    )?;
    let tenant = owner.as_ref().map(|owner| owner.tenant.clone());
    Ok(Ring {
        id: RingId::from_bytes(id16(&record.id, "id")?),
        name: record
            .name
            .parse::<Name>()
            .map_err(|_| DecodeError("name"))?,
        owner,
        access: access::decode(tenant, &record.access, &AccessRole::ALL)?,
        holder: decode_holder(&record.object_uid)?,
        created: UnixMillis::new(record.created_ms),
        kek_generation: generation(record.kek_generation)?,
        kind: match record.kind {
            1 => RingKind::System,
            2 => RingKind::Application,
            _ => return Err(DecodeError("kind")),
        },
    })
}

/// No custom resource holds what has no holder.
pub(super) fn decode_holder(uid: &str) -> Decoded<Option<Uid>> {
    let uid = Some(uid).filter(|uid| !uid.is_empty());
    let parse = |uid: &str| uid.parse().map_err(|_| DecodeError("object_uid"));
    uid.map(parse).transpose()
}

/// The installation itself owns what has no owner.
pub(super) fn text(part: Option<&impl ToString>) -> String {
    part.map(ToString::to_string).unwrap_or_default()
}

fn decode_owner(cluster: &str, namespace: &str, uid: &str) -> Decoded<Option<RingOwner>> {
    if [cluster, namespace, uid].iter().all(|part| part.is_empty()) {
        return Ok(None);
    }
    let name = |text: &str| text.parse::<Name>().map_err(|_| DecodeError("owner"));
    Ok(Some(RingOwner {
        tenant: Tenant {
            cluster: name(cluster)?,
            namespace: name(namespace)?,
        },
        namespace_uid: uid.parse().map_err(|_| DecodeError("owner"))?,
    }))
}

pub(crate) fn encode_kek(signed: &SignedKekRecord) -> wire::KekRecord {
    let envelope = |envelope: &RootEnvelope| match envelope {
        RootEnvelope::AesGcmHostIv { root, iv, sealed } => wire::RootEnvelope {
            form: Some(wire::root_envelope::Form::AesGcmHostIv(
                wire::AesGcmHostIv {
                    root_id: root.as_bytes().to_vec(),
                    iv: iv.to_vec(),
                    sealed: sealed.to_vec(),
                },
            )),
        },
    };
    wire::KekRecord {
        generation: signed.record.place().generation.get(),
        envelopes: signed.record.envelopes().iter().map(envelope).collect(),
        check_value: signed.record.check_value().to_vec(),
        signature: signed.signature.as_bytes().to_vec(),
    }
}

/// Instance and ring come from where the record lies: the token refuses a record that was moved.
pub(crate) fn decode_kek(
    instance: InstanceId,
    ring: RingId,
    record: wire::KekRecord,
) -> Decoded<SignedKekRecord> {
    let envelope = |envelope: wire::RootEnvelope| {
        let wire::root_envelope::Form::AesGcmHostIv(form) =
            required(envelope.form, "envelope form")?;
        Ok(RootEnvelope::AesGcmHostIv {
            root: RootId::from_bytes(id16(&form.root_id, "root_id")?),
            iv: form
                .iv
                .as_slice()
                .try_into()
                .map_err(|_| DecodeError("iv"))?,
            sealed: form
                .sealed
                .as_slice()
                .try_into()
                .map_err(|_| DecodeError("sealed"))?,
        })
    };
    let place = KekPlace {
        instance,
        ring,
        generation: generation(record.generation)?,
    };
    let envelopes = record
        .envelopes
        .into_iter()
        .map(envelope)
        .collect::<Decoded<Vec<_>>>()?;
    let check_value = id16(&record.check_value, "check_value")?;
    let signature = record
        .signature
        .as_slice()
        .try_into()
        .map_err(|_| DecodeError("signature"))?;
    Ok(SignedKekRecord {
        record: KekRecord::new(place, envelopes, check_value)
            .map_err(|_| DecodeError("envelopes"))?,
        signature: TokenSignature::from_bytes(signature),
    })
}

pub(crate) fn encode_head(head: &KeyHead) -> wire::KeyHead {
    wire::KeyHead {
        id: head.id.as_bytes().to_vec(),
        ring_id: head.ring.as_bytes().to_vec(),
        name: head.name.to_string(),
        purpose: match head.purpose {
            Purpose::EncryptDecrypt => 1,
        },
        algorithm: match head.algorithm {
            Algorithm::Aes256Gcm => 1,
        },
        protection_level: match head.protection {
            ProtectionLevel::HsmWrapped => 1,
        },
        created_ms: head.created.as_i64(),
        versions: head.versions.iter().map(encode_version).collect(),
        activations: head.activations.iter().map(encode_activation).collect(),
        role: match head.role {
            KeyRole::Api => 1,
            KeyRole::Etcd => 2,
            KeyRole::Secrets => 3,
        },
        access: access::encode(&head.access),
        object_uid: text(head.holder.as_ref()),
        rotation: head.rotation.as_ref().map(rotation::encode_schedule),
        requests: rotation::encode_requests(&head.requests),
    }
}

fn encode_version(version: &Version) -> wire::Version {
    let (state, destroy_window_ends_ms) = match version.state {
        VersionState::Enabled => (1, 0),
        VersionState::Disabled => (2, 0),
        VersionState::DestroyScheduled { window_ends } => (3, window_ends.as_i64()),
    };
    wire::Version {
        epoch: version.id.epoch.get(),
        number: version.id.number.get(),
        state,
        created_ms: version.created.as_i64(),
        destroy_window_ends_ms,
    }
}

fn encode_activation(activation: &Activation) -> wire::Activation {
    wire::Activation {
        number: activation.number,
        version_epoch: activation.version.epoch.get(),
        version_number: activation.version.number.get(),
        store_epoch: activation.epoch.get(),
    }
}

pub(crate) fn decode_head(record: wire::KeyHead, tenant: Option<Tenant>) -> Decoded<KeyHead> {
    let versions = record
        .versions
        .into_iter()
        .map(decode_version)
        .collect::<Decoded<Vec<_>>>()?;
    let activations = record
        .activations
        .into_iter()
        .map(decode_activation)
        .collect::<Decoded<Vec<_>>>()?;
    let known = |activation: &Activation| {
        versions
            .iter()
            .any(|version| version.id == activation.version)
    };
    if activations.is_empty() || !activations.iter().all(known) {
        return Err(DecodeError("activations"));
    }
    Ok(KeyHead {
        id: KeyId::from_bytes(id16(&record.id, "id")?),
        ring: RingId::from_bytes(id16(&record.ring_id, "ring_id")?),
        name: record
            .name
            .parse::<Name>()
            .map_err(|_| DecodeError("name"))?,
        purpose: match record.purpose {
            1 => Purpose::EncryptDecrypt,
            _ => return Err(DecodeError("purpose")),
        },
        algorithm: match record.algorithm {
            1 => Algorithm::Aes256Gcm,
            _ => return Err(DecodeError("algorithm")),
        },
        protection: match record.protection_level {
            1 => ProtectionLevel::HsmWrapped,
            _ => return Err(DecodeError("protection_level")),
        },
        role: match record.role {
            1 => KeyRole::Api,
            2 => KeyRole::Etcd,
            3 => KeyRole::Secrets,
            _ => return Err(DecodeError("role")),
        },
        created: UnixMillis::new(record.created_ms),
        versions,
        activations,
        access: access::decode(tenant, &record.access, &KEY_ROLES)?,
        holder: decode_holder(&record.object_uid)?,
        rotation: rotation::decode_schedule(record.rotation)?,
        requests: rotation::decode_requests(&record.requests)?,
    })
}

fn decode_version(record: wire::Version) -> Decoded<Version> {
    Ok(Version {
        id: version_id(record.epoch, record.number)?,
        state: match record.state {
            1 => VersionState::Enabled,
            2 => VersionState::Disabled,
            3 => VersionState::DestroyScheduled {
                window_ends: UnixMillis::new(record.destroy_window_ends_ms),
            },
            _ => return Err(DecodeError("version state")),
        },
        created: UnixMillis::new(record.created_ms),
    })
}

fn decode_activation(record: wire::Activation) -> Decoded<Activation> {
    Ok(Activation {
        number: record.number,
        version: version_id(record.version_epoch, record.version_number)?,
        epoch: StoreEpoch::new(record.store_epoch),
    })
}

pub(crate) fn encode_material(material: &WrappedVersion) -> wire::WrappedMaterial {
    wire::WrappedMaterial {
        kek_generation: material.kek_generation.get(),
        wrapped: material.wrapped.clone(),
        check_value: material.check_value.to_vec(),
        created_ms: material.created.as_i64(),
    }
}

pub(crate) fn decode_material(record: wire::WrappedMaterial) -> Decoded<WrappedVersion> {
    Ok(WrappedVersion {
        kek_generation: generation(record.kek_generation)?,
        wrapped: record.wrapped,
        check_value: id16(&record.check_value, "check_value")?,
        created: UnixMillis::new(record.created_ms),
    })
}
