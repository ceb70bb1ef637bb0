//! Addresses inside a cluster's namespaces. They come from 198.18.0.0/15, which is reserved for benchmarks,
//! and there is no default route: whatever a test does, nothing leaves the machine.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::namespace::Namespace;
use crate::run::run_quietly;

/// The address of the cluster's own namespace, on the bridge that nodes join: etcd serves there, and the API
/// server when no node does it.
pub(super) const CLUSTER: &str = "198.18.0.1";

/// The range of the addresses of services.
pub(super) const SERVICES: &str = "198.19.0.0/16";

/// The first address of the range, which Kubernetes gives to the API server's own service.
pub(super) const API_SERVICE: &str = "198.19.0.1";

/// The address of the service that resolves names.
pub(super) const DNS_SERVICE: &str = "198.19.0.10";

/// How many nodes the ranges have room for.
pub(super) const NODES: usize = 16;

const BRIDGE: &str = "cluster0";

/// The device of a node, inside its own namespace.
const NODE_DEVICE: &str = "eth0";

/// Returns the address of the node with this number.
pub(super) fn node_address(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + low_byte(number))
}

/// Returns the range of the pods of the node with this number.
pub(super) fn pod_range(number: usize) -> String {
    format!("198.18.{}.0/24", 128 + low_byte(number))
}

fn low_byte(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Sets up the cluster's own namespace. Routes to pods lead over their nodes, whether those are on or not.
pub(super) fn configure(namespace: &Namespace, nodes: usize) -> Result<()> {
    let address = format!("{CLUSTER}/24");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", BRIDGE, "type", "bridge"],
        &["address", "add", &address, "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
        // Without it a connection to a service fails before address translation sees it.
        &["route", "add", SERVICES, "dev", BRIDGE],
    ] {
        ip(namespace, words)?;
    }
    (0..nodes).try_for_each(|number| route_to_pods(namespace, number))
}

/// Joins a node's new namespace to the bridge. A node keeps its hardware address, as its neighbours remember it.
pub(super) fn join(
    cluster: &Namespace,
    node: &Namespace,
    number: usize,
    nodes: usize,
) -> Result<()> {
    let plug = plug(number);
    let hardware = format!("02:00:00:00:00:{:02x}", 10 + number);
    let holder = node.holder().id().to_string();
    ip(
        cluster,
        &[
            "link",
            "add",
            &plug,
            "type",
            "veth",
            "peer",
            "name",
            NODE_DEVICE,
            "address",
            &hardware,
            "netns",
            &holder,
        ],
    )?;
    ip(cluster, &["link", "set", &plug, "master", BRIDGE, "up"])?;
    let address = format!("{}/24", node_address(number));
    for words in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &address, "dev", NODE_DEVICE],
        &["link", "set", NODE_DEVICE, "up"],
        &["route", "add", SERVICES, "dev", NODE_DEVICE],
    ] {
        ip(node, words)?;
    }
    (0..nodes)
        .filter(|other| *other != number)
        .try_for_each(|other| route_to_pods(node, other))?;
    let forward = ["--quiet", "--write", "net.ipv4.ip_forward=1"];
    run_quietly(node.member_command("sysctl").args(forward)).map(drop)
}

/// Pulls a node's plug, if it is in.
pub(super) fn leave(cluster: &Namespace, number: usize) -> Result<()> {
    let plug = plug(number);
    let shown = cluster
        .member_command("ip")
        .args(["link", "show", &plug])
        .output()?;
    if shown.status.success() {
        // The end of the node's namespace may take the device away in between.
        let _ = ip(cluster, &["link", "delete", &plug]);
    }
    Ok(())
}

fn plug(number: usize) -> String {
    format!("node{number}")
}

fn route_to_pods(namespace: &Namespace, number: usize) -> Result<()> {
    let node = node_address(number).to_string();
    ip(
        namespace,
        &["route", "add", &pod_range(number), "via", &node],
    )
}

fn ip(namespace: &Namespace, words: &[&str]) -> Result<()> {
    run_quietly(namespace.member_command("ip").args(words)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_node_and_its_pods_are_within_the_ranges() {
        assert_eq!(node_address(NODES - 1).to_string(), "198.18.0.25");
        assert_eq!(pod_range(NODES - 1), "198.18.143.0/24");
    }
}
