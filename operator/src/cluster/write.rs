//! What the operator writes: its finalizer and statuses, each bound to the very object that was looked at, and only when they
//! differ from what is there.

use std::{fmt::Debug, time::Duration};

use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

/// Whose fields they are.
pub const FIELD_MANAGER: &str = "strongroom-operator";
/// Keeps an object until the key service has let go of what it held, or the operator gave up waiting for it.
pub const FINALIZER: &str = "strongroom.dev/release";
/// Longest time for one write.
const ANSWER: Duration = Duration::from_secs(30);

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The object is another one than the one that was looked at, or is gone: whoever changed it is heard of.
    #[error("the object has changed in the meantime")]
    Changed,
    /// The API server refuses, or does not answer.
    #[error("the API server does not take it")]
    Ask(#[source] kube::Error),
    /// It does not answer in time.
    #[error("the API server does not answer in time")]
    Silent,
}

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer(Client);

impl Writer {
    /// Writes as this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// Adds the finalizer to an object.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn add_finalizer<K>(&self, object: &K) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        self.set_finalizers(object, &finalizers).await
    }

    /// Takes it away again.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn remove_finalizer<K>(&self, object: &K) -> Result<(), WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let others = object.finalizers().iter().filter(|it| *it != FINALIZER);
        let others: Vec<String> = others.cloned().collect();
        match self.set_finalizers(object, &others).await {
            // The last one gone, so is the object.
            Ok(_) | Err(WriteError::Changed) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn set_finalizers<K>(&self, object: &K, finalizers: &[String]) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api: Api<K> = self.api(object);
        let name = object.name_any();
        in_time(api.patch(&name, &parameters, &Patch::Merge(&patch))).await
    }

    /// Writes a status.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn write_status<K, S>(&self, object: &K, status: &S) -> Result<K, WriteError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
        S: Serialize,
    {
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": object.name_any(),
                "uid": object.uid(),
                "resourceVersion": object.resource_version(),
            },
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let api: Api<K> = self.api(object);
        let name = object.name_any();
        in_time(api.patch_status(&name, &parameters, &Patch::Apply(&patch))).await
    }

    fn api<K>(&self, object: &K) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.0.clone(), &object.namespace().unwrap_or_default())
    }
}

/// Waits for an answer, for so long.
pub(crate) async fn in_time<T>(
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<T, WriteError> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(kube::Error::Api(status))) if [404, 409].contains(&status.code) => {
            Err(WriteError::Changed)
        }
        Ok(Err(error)) => Err(WriteError::Ask(error)),
        Err(_) => Err(WriteError::Silent),
    }
}
