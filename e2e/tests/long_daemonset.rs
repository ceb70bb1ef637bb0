//! The driver as a DaemonSet out of its image, and the key service that `bootstrap` set up, both on the node whose pods read.
#![forbid(unsafe_code)]

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use strongroom_e2e::{
    control_plane::ControlPlane,
    inside,
    tenant::{self, Tenant},
    world::wait,
};
use strongroom_hack::image::{self, Subject};

const DRIVER: &str = include_str!("pods/daemonset.yaml");
const CONFIG: &str = "/etc/strongroom/key-service/config.yaml";
const JWKS: &str = "/etc/strongroom/key-service/main.jwks";
const LIMIT: Duration = Duration::from_secs(120);
const PASSWORD: &str = "cat /run/secrets/app/db/password";

/// Tells the key service of the cluster, as an administrator does who edits its configuration.
fn register_cluster(stage: &ControlPlane) -> Result<()> {
    let node = stage.node()?;
    let keys = stage
        .cluster
        .kubectl(&["get", "--raw", "/openid/v1/jwks"])?;
    fs::write(node.on_disk(JWKS), keys)?;
    let path = node.on_disk(CONFIG);
    let address = node.address();
    let more = format!(
        "workloads: {{listen: '{address}:8445'}}\n\
         clusters:\n\
         - name: main\n\
         \x20 issuer: https://kubernetes.default.svc\n\
         \x20 keysFile: {JWKS}\n\
         \x20 drivers: [{{namespace: strongroom-csi, name: csi-driver}}]\n"
    );
    fs::write(&path, fs::read_to_string(&path)? + &more)?;
    let before = stage.process("key-service")?;
    before.kill()?;
    wait(LIMIT, "the key service serves workloads", || {
        let sockets = node.output("ss", &["-Hltn", "sport = :8445"])?;
        Ok(!sockets.is_empty())
    })
}

fn deploy_driver(stage: &ControlPlane) -> Result<()> {
    let node = stage.node()?;
    let config = format!(
        "keyService: {{endpoints: ['{}:8445'], caFile: /etc/strongroom/csi/root.crt}}\nprobes: 0.0.0.0:8083\n",
        node.address()
    );
    let file = stage.shared().join("csi-driver.yaml");
    fs::write(&file, config)?;
    let root = node.on_disk("/etc/strongroom/administrator/ca.pem");
    let manifest = DRIVER.replace("IMAGE", &image::reference(Subject::CsiDriver));
    let cluster = &stage.cluster;
    cluster.kubectl_with_input(&["apply", "-f", "-"], &manifest)?;
    let from = |name: &str, path: &Path| {
        let path = path.to_str().context("UTF-8")?;
        Ok::<_, anyhow::Error>(format!("--from-file={name}={path}"))
    };
    let (config, root) = (from("config.yaml", &file)?, from("root.crt", &root)?);
    let namespace = ["-n", "strongroom-csi"];
    let create = ["create", "configmap", "csi-driver", &config, &root];
    cluster.kubectl(&[&namespace[..], &create].concat())?;
    let rollout = [
        "rollout",
        "status",
        "daemonset/csi-driver",
        "--timeout=120s",
    ];
    cluster.kubectl(&[&namespace[..], &rollout].concat())?;
    Ok(())
}

#[test]
fn pod_keeps_its_files_while_the_driver_is_replaced_and_sees_rotations_after() -> Result<()> {
    let stage = ControlPlane::start("e2e-daemonset", 1)?;
    stage.bootstraps(&[])?;
    register_cluster(&stage)?;
    deploy_driver(&stage)?;
    let node = stage.node()?;
    let tenant = Tenant::create(&stage.cluster, async || inside::administrator(node).await)?;
    tenant::create_pod(&stage.cluster, "api")?;
    tenant.grant(&stage.cluster, "api")?;
    tenant::wait_until_runs(&stage.cluster, "api")?;
    let read = || tenant::exec(&stage.cluster, "api", PASSWORD);
    let first = read()?;
    assert_eq!(first.len(), 32, "as generated");
    tenant.rotate()?;
    wait(LIMIT, "the pod sees the second version", || {
        Ok(read()? != first)
    })?;
    let second = read()?;

    let driver = stage.process("csi-driver")?;
    driver.kill()?;
    wait(LIMIT, "the driver is another one", || {
        let running = node.processes("csi-driver")?;
        Ok(!running.is_empty() && running.iter().all(|it| it.id() != driver.id()))
    })?;
    assert_eq!(read()?, second);
    tenant.rotate()?;
    // By the stream when kubelet has published the volume again, and by that publish itself.
    wait(LIMIT, "the pod sees the third version", || {
        Ok(read()? != second)
    })?;

    let driver = [
        "-n",
        "strongroom-csi",
        "delete",
        "daemonset",
        "csi-driver",
        "--timeout=60s",
    ];
    stage.cluster.kubectl(&driver)?;
    assert_eq!(
        read()?.len(),
        32,
        "files are not the driver's to take along"
    );
    Ok(())
}
