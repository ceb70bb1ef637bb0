//! No secret is written down: an installation in a cluster whose etcd is encrypted by another of ours is used in every way, and
//! killed in between; then everything that anybody wrote is searched. Whoever writes was given a planted value, which must be
//! found: a search that cannot find is none.
#![forbid(unsafe_code)]

mod search;
mod used;

use anyhow::{Result, ensure};
use strongroom_e2e::{
    control_plane::{ControlPlane, ENCRYPTION},
    installed::Installed,
};
use strongroom_hack::cluster::Health;

/// Bodies are logged, but for those that every cluster leaves out because they are secret in themselves.
const AUDIT_POLICY: &str = include_str!("audit-policy.yaml");

#[test]
fn no_secret_is_in_logs_events_metrics_etcd_audit_log_or_on_the_nodes_disk() -> Result<()> {
    let stage = ControlPlane::start("e2e-pods-canary", 1)?;
    // What was written until now are images.
    let began = tempfile::tempfile()?.metadata()?.modified()?;
    stage.cluster.replace_audit_policy(AUDIT_POLICY)?;
    stage.bootstraps(&[])?;
    let node = stage.node()?;
    node.set_encryption(ENCRYPTION)?;
    node.restart_api_server(Health::Ready)?;
    let place = Installed::on(stage)?;

    let mut used = used::everything(&place)?;
    search::bodies_are_logged(&place.node()?.audit_log())?;
    search::add_credentials(&place, &mut used.canaries)?;
    let metrics = search::metrics(&place)?;
    let found = search::everywhere(&place, &used, &metrics, began)?;
    println!(
        "report: canary scan: {} values in ten forms each, in {} files with {} MiB, {} keys of etcd, {} lines of metrics: only \
         the planted one was found, in {} places",
        used.values,
        found.files,
        found.bytes >> 20,
        found.keys,
        metrics.lines().count(),
        found.planted.len()
    );
    ensure!(found.secrets.is_empty(), "{:#?}", found.secrets);
    Ok(())
}
