//! The configuration files of an installation, and what others need to use it.

use super::{AGENT_UID, Installation, KEY_SERVICE_UID, PLUGIN_UID, Program};

pub(super) fn text(of: &Installation, program: Program) -> String {
    match program {
        Program::HsmAgent => hsm_agent(of),
        Program::KeyService => key_service(of),
        Program::KmsPlugin => kms_plugin(of),
    }
}

fn hsm_agent(of: &Installation) -> String {
    let (data, socket) = (of.path("agent"), of.path("run/hsm/agent.sock"));
    let port = of.probe_port(Program::HsmAgent);
    format!(
        "dataDir: {data}\n\
         socket:\n  path: {socket}\n  group: {KEY_SERVICE_UID}\n  peers:\n  - uid: {KEY_SERVICE_UID}\n\
         probes: 127.0.0.1:{port}\n\
         token:\n  type: SoftHSM\n  module: {module}\n  label: strongroom\n{make}\
         log: info\n",
        data = data.display(),
        socket = socket.display(),
        module = of.settings.module.display(),
        make = if is_made_by_request(of) {
            "  make: Request\n"
        } else {
            ""
        },
    )
}

fn is_made_by_request(of: &Installation) -> bool {
    let kubernetes = of.settings.kubernetes.as_ref();
    kubernetes.is_some_and(|text| text.contains("init: Request"))
}

fn key_service(of: &Installation) -> String {
    let port = of.probe_port(Program::KeyService);
    format!(
        "dataDir: {data}\n\
         listen: {listen}\n\
         probes: 127.0.0.1:{port}\n\
         adminSocket: {admin}\n\
         kmsSocket:\n  path: {kms}\n  peers: [{PLUGIN_UID}]\n  group: {PLUGIN_UID}\n\
         hsmAgent:\n  socket: {agent}\n  uid: {AGENT_UID}\n\
         audit:\n  dir: {audit}\n  capacityMib: {capacity}\n  reserveMib: 1\n  segmentMib: 4\n\
         kekCacheTtl: {ttl}\n\
         access: [{access}]\n\
         {plugins}{clusters}{kubernetes}administrators:\n- certificate: administrator\n",
        data = of.path("service").display(),
        listen = of.server(),
        admin = of.path("run/service/admin.sock").display(),
        kms = of.path("run/kms/key-service.sock").display(),
        agent = of.path("run/hsm/agent.sock").display(),
        audit = of.audit_dir().display(),
        capacity = of.settings.audit_capacity_mib,
        ttl = of.settings.kek_cache_ttl,
        access = of.settings.access.join(", "),
        plugins = plugins(of),
        clusters = clusters(of),
        kubernetes = kubernetes(of),
    )
}

fn plugins(of: &Installation) -> String {
    if of.settings.plugins {
        format!("plugins:\n  listen: {}\n", of.plugins_address())
    } else {
        String::new()
    }
}

fn clusters(of: &Installation) -> String {
    let clusters = &of.settings.clusters;
    if clusters.is_empty() {
        return String::new();
    }
    format!(
        "workloads:\n  listen: {}\nclusters: [{}]\n",
        of.workloads_address(),
        clusters.join(", ")
    )
}

fn kubernetes(of: &Installation) -> String {
    let kubernetes = of.settings.kubernetes.as_ref();
    kubernetes.map_or_else(String::new, |text| format!("kubernetes: {text}\n"))
}

fn kms_plugin(of: &Installation) -> String {
    let port = of.probe_port(Program::KmsPlugin);
    format!(
        "listen:\n  path: {socket}\n  peers: [0]\n\
         keyService:\n  socket: {service}\n  uid: {KEY_SERVICE_UID}\n\
         state: {state}\n\
         probes: 127.0.0.1:{port}\n",
        socket = of.plugin_socket().display(),
        service = of.path("run/kms/key-service.sock").display(),
        state = of.path("plugin/state.json").display(),
    )
}

/// `identity` stays last, so that objects written before are still read.
pub(super) fn encryption(of: &Installation, resources: &[&str]) -> String {
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\n\
         kind: EncryptionConfiguration\n\
         resources:\n\
         - resources: [{resources}]\n\
        \x20 providers:\n\
        \x20 - kms:\n\
        \x20     apiVersion: v2\n\
        \x20     name: strongroom\n\
        \x20     endpoint: unix://{socket}\n\
        \x20     timeout: 3s\n\
        \x20 - identity: {{}}\n",
        resources = resources.join(", "),
        socket = of.plugin_socket().display(),
    )
}

pub(super) fn command_line(of: &Installation, name: &str) -> String {
    let at = |suffix: &str| {
        of.path("etc")
            .join(format!("{name}{suffix}"))
            .display()
            .to_string()
    };
    format!(
        "server: {}\nca: {}\ncertificate: {}\nkey: {}\n",
        of.server(),
        at("-root.crt"),
        at(".crt"),
        at(".key")
    )
}
