//! Heads of secrets, from and to the bytes of the store. The tenant of a secret is that of its ring, in no second place.

use strongroom_api::strongroom::storage::v1::{self as wire, generated_field, secret_head};
use strongroom_core::{
    AccessRole, Alphabet, FieldKind, FieldName, FieldNames, GeneratedField, GeneratedFields, Name,
    RandomText, RingId, SecretHead, SecretId, SecretSource, SecretStage, SecretVersion, Tenant,
    UnixMillis,
};

use crate::registry::{
    access,
    codec::{DecodeError, Decoded, decode_holder, id16, required, text, version_id},
    rotation,
};

pub(crate) fn encode(head: &SecretHead) -> wire::SecretHead {
    let SecretHead {
        id,
        ring,
        name,
        source,
        created,
        versions,
        access,
        holder,
        rotation: schedule,
        requests,
    } = head;
    wire::SecretHead {
        id: id.as_bytes().to_vec(),
        ring_id: ring.as_bytes().to_vec(),
        name: name.to_string(),
        source: Some(encode_source(source)),
        created_ms: created.as_i64(),
        versions: versions.iter().map(encode_version).collect(),
        access: access::encode(access),
        object_uid: text(holder.as_ref()),
        rotation: schedule.as_ref().map(rotation::encode_schedule),
        requests: rotation::encode_requests(requests),
    }
}

fn encode_source(source: &SecretSource) -> secret_head::Source {
    match source {
        SecretSource::Generate(fields) => secret_head::Source::Generate(wire::GeneratedFields {
            fields: fields.iter().map(encode_field).collect(),
        }),
        SecretSource::Manual(names) => secret_head::Source::Manual(wire::ManualFields {
            names: names.iter().map(ToString::to_string).collect(),
        }),
    }
}

fn encode_field(field: &GeneratedField) -> wire::GeneratedField {
    let kind = match &field.kind {
        FieldKind::Fixed(text) => generated_field::Kind::Fixed(text.clone()),
        FieldKind::Random(random) => generated_field::Kind::Random(wire::RandomText {
            length: u32::try_from(random.length()).expect("a random text is short"),
            alphabet: match random.alphabet() {
                Alphabet::Alphanumeric => 1,
                Alphabet::Hex => 2,
                Alphabet::Printable => 3,
            },
        }),
    };
    wire::GeneratedField {
        name: field.name.to_string(),
        kind: Some(kind),
    }
}

fn encode_version(version: &SecretVersion) -> wire::SecretVersion {
    wire::SecretVersion {
        epoch: version.id.epoch.get(),
        number: version.id.number.get(),
        stage: match version.stage {
            SecretStage::Current => 1,
            SecretStage::Previous => 2,
        },
        created_ms: version.created.as_i64(),
    }
}

pub(crate) fn decode(record: wire::SecretHead, tenant: Option<Tenant>) -> Decoded<SecretHead> {
    let versions = record.versions.into_iter().map(decode_version);
    let versions = versions.collect::<Decoded<Vec<_>>>()?;
    let newest_is_current = versions.iter().rev().map(|version| version.stage).eq([
        SecretStage::Current,
        SecretStage::Previous,
    ]
    .into_iter()
    .take(versions.len()));
    if !newest_is_current {
        return Err(DecodeError("versions"));
    }
    Ok(SecretHead {
        id: SecretId::from_bytes(id16(&record.id, "id")?),
        ring: RingId::from_bytes(id16(&record.ring_id, "ring_id")?),
        name: record
            .name
            .parse::<Name>()
            .map_err(|_| DecodeError("name"))?,
        source: decode_source(required(record.source, "source")?)?,
        created: UnixMillis::new(record.created_ms),
        versions,
        access: access::decode(tenant, &record.access, &[AccessRole::SecretReader])?,
        holder: decode_holder(&record.object_uid)?,
        rotation: rotation::decode_schedule(record.rotation)?,
        requests: rotation::decode_requests(&record.requests)?,
    })
}

fn decode_source(source: secret_head::Source) -> Decoded<SecretSource> {
    match source {
        secret_head::Source::Generate(wire::GeneratedFields { fields }) => {
            let fields = fields.into_iter().map(decode_field);
            let fields = GeneratedFields::new(fields.collect::<Decoded<_>>()?);
            fields.map(SecretSource::Generate)
        }
        secret_head::Source::Manual(wire::ManualFields { names }) => {
            let names = names.iter().map(|name| decode_field_name(name));
            let names = FieldNames::new(names.collect::<Decoded<_>>()?);
            names.map(SecretSource::Manual)
        }
    }
    .map_err(|_| DecodeError("source"))
}

fn decode_field(field: wire::GeneratedField) -> Decoded<GeneratedField> {
    let kind = match required(field.kind, "kind of a field")? {
        generated_field::Kind::Fixed(text) => FieldKind::Fixed(text),
        generated_field::Kind::Random(random) => FieldKind::Random(decode_random(random)?),
    };
    Ok(GeneratedField {
        name: decode_field_name(&field.name)?,
        kind,
    })
}

fn decode_random(random: wire::RandomText) -> Decoded<RandomText> {
    let alphabet = match random.alphabet {
        1 => Alphabet::Alphanumeric,
        2 => Alphabet::Hex,
        3 => Alphabet::Printable,
        _ => return Err(DecodeError("alphabet")),
    };
    let length = usize::try_from(random.length).map_err(|_| DecodeError("length"))?;
    RandomText::new(length, alphabet).map_err(|_| DecodeError("length"))
}

fn decode_field_name(name: &str) -> Decoded<FieldName> {
    name.parse().map_err(|_| DecodeError("name of a field"))
}

fn decode_version(version: wire::SecretVersion) -> Decoded<SecretVersion> {
    Ok(SecretVersion {
        id: version_id(version.epoch, version.number)?,
        stage: match version.stage {
            1 => SecretStage::Current,
            2 => SecretStage::Previous,
            _ => return Err(DecodeError("stage")),
        },
        created: UnixMillis::new(version.created_ms),
    })
}

#[cfg(test)]
mod tests;
