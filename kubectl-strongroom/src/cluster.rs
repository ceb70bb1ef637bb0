//! The cluster, read and changed with the user's own identity: what a kubeconfig leads to.
//!
//! Only what a command needs is read of an object; a field that is not known here changes nothing.

mod error;
mod kubeconfig;
pub(crate) mod objects;
mod path;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tonic::codegen::http::{Method, Request};

pub(crate) use error::ClusterError;
pub(crate) use kubeconfig::Kubeconfig;
use objects::List;
pub(crate) use path::{Kind, Scope};

/// Objects of one answer; a list that has more comes in pieces.
const PAGE: u32 = 500;
/// Who changed a field, for everybody who looks at an object's managed fields.
const FIELD_MANAGER: &str = "kubectl-strongroom";

/// A connection with an API server.
pub(crate) struct Cluster {
    client: kube::Client,
    /// That of the context.
    namespace: String,
}

/// Whether a change is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum DryRun {
    /// It is made
    #[default]
    None,
    /// The API server checks it, and keeps nothing
    Server,
}

impl DryRun {
    const fn query(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Server => "&dryRun=All",
        }
    }
}

impl Cluster {
    /// Prepares the connection; nothing is asked yet.
    pub(crate) async fn open(kubeconfig: Kubeconfig) -> Result<Self, ClusterError> {
        let config = kubeconfig.into_config().await?;
        let namespace = config.default_namespace.clone();
        let client = kube::Client::try_from(config).map_err(ClusterError::prepare)?;
        Ok(Self { client, namespace })
    }

    /// The namespace that a command is about: the one that was named, otherwise that of the context.
    pub(crate) fn namespace(&self, named: Option<String>) -> String {
        named.unwrap_or_else(|| self.namespace.clone())
    }

    /// Reads an object; none when there is none of that name.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: Scope<'_>,
        name: &str,
    ) -> Result<Option<T>, ClusterError> {
        let path = kind.path(scope, Some(name), "");
        match self.call(Method::GET, &path, None, "").await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_missing_object() => Ok(None),
            Err(error) => Err(ClusterError::call(
                &format!("get {}", kind.one(name)),
                error,
            )),
        }
    }

    /// Reads every object of a kind.
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: Scope<'_>,
        selector: &str,
    ) -> Result<Vec<T>, ClusterError> {
        let mut items = Vec::new();
        let mut token = String::new();
        loop {
            let query = format!("limit={PAGE}{selector}{token}");
            let path = kind.path(scope, None, &query);
            let page: List<T> = self
                .call(Method::GET, &path, None, "")
                .await
                .map_err(|error| ClusterError::call(&format!("list {}", kind.plural()), error))?;
            items.extend(page.items);
            match page.metadata.r#continue {
                Some(next) if !next.is_empty() => {
                    token = format!("&continue={}", path::escape(&next))
                }
                _ => return Ok(items),
            }
        }
    }

    /// Makes an object.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: Scope<'_>,
        object: &Value,
        dry_run: DryRun,
    ) -> Result<T, ClusterError> {
        let query = format!("fieldManager={FIELD_MANAGER}{}", dry_run.query());
        let path = kind.path(scope, None, &query);
        self.call(Method::POST, &path, Some(object), "application/json")
            .await
            .map_err(|error| ClusterError::call(&format!("make a {}", kind.kind()), error))
    }

    /// Changes some fields of an object.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        kind: Kind,
        scope: Scope<'_>,
        name: &str,
        fields: &Value,
        dry_run: DryRun,
    ) -> Result<T, ClusterError> {
        let query = format!("fieldManager={FIELD_MANAGER}{}", dry_run.query());
        let path = kind.path(scope, Some(name), &query);
        self.call(
            Method::PATCH,
            &path,
            Some(fields),
            "application/merge-patch+json",
        )
        .await
        .map_err(|error| ClusterError::call(&format!("change {}", kind.one(name)), error))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        media_type: &str,
    ) -> Result<T, error::Failure> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(path);
        if !media_type.is_empty() {
            request = request.header("content-type", media_type);
        }
        let request = request
            .body(body.into_bytes())
            .map_err(error::Failure::request)?;
        self.client
            .request(request)
            .await
            .map_err(error::Failure::from)
    }
}
