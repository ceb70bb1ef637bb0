//! Which API servers a cluster has: each renews a lease every ten seconds.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// A lease that is this much older than the newest belongs to an API server that is gone. Only leases are compared
/// with each other, so the clock of this machine does not matter.
const GONE_AFTER: SignedDuration = SignedDuration::from_secs(60);
const HOST_LABEL: &str = "kubernetes.io/hostname";

/// One API server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its host where the lease tells it, otherwise the lease's name.
    pub(super) name: String,
    /// As the label `apiserver_id_hash` of its metrics has it.
    pub(super) hash: String,
}

#[derive(Deserialize)]
struct LeaseList {
    items: Vec<Lease>,
}

#[derive(Deserialize)]
struct Lease {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    renew_time: Option<Timestamp>,
}

/// The API servers that renewed their lease lately.
pub(super) fn live(leases: &[u8]) -> Result<Vec<Identity>, serde_json::Error> {
    let LeaseList { items } = serde_json::from_slice(leases)?;
    let newest = items.iter().filter_map(|lease| lease.spec.renew_time).max();
    let is_live = |lease: &Lease| match (newest, lease.spec.renew_time) {
        (Some(newest), Some(renewed)) => newest.duration_since(renewed) <= GONE_AFTER,
        (Some(_), None) => false,
        (None, _) => true,
    };
    Ok(items.into_iter().filter(is_live).map(identity).collect())
}

fn identity(lease: Lease) -> Identity {
    let Metadata { name, mut labels } = lease.metadata;
    let hash = format!("sha256:{}", hex::encode(digest(&SHA256, name.as_bytes())));
    Identity {
        name: labels.remove(HOST_LABEL).unwrap_or(name),
        hash,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(items: &str) -> Vec<String> {
        let list = format!(r#"{{"kind": "List", "items": [{items}]}}"#);
        live(list.as_bytes())
            .unwrap()
            .into_iter()
            .map(|identity| identity.name)
            .collect()
    }

    const A: &str = r#"{"metadata": {"name": "apiserver-a", "labels": {"kubernetes.io/hostname": "cp-1"}},
        "spec": {"renewTime": "2026-11-22T05:00:00.123456Z"}}"#;
    const B: &str = r#"{"metadata": {"name": "apiserver-b"},
        "spec": {"renewTime": "2026-11-22T04:59:01.000000Z"}}"#;
    const GONE: &str = r#"{"metadata": {"name": "apiserver-c"},
        "spec": {"renewTime": "2026-11-22T04:58:59.000000Z"}}"#;

    #[test]
    fn api_server_that_stopped_renewing_is_not_waited_for() {
        assert_eq!(names(&[A, B, GONE].join(",")), ["cp-1", "apiserver-b"]);
        assert_eq!(names(GONE), ["apiserver-c"]);
        assert_eq!(names(""), [""; 0]);
    }

    #[test]
    fn hash_is_of_the_name_of_the_lease() {
        let list = format!(r#"{{"items": [{A}]}}"#);
        let expected = "sha256:b5b662adf0e40b9253722f985e321a40";
        assert!(live(list.as_bytes()).unwrap()[0].hash.starts_with(expected));
    }
}
