//! The folders of a node: whose each is, and who may enter it.

use super::{ETC, Entry, STATE};
use crate::bootstrap::settings::Settings;

pub(super) fn all(settings: &Settings) -> Vec<Entry> {
    match settings.join {
        Some(_) => of_plugin(settings.users.kms_plugin),
        None => of_key_service(settings),
    }
}

fn of_key_service(settings: &Settings) -> Vec<Entry> {
    let [service, plugin, agent] = [
        settings.users.key_service,
        settings.users.kms_plugin,
        settings.users.hsm_agent,
    ];
    vec![
        top(ETC),
        etc("hsm-agent", 0o755),
        etc("key-service", 0o755),
        etc("kms-plugin", 0o755),
        etc("apiserver", 0o700),
        etc("kubeadm", 0o755),
        etc("administrator", 0o700),
        etc("systemd", 0o755),
        top(STATE),
        own("hsm-agent", agent),
        own("key-service", service),
        own("audit", service),
        own("kms-plugin", plugin),
        top(&format!("{STATE}/sockets")),
        sockets("hsm", agent, service, 0o750),
        sockets("kms", service, plugin, 0o750),
        sockets("key-service", service, service, 0o700),
        sockets("apiserver", plugin, plugin, 0o750),
    ]
}

/// A node whose key service is on another one.
fn of_plugin(plugin: u32) -> Vec<Entry> {
    vec![
        top(ETC),
        etc("kms-plugin", 0o755),
        etc("apiserver", 0o700),
        etc("kubeadm", 0o755),
        etc("systemd", 0o755),
        top(STATE),
        own("kms-plugin", plugin),
        own("kms-plugin/identity", plugin),
        top(&format!("{STATE}/sockets")),
        sockets("apiserver", plugin, plugin, 0o750),
    ]
}

fn top(path: &str) -> Entry {
    Entry::folder(path, 0, 0, 0o755)
}

fn etc(name: &str, mode: u32) -> Entry {
    Entry::folder(format!("{ETC}/{name}"), 0, 0, mode)
}

fn own(name: &str, owner: u32) -> Entry {
    Entry::folder(format!("{STATE}/{name}"), owner, owner, 0o700)
}

fn sockets(name: &str, owner: u32, group: u32, mode: u32) -> Entry {
    Entry::folder(format!("{STATE}/sockets/{name}"), owner, group, mode)
}
