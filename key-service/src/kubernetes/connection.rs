//! Questions to an API server. Access is read again after each failure that may be its fault: kubeconfigs and tokens are
//! replaced under a running process.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tonic::codegen::http::Request;

/// Nothing that is asked takes long.
const DEADLINE: Duration = Duration::from_secs(10);
/// Who owns the fields that we write.
const FIELD_MANAGER: &str = "strongroom-key-service";
/// Longest sentence of an API server that is passed on.
const SENTENCE_MAX: usize = 300;

/// Why an API server gave no answer, or not the one that was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The kubeconfig, or the service account of the pod.
    #[error("there is no access to the API server")]
    Access(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It says no.
    #[error("the API server says {code}: {sentence}")]
    Refused {
        /// Status of HTTP.
        code: u16,
        /// Its words.
        sentence: String,
    },
    /// It does not answer.
    #[error("the API server does not answer within {DEADLINE:?}")]
    Late,
    /// It cannot be reached, or is somebody else.
    #[error("the API server cannot be asked")]
    Failed(#[source] Box<kube::Error>),
}

impl AskError {
    /// Whether the object is not there, or not the one that was meant any more.
    pub(crate) const fn is_gone_or_changed(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: 404 | 409,
                ..
            }
        )
    }
}

/// An API server, asked as one user.
pub(crate) struct Connection {
    kubeconfig: Option<PathBuf>,
    client: Option<Client>,
}

impl Connection {
    /// Prepares a connection as a kubeconfig says, or as the service account of the pod.
    pub(crate) const fn new(kubeconfig: Option<PathBuf>) -> Self {
        Self {
            kubeconfig,
            client: None,
        }
    }

    /// Fetches a path, such as `/openid/v1/jwks`.
    pub(crate) async fn text(&mut self, path: &str) -> Result<String, AskError> {
        let request = Request::get(path).body(Vec::new());
        let request = request.expect("the path is a constant");
        self.ask(async |client| client.request_text(request).await)
            .await
    }

    /// Fetches a ConfigMap, if it is there.
    pub(crate) async fn find(
        &mut self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, AskError> {
        self.ask(async |client| config_maps(client, namespace).get_opt(name).await)
            .await
    }

    /// Makes a ConfigMap, or makes these its data, by a server-side apply.
    pub(crate) async fn apply(
        &mut self,
        namespace: &str,
        name: &str,
        data: &BTreeMap<String, String>,
    ) -> Result<ConfigMap, AskError> {
        let object = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "strongroom"}},
            "data": data,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        self.ask(async |client| {
            config_maps(client, namespace)
                .patch(name, &params, &Patch::Apply(object))
                .await
        })
        .await
    }

    /// Adds data to the ConfigMap that has this uid, and to no other.
    pub(crate) async fn add(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
        data: &BTreeMap<String, String>,
    ) -> Result<(), AskError> {
        let change: Value = json!({"metadata": {"uid": uid}, "data": data});
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.ask(async |client| {
            config_maps(client, namespace)
                .patch(name, &params, &Patch::Merge(change))
                .await
        })
        .await
        .map(drop)
    }

    /// Makes a ConfigMap that must not be there yet.
    pub(crate) async fn create(
        &mut self,
        namespace: &str,
        object: &ConfigMap,
    ) -> Result<ConfigMap, AskError> {
        let params = PostParams::default();
        self.ask(async |client| config_maps(client, namespace).create(&params, object).await)
            .await
    }

    /// Removes the ConfigMap that has this uid; that it is not there is fine.
    pub(crate) async fn remove(
        &mut self,
        namespace: &str,
        name: &str,
        uid: &str,
    ) -> Result<(), AskError> {
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        let removed = self
            .ask(async |client| config_maps(client, namespace).delete(name, &params).await)
            .await;
        match removed {
            Err(error) if !error.is_gone_or_changed() => Err(error),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    async fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(Client) -> kube::Result<T>,
    ) -> Result<T, AskError> {
        let client = self.client().await?;
        let answered = match tokio::time::timeout(DEADLINE, question(client)).await {
            Ok(answered) => answered.map_err(sort),
            Err(_) => Err(AskError::Late),
        };
        if let Err(error) = &answered
            && !matches!(error, AskError::Refused { code, .. } if *code != 401)
        {
            self.client = None;
        }
        answered
    }

    async fn client(&mut self) -> Result<Client, AskError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut config = self.config().await?;
        // What is tried again, and when, is for our callers to say.
        config.default_retry = false;
        config.connect_timeout = Some(DEADLINE);
        config.read_timeout = Some(DEADLINE);
        let client = Client::try_from(config).map_err(|error| AskError::Access(error.into()))?;
        Ok(self.client.insert(client).clone())
    }

    async fn config(&self) -> Result<Config, AskError> {
        match &self.kubeconfig {
            None => Config::incluster().map_err(|error| AskError::Access(error.into())),
            Some(path) => {
                let file = Kubeconfig::read_from(path);
                let file = file.map_err(|error| AskError::Access(error.into()))?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.map_err(|error| AskError::Access(error.into()))
            }
        }
    }
}

fn config_maps(client: Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client, namespace)
}

fn sort(error: kube::Error) -> AskError {
    match error {
        kube::Error::Api(status) => AskError::Refused {
            code: status.code,
            sentence: status
                .message
                .chars()
                .filter(|character| !character.is_control())
                .take(SENTENCE_MAX)
                .collect(),
        },
        error => AskError::Failed(Box::new(error)),
    }
}
