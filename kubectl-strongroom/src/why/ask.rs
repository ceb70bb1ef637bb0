//! What the key service itself says, where there is a certificate to ask with. Nothing of it is required.

use std::collections::BTreeMap;

use strongroom_api::strongroom::v1::{
    DescribeInstanceRequest, DescribeSecretRequest, Secret, SecretRole, SecretStage, Tenant,
    instance_client::InstanceClient, secrets_client::SecretsClient,
};
use tonic::{Code, transport::Channel};

use super::observed::{Instance, Observed, SecretInService, ServiceCondition};
use crate::{
    args::ConnectionArgs,
    cluster::objects::Bound,
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    rpc::CallError,
};

/// Asks for conditions and for the secrets that were seen; a failure is a sentence.
pub(super) async fn key_service(
    connection: &ConnectionArgs,
    environment: &Environment,
    observed: &Observed,
) -> Option<Result<Instance, String>> {
    if !Settings::are_given(connection, environment) {
        return None;
    }
    let answer = ask(connection, environment, observed).await;
    Some(answer.map_err(|error| error.sentence()))
}

async fn ask(
    connection: &ConnectionArgs,
    environment: &Environment,
    observed: &Observed,
) -> Result<Instance, CommandError> {
    let settings = Settings::resolve(connection, environment)?;
    let channel = connect(&settings).await?;
    let described = InstanceClient::new(channel.clone())
        .describe(DescribeInstanceRequest {})
        .await
        .map_err(|status| CallError::new("read the status", status))?
        .into_inner();
    let conditions = described.conditions.into_iter();
    let conditions = conditions.map(|condition| ServiceCondition {
        r#type: condition.r#type,
        ok: condition.ok,
        reason: condition.reason,
        message: condition.message,
    });
    let mut secrets = BTreeMap::new();
    for name in observed.secrets.keys() {
        let secret = secret(channel.clone(), &observed.namespace, name).await?;
        secrets.insert(name.clone(), secret);
    }
    Ok(Instance {
        conditions: conditions.collect(),
        secrets,
    })
}

async fn secret(
    channel: Channel,
    namespace: &str,
    name: &str,
) -> Result<SecretInService, CallError> {
    let request = DescribeSecretRequest {
        secret: name.to_owned(),
        tenant: Some(Tenant {
            cluster: String::new(),
            namespace: namespace.to_owned(),
        }),
        ..DescribeSecretRequest::default()
    };
    match SecretsClient::new(channel).describe_secret(request).await {
        Ok(secret) => Ok(in_service(secret.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(SecretInService::Missing),
        Err(status) => Err(CallError::new("describe a secret", status)),
    }
}

fn in_service(secret: Secret) -> SecretInService {
    let current = secret
        .versions
        .iter()
        .find(|version| version.stage() == SecretStage::Current);
    let access = secret.access.iter().map(|binding| Bound {
        role: match binding.role() {
            SecretRole::SecretReader => "SecretReader".to_owned(),
            SecretRole::Unspecified => String::new(),
        },
        service_account: binding.service_account.clone(),
        uid: binding.service_account_uid.clone(),
    });
    SecretInService::There {
        version: current.map(|version| version.version.clone()),
        access: access.collect(),
    }
}
