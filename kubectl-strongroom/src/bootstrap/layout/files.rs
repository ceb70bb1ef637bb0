//! The files that start nothing: configurations, the EncryptionConfiguration, rights, units of systemd.

use super::{ETC, Entry, KUBECONFIG, PATCH, STATE, Secret, folders, values};
use crate::bootstrap::{
    settings::{Program, Settings},
    template::fill,
};

pub(super) fn all(settings: &Settings) -> Vec<Entry> {
    let values = values(settings);
    let text = |name: &str, mode, template: &str| {
        Entry::text(format!("{ETC}/{name}"), mode, &fill(template, &values))
    };
    let configs = settings.programs().iter().map(|program| {
        let path = format!("{ETC}/{}/config.yaml", program.name());
        Entry::text(path, 0o644, &config(settings, *program))
    });
    let mut files: Vec<Entry> = configs.collect();
    if settings.join.is_none() {
        let template = include_str!("../templates/cli.yaml");
        files.push(text("cli.yaml", 0o600, template));
    }
    let template = include_str!("../templates/encryption.yaml");
    files.push(text("apiserver/encryption.yaml", 0o600, template));
    files.push(Entry::text(PATCH, 0o644, &patch(settings)));
    if settings.access.is_some() {
        let template = include_str!("../templates/rbac.yaml");
        files.push(text("rbac.yaml", 0o644, template));
        let service = settings.users.key_service;
        files.push(Entry::secret(KUBECONFIG, service, Secret::Kubeconfig));
    }
    let units = settings.programs().iter();
    files.extend(units.map(|program| unit(settings, *program)));
    let template = include_str!("../templates/kube-apiserver.conf");
    files.push(text("systemd/kube-apiserver.conf", 0o644, template));
    files.push(tmpfiles(settings));
    files
}

/// What the static pod of kube-apiserver needs, as kubeadm takes it.
fn patch(settings: &Settings) -> String {
    let container = wait_container(settings);
    fill(
        include_str!("../templates/kube-apiserver-patch.yaml"),
        &[("wait-container", container)],
    )
}

/// The init container with which kube-apiserver starts after the plugin.
pub(in crate::bootstrap) fn wait_container(settings: &Settings) -> String {
    let template = include_str!("../templates/wait-container.yaml");
    fill(template, &values(settings))
}

/// The configuration of a program.
pub(super) fn config(settings: &Settings, program: Program) -> String {
    let template = match program {
        Program::HsmAgent => include_str!("../templates/hsm-agent.yaml"),
        Program::KeyService => include_str!("../templates/key-service.yaml"),
        Program::KmsPlugin if settings.join.is_some() => {
            include_str!("../templates/kms-plugin-remote.yaml")
        }
        Program::KmsPlugin => include_str!("../templates/kms-plugin.yaml"),
    };
    fill(template, &values(settings))
}

fn unit(settings: &Settings, program: Program) -> Entry {
    let users = settings.users;
    let (group, writable) = match program {
        Program::HsmAgent => (Some(users.key_service), "hsm-agent sockets/hsm"),
        Program::KeyService => (
            Some(users.kms_plugin),
            "key-service audit sockets/key-service sockets/kms",
        ),
        Program::KmsPlugin => (None, "kms-plugin sockets/apiserver"),
    };
    let writable: Vec<String> = writable
        .split(' ')
        .map(|folder| format!("{STATE}/{folder}"))
        .collect();
    let body = fill(
        include_str!("../templates/unit.service"),
        &[
            ("program", program.name().to_owned()),
            ("uid", settings.uid(program).to_string()),
            (
                "groups",
                group.map_or_else(String::new, |id| format!("SupplementaryGroups={id}\n")),
            ),
            ("writable", writable.join(" ")),
        ],
    );
    let name = format!("{ETC}/systemd/{}.service", program.full_name());
    Entry::text(name, 0o644, &body)
}

/// For nodes whose `/var/lib` does not last.
fn tmpfiles(settings: &Settings) -> Entry {
    let mut body =
        "# Copy it to /etc/tmpfiles.d if the folders below are not on a disk.\n".to_owned();
    for folder in folders::all(settings) {
        if folder.path.starts_with(STATE) {
            let Entry {
                path,
                owner,
                group,
                mode,
                content: _,
            } = folder;
            body.push_str(&format!(
                "d {} {mode:04o} {owner} {group}\n",
                path.display()
            ));
        }
    }
    Entry::text(format!("{ETC}/systemd/strongroom.conf"), 0o644, &body)
}
