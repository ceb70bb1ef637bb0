//! `strongroom.v1.Secrets`.

use std::{collections::BTreeMap, collections::HashMap, sync::Arc};

use strongroom_api::strongroom::v1::{self as wire, generated_field, secret_source};
use strongroom_core::{
    AccessBinding, AccessRole, Alphabet, FieldKind, FieldNames, FieldsError, GeneratedField,
    GeneratedFields, ObjectId, RandomText, SecretBytes, SecretSource, SecretStage, SecretValue,
    SecretVersion,
};
use tonic::{Request, Response, Status};

use super::{
    identity::by_certificate,
    parse::{etag, field, next_page, page_size, page_token, secret_locator, timestamp},
};
use crate::{
    registry::{SecretLocator, SecretName, StoredSecret},
    service::{CallError, NewSecretRequest, RevealRequest, SecretChange, Service},
};

type Answer<T> = Result<Response<T>, Status>;

/// Serves secrets over TLS.
pub(crate) struct SecretsServer(pub Arc<Service>);

impl SecretsServer {
    /// A secret by its ring, or by the namespace that owns it.
    fn locate(
        &self,
        ring_id: &str,
        tenant: Option<wire::Tenant>,
        secret: &str,
    ) -> Result<SecretLocator, Status> {
        let Some(wire::Tenant { cluster, namespace }) = tenant else {
            return secret_locator(field("ring_id", ring_id)?, secret);
        };
        if !ring_id.is_empty() {
            let sentence = "tenant: a secret is named by its ring or by its tenant, not by both";
            return Err(Status::invalid_argument(sentence));
        }
        let cluster = Some(cluster).filter(|name| !name.is_empty());
        let cluster = cluster.map(|name| field("tenant.cluster", &name));
        let namespace = field("tenant.namespace", &namespace)?;
        let tenant = self.0.tenant(cluster.transpose()?, namespace);
        Ok(SecretLocator::Owned(SecretName {
            tenant: Some(tenant.map_err(CallError::into_status)?),
            name: field("secret", secret)?,
        }))
    }

    fn answer(&self, outcome: Result<Arc<StoredSecret>, CallError>) -> Answer<wire::Secret> {
        outcome
            .map(|stored| Response::new(secret(&self.0, &stored)))
            .map_err(CallError::into_status)
    }
}

pub(super) fn secret(service: &Service, stored: &StoredSecret) -> wire::Secret {
    let StoredSecret { head, seq } = stored;
    let version = |version: &SecretVersion| wire::SecretVersion {
        version: version.id.to_string(),
        created: Some(timestamp(version.created)),
        stage: match version.stage {
            SecretStage::Current => wire::SecretStage::Current,
            SecretStage::Previous => wire::SecretStage::Previous,
        }
        .into(),
        fingerprint: service.fingerprint(head, version.id),
    };
    wire::Secret {
        id: head.id.to_string(),
        ring_id: head.ring.to_string(),
        name: head.name.to_string(),
        source: Some(source(&head.source)),
        created: Some(timestamp(head.created)),
        versions: head.versions.iter().map(version).collect(),
        access: head.access.bindings().iter().map(binding).collect(),
        etag: seq.to_string(),
    }
}

fn source(source: &SecretSource) -> wire::SecretSource {
    let source = match source {
        SecretSource::Generate(fields) => secret_source::Source::Generate(wire::GeneratedSource {
            fields: fields.iter().map(generated_field).collect(),
        }),
        SecretSource::Manual(names) => secret_source::Source::Manual(wire::ManualSource {
            fields: names.iter().map(ToString::to_string).collect(),
        }),
    };
    wire::SecretSource {
        source: Some(source),
    }
}

fn generated_field(field: &GeneratedField) -> wire::GeneratedField {
    let kind = match &field.kind {
        FieldKind::Fixed(text) => generated_field::Kind::Value(text.clone()),
        FieldKind::Random(random) => generated_field::Kind::Random(wire::RandomText {
            length: u32::try_from(random.length()).expect("a random text is short"),
            alphabet: match random.alphabet() {
                Alphabet::Alphanumeric => wire::Alphabet::Alphanumeric,
                Alphabet::Hex => wire::Alphabet::Hex,
                Alphabet::Printable => wire::Alphabet::Printable,
            }
            .into(),
        }),
    };
    wire::GeneratedField {
        name: field.name.to_string(),
        kind: Some(kind),
    }
}

fn binding(binding: &AccessBinding) -> wire::SecretBinding {
    wire::SecretBinding {
        role: match binding.role {
            AccessRole::SecretReader => wire::SecretRole::SecretReader,
            // No record of a secret has these.
            AccessRole::KeyEncrypter | AccessRole::KeyDecrypter => wire::SecretRole::Unspecified,
        }
        .into(),
        service_account: binding.account.name.to_string(),
        service_account_uid: binding.account.uid.to_string(),
    }
}

pub(super) fn parse_source(source: Option<wire::SecretSource>) -> Result<SecretSource, Status> {
    let invalid = |error: FieldsError| Status::invalid_argument(format!("source: {error}"));
    match source.and_then(|source| source.source) {
        Some(secret_source::Source::Generate(wire::GeneratedSource { fields })) => {
            let fields: Result<Vec<_>, Status> = fields.into_iter().map(parse_generated).collect();
            let fields = GeneratedFields::new(fields?).map_err(invalid)?;
            Ok(SecretSource::Generate(fields))
        }
        Some(secret_source::Source::Manual(wire::ManualSource { fields })) => {
            let names = fields
                .iter()
                .map(|name| field("source.manual.fields", name));
            let names = FieldNames::new(names.collect::<Result<_, _>>()?).map_err(invalid)?;
            Ok(SecretSource::Manual(names))
        }
        None => Err(Status::invalid_argument(
            "source: generate or manual is required",
        )),
    }
}

fn parse_generated(given: wire::GeneratedField) -> Result<GeneratedField, Status> {
    let kind = match given.kind {
        Some(generated_field::Kind::Value(text)) => FieldKind::Fixed(text),
        Some(generated_field::Kind::Random(random)) => FieldKind::Random(parse_random(&random)?),
        None => {
            return Err(Status::invalid_argument(
                "source.generate.fields: value or random is required",
            ));
        }
    };
    Ok(GeneratedField {
        name: field("source.generate.fields.name", &given.name)?,
        kind,
    })
}

fn parse_random(random: &wire::RandomText) -> Result<RandomText, Status> {
    let alphabet = match wire::Alphabet::try_from(random.alphabet) {
        Ok(wire::Alphabet::Unspecified | wire::Alphabet::Alphanumeric) => Alphabet::Alphanumeric,
        Ok(wire::Alphabet::Hex) => Alphabet::Hex,
        Ok(wire::Alphabet::Printable) => Alphabet::Printable,
        Err(_) => return Err(Status::invalid_argument("alphabet: is not known")),
    };
    let length = match random.length {
        0 => RandomText::LENGTH_DEFAULT,
        length => usize::try_from(length).unwrap_or(usize::MAX),
    };
    RandomText::new(length, alphabet)
        .map_err(|error| Status::invalid_argument(format!("length: {error}")))
}

fn parse_access(access: &[wire::SecretBinding]) -> Result<Vec<AccessBinding>, Status> {
    let parse = |given: &wire::SecretBinding| {
        Ok(AccessBinding {
            role: match given.role() {
                wire::SecretRole::SecretReader => AccessRole::SecretReader,
                wire::SecretRole::Unspecified => {
                    return Err(Status::invalid_argument("access.role: is required"));
                }
            },
            account: ObjectId {
                name: field("access.service_account", &given.service_account)?,
                uid: field("access.service_account_uid", &given.service_account_uid)?,
            },
        })
    };
    access.iter().map(parse).collect()
}

/// Takes the buffers over, so that they are wiped when the call is done.
fn parse_value(fields: HashMap<String, Vec<u8>>) -> Result<SecretValue, Status> {
    let fields: BTreeMap<String, SecretBytes> = fields
        .into_iter()
        .map(|(name, bytes)| (name, SecretBytes::new(bytes)))
        .collect();
    let parse = |(name, bytes): (String, SecretBytes)| Ok((field("fields", &name)?, bytes));
    let fields = fields
        .into_iter()
        .map(parse)
        .collect::<Result<_, Status>>()?;
    SecretValue::new(fields).map_err(|error| Status::invalid_argument(format!("fields: {error}")))
}

fn change(ring_id: &str, secret: &str, tag: &str) -> Result<SecretChange, Status> {
    Ok(SecretChange {
        secret: secret_locator(field("ring_id", ring_id)?, secret)?,
        etag: etag(tag)?,
    })
}

#[tonic::async_trait]
impl wire::secrets_server::Secrets for SecretsServer {
    async fn create_secret(
        &self,
        request: Request<wire::CreateSecretRequest>,
    ) -> Answer<wire::Secret> {
        let context = by_certificate(&request)?;
        let wire::CreateSecretRequest {
            ring_id,
            name,
            source,
            access,
        } = request.into_inner();
        let new = NewSecretRequest {
            ring: field("ring_id", &ring_id)?,
            name: field("name", &name)?,
            source: parse_source(source)?,
            access: parse_access(&access)?,
            holder: None,
            rotation: None,
        };
        self.answer(self.0.create_secret(&context, new).await)
    }

    async fn describe_secret(
        &self,
        request: Request<wire::DescribeSecretRequest>,
    ) -> Answer<wire::Secret> {
        let context = by_certificate(&request)?;
        let wire::DescribeSecretRequest {
            ring_id,
            secret,
            tenant,
        } = request.into_inner();
        let secret = self.locate(&ring_id, tenant, &secret)?;
        self.answer(self.0.describe_secret(&context, &secret).await)
    }

    async fn list_secrets(
        &self,
        request: Request<wire::ListSecretsRequest>,
    ) -> Answer<wire::ListSecretsResponse> {
        let context = by_certificate(&request)?;
        let wire::ListSecretsRequest {
            ring_id,
            page_size: size,
            page_token: token,
        } = request.into_inner();
        let limit = page_size(size)?;
        let (ring, after) = (field("ring_id", &ring_id)?, page_token(&token)?);
        let listed = self.0.list_secrets(&context, ring, after, limit).await;
        let secrets = listed.map_err(CallError::into_status)?;
        Ok(Response::new(wire::ListSecretsResponse {
            next_page_token: next_page(&secrets, limit, |stored| stored.head.id.to_string()),
            secrets: secrets
                .iter()
                .map(|stored| secret(&self.0, stored))
                .collect(),
        }))
    }

    async fn set_secret_value(
        &self,
        request: Request<wire::SetSecretValueRequest>,
    ) -> Answer<wire::Secret> {
        let context = by_certificate(&request)?;
        let wire::SetSecretValueRequest {
            ring_id,
            secret,
            etag: tag,
            fields,
            tenant,
        } = request.into_inner();
        let value = parse_value(fields)?;
        let change = SecretChange {
            secret: self.locate(&ring_id, tenant, &secret)?,
            etag: etag(&tag)?,
        };
        self.answer(self.0.set_secret_value(&context, &change, &value).await)
    }

    async fn rotate_secret(
        &self,
        request: Request<wire::RotateSecretRequest>,
    ) -> Answer<wire::Secret> {
        let context = by_certificate(&request)?;
        let wire::RotateSecretRequest {
            ring_id,
            secret,
            etag,
        } = request.into_inner();
        let change = change(&ring_id, &secret, &etag)?;
        self.answer(self.0.rotate_secret(&context, &change).await)
    }

    async fn reveal_secret(
        &self,
        request: Request<wire::RevealSecretRequest>,
    ) -> Answer<wire::RevealSecretResponse> {
        let context = by_certificate(&request)?;
        let request = request.into_inner();
        let wanted = Some(&request.field).filter(|name| !name.is_empty());
        let reveal = RevealRequest {
            secret: self.locate(&request.ring_id, request.tenant.clone(), &request.secret)?,
            field: wanted.map(|name| field("field", name)).transpose()?,
            stage: match request.stage() {
                wire::SecretStage::Unspecified | wire::SecretStage::Current => SecretStage::Current,
                wire::SecretStage::Previous => SecretStage::Previous,
            },
            reason: field("reason", &request.reason)?,
        };
        let revealed = self.0.reveal_secret(&context, &reveal).await;
        let revealed = revealed.map_err(CallError::into_status)?;
        let shown = revealed
            .value
            .iter()
            .filter(|(name, _)| reveal.field.as_ref().is_none_or(|field| field == *name));
        Ok(Response::new(wire::RevealSecretResponse {
            version: revealed.version.to_string(),
            fields: shown
                .map(|(name, bytes)| (name.to_string(), bytes.expose().to_vec()))
                .collect(),
        }))
    }

    async fn set_secret_access(
        &self,
        request: Request<wire::SetSecretAccessRequest>,
    ) -> Answer<wire::Secret> {
        let context = by_certificate(&request)?;
        let wire::SetSecretAccessRequest {
            ring_id,
            secret,
            etag,
            access,
        } = request.into_inner();
        let access = parse_access(&access)?;
        let change = change(&ring_id, &secret, &etag)?;
        self.answer(self.0.set_secret_access(&context, &change, access).await)
    }
}
