//! Reads everything that `walk` decides from, once. What the user may not see is remembered as such.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use serde::de::DeserializeOwned;

use super::{
    WhyError,
    observed::{Observed, PodSeen, Seen, Subject},
    volume::{self, DRIVER, What},
    walk,
};
use crate::{
    cluster::{
        Cluster, ClusterError, Kind, Scope,
        objects::{Event, ManagedSecret, Pod, SecretBundle},
    },
    error::CommandError,
    target::WhyTarget,
};

pub(super) struct Observer<'a> {
    cluster: &'a Cluster,
    namespace: &'a str,
}

impl<'a> Observer<'a> {
    pub(super) const fn new(cluster: &'a Cluster, namespace: &'a str) -> Self {
        Self { cluster, namespace }
    }

    /// Everything but what the key service says.
    pub(super) async fn observe(&self, target: &WhyTarget) -> Result<Observed, CommandError> {
        let mut bundles = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        let subject = match target {
            WhyTarget::Pod(name) => {
                let pod = self.subject::<Pod>(Kind::Pod, name).await?;
                for volume in volume::volumes(&pod) {
                    match volume.wanted.map(|wanted| wanted.what) {
                        Ok(What::Bundle(name)) => {
                            let bundle = self.look(Kind::SecretBundle, &name).await?;
                            bundles.insert(name, bundle);
                        }
                        Ok(What::Secrets(names)) => self.secrets(names, &mut secrets).await?,
                        Err(_) => {}
                    }
                }
                Subject::Pod(Box::new(self.pod(pod).await?))
            }
            WhyTarget::Secret(name) => {
                let secret = self.subject(Kind::ManagedSecret, name).await?;
                secrets.insert(name.clone(), Seen::There(secret));
                Subject::Secret(name.clone())
            }
            WhyTarget::Bundle(name) => {
                let bundle = self.subject(Kind::SecretBundle, name).await?;
                bundles.insert(name.clone(), Seen::There(bundle));
                Subject::Bundle(name.clone())
            }
        };
        let needed: BTreeSet<String> = bundles
            .values()
            .filter_map(Seen::<SecretBundle>::there)
            .flat_map(walk::secrets_of)
            .collect();
        self.secrets(needed, &mut secrets).await?;
        let rings = self.cluster.list(Kind::KeyRing, self.scope(), "").await;
        let service = self
            .cluster
            .get(Kind::KeyService, Scope::Cluster, "default")
            .await;
        Ok(Observed {
            namespace: self.namespace.to_owned(),
            subject,
            bundles,
            secrets,
            rings: seen(rings.map(Some))?,
            service: seen(service)?,
            instance: None,
        })
    }

    /// What the command is about must be there and be seen.
    async fn subject<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<T, CommandError> {
        let found = self.cluster.get(kind, self.scope(), name).await?;
        let missing = || WhyError::NoSubject {
            kind: kind.kind(),
            namespace: self.namespace.to_owned(),
            name: name.to_owned(),
        };
        Ok(found.ok_or_else(missing)?)
    }

    async fn pod(&self, pod: Pod) -> Result<PodSeen, ClusterError> {
        let account = pod.spec.service_account_name.as_deref();
        let account = self
            .look(Kind::ServiceAccount, account.unwrap_or("default"))
            .await?;
        let driver = self
            .cluster
            .get(Kind::CsiDriver, Scope::Cluster, DRIVER)
            .await;
        let node = match &pod.spec.node_name {
            Some(name) => {
                let node = self.cluster.get(Kind::CsiNode, Scope::Cluster, name).await;
                Some(seen(node)?)
            }
            None => None,
        };
        // The name of a pod has nothing in it that a query would need to have escaped.
        let selector = format!(
            "&fieldSelector=involvedObject.name%3D{},reason%3DFailedMount",
            pod.metadata.name
        );
        let events = self
            .cluster
            .list(Kind::Event, self.scope(), &selector)
            .await;
        let events: Seen<Vec<Event>> = seen(events.map(Some))?;
        Ok(PodSeen {
            account,
            driver: seen(driver)?,
            node,
            events: events.there().cloned().unwrap_or_default(),
            pod,
        })
    }

    async fn secrets(
        &self,
        names: impl IntoIterator<Item = String>,
        secrets: &mut BTreeMap<String, Seen<ManagedSecret>>,
    ) -> Result<(), ClusterError> {
        for name in names {
            if let Entry::Vacant(place) = secrets.entry(name) {
                let secret = self.look(Kind::ManagedSecret, place.key()).await?;
                place.insert(secret);
            }
        }
        Ok(())
    }

    async fn look<T: DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
    ) -> Result<Seen<T>, ClusterError> {
        seen(self.cluster.get(kind, self.scope(), name).await)
    }

    const fn scope(&self) -> Scope<'a> {
        Scope::Namespace(self.namespace)
    }
}

/// What one may not see is no failure: the walk goes on without it.
fn seen<T>(found: Result<Option<T>, ClusterError>) -> Result<Seen<T>, ClusterError> {
    match found {
        Ok(Some(object)) => Ok(Seen::There(object)),
        Ok(None) => Ok(Seen::Missing),
        Err(error @ ClusterError::Denied { .. }) => Ok(Seen::Hidden(error.to_string())),
        Err(error) => Err(error),
    }
}
