//! The static pods: those that serve, and those that do something once.

use super::{Act, ENROLMENT, Entry, Once, Secret, files, values};
use crate::bootstrap::{
    settings::{Program, Settings},
    template::{fill, sha256},
};

/// How the plugin's pod gets at the key service on its own node.
const SOCKET_MOUNT: &str = "    - name: key-service-socket
      mountPath: /var/lib/strongroom/sockets/kms
      readOnly: true
";
const SOCKET_VOLUME: &str = "  - name: key-service-socket
    hostPath:
      path: /var/lib/strongroom/sockets/kms
      type: Directory
";

/// The pod that serves.
pub(super) fn serving(settings: &Settings, program: Program) -> Entry {
    let template = match program {
        Program::HsmAgent => include_str!("../templates/pod-hsm-agent.yaml"),
        Program::KeyService => include_str!("../templates/pod-key-service.yaml"),
        Program::KmsPlugin => include_str!("../templates/pod-kms-plugin.yaml"),
    };
    let (mount, volume) = match settings.join {
        Some(_) => ("", ""),
        None => (SOCKET_MOUNT, SOCKET_VOLUME),
    };
    let own = [
        // With another configuration it is another pod, so the kubelet starts it anew.
        ("config", sha256(&files::config(settings, program))),
        ("socket-mount", mount.to_owned()),
        ("socket-volume", volume.to_owned()),
    ];
    entry(settings, program.full_name(), template, &own)
}

/// The pod that makes token and instance.
pub(super) fn init(settings: &Settings) -> Once {
    let template = include_str!("../templates/pod-init.yaml");
    Once {
        act: Act::Init,
        pod: entry(settings, "strongroom-init", template, &[run(settings)]),
        secret: None,
    }
}

/// The pod that gets the node's first certificate.
pub(super) fn enrol(settings: &Settings) -> Once {
    let template = include_str!("../templates/pod-enrol.yaml");
    let plugin = settings.users.kms_plugin;
    Once {
        act: Act::Enrol,
        pod: entry(settings, "strongroom-enrol", template, &[run(settings)]),
        secret: Some(Entry::secret(ENROLMENT, plugin, Secret::Enrolment)),
    }
}

/// Each run is a pod with a name of its own: a kubelet starts no static pod before the last one of that name is forgotten.
fn run(settings: &Settings) -> (&'static str, String) {
    ("run", settings.started.as_second().to_string())
}

fn entry(settings: &Settings, name: &str, template: &str, own: &[(&'static str, String)]) -> Entry {
    let body = fill(template, &[own, &values(settings)].concat());
    let path = settings.manifests.join(format!("{name}.yaml"));
    Entry::text(path, 0o600, &body)
}
