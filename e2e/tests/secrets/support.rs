//! What these stories share: an installation with two registered clusters, rings and secrets of their namespaces.

use std::collections::HashMap;

use anyhow::{Context, Result};
use strongroom_api::strongroom::v1::{
    CreateKeyRingRequest, CreateSecretRequest, GeneratedField, GeneratedSource, KeyRing,
    ManualSource, Owner, RandomText, Secret, SecretBinding, SecretRole, SecretSource,
    generated_field::Kind, secret_source::Source,
};
use strongroom_e2e::{issuer::Pod, native::Native};
use tonic::Status;

pub(crate) use strongroom_e2e::clusters::{API, Clusters, DRIVER, OPERATOR, with_token};

pub(crate) fn up(name: &str, first_port: u16) -> Result<Clusters> {
    Clusters::up(name, first_port, &[])
}

/// Lets a certificate read a ring's secrets.
pub(crate) async fn bind_reader(world: &mut Clusters, name: &str, ring: &str) -> Result<Native> {
    let binding = format!("{{role: SecretReader, certificate: {name}, ring: {ring}}}");
    world.installation.settings_mut().access.push(binding);
    world.installation.write_configuration()?;
    world.restart()?;
    world.installation.administrator(name)?;
    Native::connect(&world.installation, name).await
}

pub(crate) fn owner(cluster: &str, namespace: &str) -> Owner {
    Owner {
        cluster: cluster.to_owned(),
        namespace: namespace.to_owned(),
        namespace_uid: format!("uid-of-{namespace}"),
    }
}

pub(crate) async fn make_ring(
    native: &Native,
    name: &str,
    owner: Option<Owner>,
) -> Result<KeyRing, Status> {
    let request = CreateKeyRingRequest {
        name: name.to_owned(),
        owner,
    };
    let made = native.keys().create_key_ring(request).await?;
    Ok(made.into_inner())
}

/// A fixed `username` and a random `password` of 32 characters.
pub(crate) fn generated() -> SecretSource {
    let field = |name: &str, kind| GeneratedField {
        name: name.to_owned(),
        kind: Some(kind),
    };
    let fields = vec![
        field("username", Kind::Value("payments_api".to_owned())),
        field("password", Kind::Random(RandomText::default())),
    ];
    SecretSource {
        source: Some(Source::Generate(GeneratedSource { fields })),
    }
}

pub(crate) fn manual(fields: &[&str]) -> SecretSource {
    let fields = fields.iter().map(|field| (*field).to_owned()).collect();
    SecretSource {
        source: Some(Source::Manual(ManualSource { fields })),
    }
}

pub(crate) fn reader(pod: &Pod) -> SecretBinding {
    SecretBinding {
        role: SecretRole::SecretReader.into(),
        service_account: pod.account.to_owned(),
        service_account_uid: pod.account_uid.to_owned(),
    }
}

pub(crate) async fn make_secret(
    native: &Native,
    ring: &KeyRing,
    name: &str,
    source: SecretSource,
    access: Vec<SecretBinding>,
) -> Result<Secret, Status> {
    let request = CreateSecretRequest {
        ring_id: ring.id.clone(),
        name: name.to_owned(),
        source: Some(source),
        access,
    };
    let made = native.secrets().create_secret(request).await?;
    Ok(made.into_inner())
}

pub(crate) fn text(fields: &HashMap<String, Vec<u8>>, name: &str) -> Result<String> {
    let bytes = fields.get(name).with_context(|| format!("no {name}"))?;
    Ok(String::from_utf8(bytes.clone())?)
}
