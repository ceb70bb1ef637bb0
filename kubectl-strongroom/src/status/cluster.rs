//! The cluster's part of `status`: what the operator says, what runs, and how many objects there are.
//!
//! What one may not see is null, and named; it does not make the status bad.

use serde::Serialize;

use crate::{
    cluster::{
        Cluster, ClusterError, Kind, Scope,
        objects::{
            Condition, Conditions, CryptoKey, KeyRing, KeyService, ManagedSecret, SecretBundle,
            Workload,
        },
    },
    output::{columns, plain},
};

const VERSION: &str = "app.kubernetes.io/version";
/// Everything of the chart that runs has this label and one that says which part it is.
const SELECTOR: &str = "&labelSelector=app.kubernetes.io%2Fname%3Dstrongroom";
const COMPONENT: &str = "app.kubernetes.io/component";
/// What runs in every cluster that has a KeyService; the key service itself may run elsewhere.
const EXPECTED: [&str; 2] = ["operator", "csi-driver"];

/// What `-o json` prints under `cluster`. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterReport {
    key_service: Option<KeyServiceReport>,
    workloads: Option<Vec<WorkloadReport>>,
    objects: Vec<ObjectsReport>,
    /// Parts of which nothing runs.
    missing: Vec<&'static str>,
    /// Sentences about what one may not see, or what is not installed.
    not_seen: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyServiceReport {
    ready: bool,
    version: Option<String>,
    #[serde(rename = "instanceID")]
    instance_id: Option<String>,
    hardware: Option<bool>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkloadReport {
    kind: &'static str,
    namespace: String,
    name: String,
    component: String,
    version: String,
    desired: i64,
    ready: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectsReport {
    kind: &'static str,
    total: usize,
    ready: usize,
}

impl ClusterReport {
    /// Looks at everything; only a cluster that does not answer is a failure.
    pub(super) async fn observe(cluster: &Cluster) -> Result<Self, ClusterError> {
        let mut not_seen = Vec::new();
        let service = cluster
            .get(Kind::KeyService, Scope::Cluster, "default")
            .await;
        let key_service = match seen(service, &mut not_seen)? {
            Some(Some(service)) => Some(KeyServiceReport::new(service)),
            Some(None) => {
                not_seen.push("there is no KeyService default; the operator makes it".to_owned());
                None
            }
            None => None,
        };
        let mut workloads = Some(Vec::new());
        for kind in [Kind::StatefulSet, Kind::Deployment, Kind::DaemonSet] {
            let found = cluster.list(kind, Scope::Cluster, SELECTOR).await;
            match (seen(found, &mut not_seen)?, &mut workloads) {
                (Some(found), Some(workloads)) => {
                    workloads.extend(
                        found
                            .into_iter()
                            .map(|found| WorkloadReport::new(kind, found)),
                    );
                }
                _ => workloads = None,
            }
        }
        let mut objects = Vec::new();
        count::<KeyRing>(
            cluster,
            Kind::KeyRing,
            &mut objects,
            &mut not_seen,
            |ring| &ring.status,
        )
        .await?;
        count::<CryptoKey>(
            cluster,
            Kind::CryptoKey,
            &mut objects,
            &mut not_seen,
            |key| &key.status,
        )
        .await?;
        count::<ManagedSecret>(
            cluster,
            Kind::ManagedSecret,
            &mut objects,
            &mut not_seen,
            |secret| &secret.status,
        )
        .await?;
        count::<SecretBundle>(
            cluster,
            Kind::SecretBundle,
            &mut objects,
            &mut not_seen,
            |bundle| &bundle.status,
        )
        .await?;
        let runs = |component: &str| {
            let mut found = workloads.iter().flatten();
            found.any(|workload: &WorkloadReport| workload.component == component)
        };
        let is_known = key_service.is_some() && workloads.is_some();
        let missing = EXPECTED.into_iter().filter(|part| is_known && !runs(part));
        Ok(Self {
            missing: missing.collect(),
            key_service,
            workloads,
            objects,
            not_seen,
        })
    }

    /// Whether what was seen is as it should be. Objects are their authors' business.
    pub(super) fn ok(&self) -> bool {
        let workloads = self.workloads.iter().flatten();
        self.key_service
            .as_ref()
            .is_none_or(|service| service.ready)
            && workloads.into_iter().all(WorkloadReport::is_complete)
            && self.missing.is_empty()
    }

    /// Tables with an empty line between them.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(service) = &self.key_service {
            let heading = ["KEYSERVICE", "STATUS", "REASON", "MESSAGE"];
            parts.push(table(heading, service.conditions.iter().map(row)));
        }
        if let Some(workloads) = self.workloads.as_ref().filter(|found| !found.is_empty()) {
            let heading = ["WORKLOAD", "NAMESPACE", "READY", "VERSION"];
            parts.push(table(heading, workloads.iter().map(WorkloadReport::row)));
        }
        if !self.objects.is_empty() {
            let heading = ["OBJECTS", "READY", "ALL"];
            parts.push(table(heading, self.objects.iter().map(ObjectsReport::row)));
        }
        let missing = |part: &&str| format!("MISSING: nothing runs as {part}\n");
        parts.extend(self.missing.iter().map(missing));
        let sentence = |text: &String| format!("not seen: {}\n", plain(text));
        parts.extend(self.not_seen.iter().map(sentence));
        parts.join("\n")
    }
}

impl KeyServiceReport {
    fn new(service: KeyService) -> Self {
        let status = service.status;
        Self {
            ready: status
                .condition("Ready")
                .is_some_and(|ready| ready.status == "True"),
            version: status.version,
            instance_id: status.instance_id,
            hardware: status.hardware,
            conditions: status.conditions,
        }
    }
}

fn table<const N: usize>(heading: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = [heading.map(str::to_owned)]
        .into_iter()
        .chain(rows)
        .collect();
    columns(&rows)
}

fn row(condition: &Condition) -> [String; 4] {
    [
        plain(&condition.r#type),
        plain(&condition.status),
        plain(&condition.reason),
        plain(&condition.message),
    ]
}

impl WorkloadReport {
    fn new(kind: Kind, workload: Workload) -> Self {
        let Workload {
            metadata,
            spec,
            status,
        } = workload;
        let (desired, ready) = match kind {
            Kind::DaemonSet => (status.desired_number_scheduled, status.number_ready),
            _ => (
                spec.replicas.unwrap_or(status.replicas),
                status.ready_replicas,
            ),
        };
        let label = |name: &str| metadata.labels.get(name).cloned().unwrap_or_default();
        Self {
            kind: kind.kind(),
            component: label(COMPONENT),
            version: label(VERSION),
            namespace: metadata.namespace,
            name: metadata.name,
            desired,
            ready,
        }
    }

    const fn is_complete(&self) -> bool {
        self.ready >= self.desired
    }

    fn row(&self) -> [String; 4] {
        [
            format!("{} {}", self.kind, plain(&self.name)),
            plain(&self.namespace),
            format!("{}/{}", self.ready, self.desired),
            plain(&self.version),
        ]
    }
}

impl ObjectsReport {
    fn row(&self) -> [String; 3] {
        [
            self.kind.to_owned(),
            self.ready.to_string(),
            self.total.to_string(),
        ]
    }
}

async fn count<T: serde::de::DeserializeOwned>(
    cluster: &Cluster,
    kind: Kind,
    objects: &mut Vec<ObjectsReport>,
    not_seen: &mut Vec<String>,
    status: impl Fn(&T) -> &dyn Conditions,
) -> Result<(), ClusterError> {
    let found = cluster.list::<T>(kind, Scope::Cluster, "").await;
    if let Some(found) = seen(found, not_seen)? {
        let is_ready = |object: &&T| {
            let ready = status(object).condition("Ready");
            ready.is_some_and(|ready| ready.status == "True")
        };
        objects.push(ObjectsReport {
            kind: kind.kind(),
            total: found.len(),
            ready: found.iter().filter(is_ready).count(),
        });
    }
    Ok(())
}

/// None where one may not look, or there is nothing to look at.
fn seen<T>(
    found: Result<T, ClusterError>,
    not_seen: &mut Vec<String>,
) -> Result<Option<T>, ClusterError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error @ (ClusterError::Denied { .. } | ClusterError::NoKind { .. })) => {
            not_seen.push(error.to_string());
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
