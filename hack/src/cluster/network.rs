//! Addresses inside a cluster's namespace. They come from 198.18.0.0/15, which is reserved for benchmarks,
//! and there is no default route: whatever a test does, nothing leaves the machine.

use anyhow::{Result, ensure};

use super::namespace::Namespace;

/// The address of the API server, on the bridge that nodes will join.
pub(super) const API_SERVER: &str = "198.18.0.1";

/// The range of the addresses of services.
pub(super) const SERVICES: &str = "198.19.0.0/16";

/// The first address of the range, which Kubernetes gives to the API server's own service.
pub(super) const API_SERVICE: &str = "198.19.0.1";

const BRIDGE: &str = "cluster0";

pub(super) fn configure(namespace: &Namespace) -> Result<()> {
    let address = format!("{API_SERVER}/24");
    for words in [
        &["link", "set", "lo", "up"][..],
        &["link", "add", BRIDGE, "type", "bridge"],
        &["address", "add", &address, "dev", BRIDGE],
        &["link", "set", BRIDGE, "up"],
        // Without it a connection to a service fails before address translation sees it.
        &["route", "add", SERVICES, "dev", BRIDGE],
    ] {
        let output = namespace.member_command("ip").args(words).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`ip {}` failed: {}",
            words.join(" "),
            text.trim()
        );
    }
    Ok(())
}
