//! The cluster of this story, and what is done on each of its nodes.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    control_plane::{ControlPlane, ENCRYPTION, succeeded},
    envelope,
    world::secret_path,
};
use strongroom_hack::cluster::{Health, Node};

pub(crate) use strongroom_e2e::envelope::key_id_hash as hash;

/// How long anything may take on a machine that also compiles.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Where the key service says how it is; bootstrap's defaults.
pub(crate) const KEY_SERVICE_PROBES: u16 = 8080;
/// And the plugin, on every node.
pub(crate) const PLUGIN_PROBES: u16 = 8081;

const ROTATE: [&str; 3] = ["rotate", "etcd", "--output=json"];

/// Three nodes that are set up, with the Secrets that were ever written.
pub(crate) struct Trio {
    pub(crate) control_plane: ControlPlane,
    balanced: PathBuf,
    written: RefCell<BTreeSet<String>>,
}

impl Trio {
    /// Sets the first node up, has the others join, and lets each API server encrypt.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let control_plane = ControlPlane::start(name, 3)?;
        let start = Instant::now();
        let trio = Self {
            balanced: control_plane.shared().join("balanced.kubeconfig"),
            control_plane,
            written: RefCell::default(),
        };
        trio.write_balanced_kubeconfig()?;
        trio.control_plane
            .bootstraps_with_access(&["--plugins-port=8444"])?;
        for node in trio.nodes()? {
            if node.name() != trio.first()?.name() {
                trio.join(node, &[])?;
            }
            node.set_encryption(ENCRYPTION)?;
            node.restart_api_server(Health::Ready)?;
        }
        println!(
            "report: three API servers: set up and encrypting {:.0} s after the nodes were ready",
            start.elapsed().as_secs_f64()
        );
        Ok(trio)
    }

    /// Has a node join the first one, with an enrolment file of its own.
    pub(crate) fn join(&self, node: Node<'_>, arguments: &[&str]) -> Result<()> {
        let file = self.control_plane.shared().join("enrolment.yaml");
        let path = file.to_str().context("UTF-8")?;
        let enrol = ["enrol", "node", node.name().as_ref(), "--file", path];
        succeeded(self.control_plane.strongroom(&enrol)?)?;
        let join = [&["bootstrap", "--join", path], arguments].concat();
        succeeded(self.control_plane.strongroom_on(node, &join)?)?;
        Ok(fs::remove_file(&file)?)
    }

    /// What a program on a node says at a path of its probes' address.
    pub(crate) fn probe(&self, node: Node<'_>, port: u16, path: &str) -> Result<String> {
        let url = format!("http://127.0.0.1:{port}{path}");
        node.output("curl", &["-sS", "--max-time", "2", &url])
    }

    /// A kubeconfig that leads to any of the API servers, as one for a load balancer does.
    fn write_balanced_kubeconfig(&self) -> Result<()> {
        let file = self.control_plane.cluster.layout().kubeconfig();
        let mut kubeconfig: Value = serde_json::from_slice(&fs::read(file)?)?;
        // The first address of the services' range: kube-proxy of each node gives connections to all API servers in turn.
        kubeconfig["clusters"][0]["cluster"]["server"] = "https://198.19.0.1:443".into();
        Ok(fs::write(&self.balanced, kubeconfig.to_string())?)
    }

    pub(crate) fn node(&self, number: usize) -> Result<Node<'_>> {
        self.control_plane.cluster.node(&format!("node-{number}"))
    }

    /// The node with the key service.
    pub(crate) fn first(&self) -> Result<Node<'_>> {
        self.node(0)
    }

    pub(crate) fn nodes(&self) -> Result<[Node<'_>; 3]> {
        Ok([self.node(0)?, self.node(1)?, self.node(2)?])
    }

    /// Writes a Secret through a node's API server, and returns the key id that lies beside it in etcd.
    pub(crate) fn write(&self, node: Node<'_>, name: &str) -> Result<String> {
        let literal = format!("--from-literal=name={name}");
        node.kubectl(&["create", "secret", "generic", name, &literal])?;
        self.written.borrow_mut().insert(name.to_owned());
        let raw = self.control_plane.cluster.etcd_get(&secret_path(name))?;
        let raw = raw.context("the Secret is in etcd")?;
        Ok(envelope::parse(&raw.value)?.key_id)
    }

    /// Reads a Secret through a node's API server, which asks etcd and not its watch cache.
    pub(crate) fn read(&self, node: Node<'_>, name: &str) -> Result<()> {
        let template = "go-template={{.data.name | base64decode}}";
        let read = node.kubectl(&["get", "secret", name, "-o", template])?;
        ensure!(read == name, "{name} reads as {read}");
        Ok(())
    }

    /// Reads everything that was ever written, through each API server.
    pub(crate) fn read_everything(&self) -> Result<()> {
        for node in self.nodes()? {
            for name in self.written.borrow().iter() {
                self.read(node, name)
                    .with_context(|| format!("{name} on {}", node.name()))?;
            }
        }
        Ok(())
    }

    /// The hash of the key id that a node's API server uses now, as its metrics tell.
    pub(crate) fn reported(&self, node: Node<'_>) -> Result<String> {
        let metric = "apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{";
        let metrics = node.get("/metrics")?;
        let lines = metrics.lines().filter(|line| line.starts_with(metric));
        let newest = lines.max_by(|one, other| value(one).total_cmp(&value(other)));
        label(newest.context("the API server shows its key id")?)
    }

    /// The same of a node's plugin, as it answers Status.
    pub(crate) fn used_by_plugin(&self, node: Node<'_>) -> Result<String> {
        let metrics = self.probe(node, PLUGIN_PROBES, "/metrics")?;
        let ok = metrics
            .lines()
            .any(|line| line == "strongroom_kms_plugin_status_ok 1");
        ensure!(ok, "Status is an error on {}", node.name());
        let line = metrics
            .lines()
            .find(|line| line.starts_with("strongroom_kms_plugin_key_id_info{"));
        label(line.context("the plugin shows its key id")?)
    }

    /// How many seeds a node's API server has had opened since its start.
    pub(crate) fn opened(&self, node: Node<'_>) -> Result<f64> {
        let metric = "apiserver_envelope_encryption_kms_operations_latency_seconds_count{";
        let metrics = node.get("/metrics")?;
        let lines = metrics.lines().filter(|line| {
            line.starts_with(metric) && line.contains("Decrypt\"") && line.contains("\"OK\"")
        });
        Ok(lines.map(value).sum())
    }

    /// Rotates etcd's key, as an administrator on the first node.
    pub(crate) fn rotate(&self) -> Result<Value> {
        said(self.control_plane.strongroom(&ROTATE)?)
    }

    /// Waits until all API servers have come along.
    pub(crate) fn rotate_and_wait(&self, arguments: &[&str]) -> Result<Output> {
        let kubeconfig = format!("--kubeconfig={}", self.balanced.display());
        let words = [&ROTATE, &["--wait", &kubeconfig][..], arguments].concat();
        self.control_plane.strongroom(&words)
    }

    /// What `kubectl strongroom status` says, whether all is well or not.
    pub(crate) fn status(&self) -> Result<Value> {
        let output = self.control_plane.strongroom(&["status", "-o", "json"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())
    }
}

/// The answer of a command that must succeed.
pub(crate) fn said(output: Output) -> Result<Value> {
    Ok(serde_json::from_str(&succeeded(output)?)?)
}

fn value(line: &str) -> f64 {
    let last = line.rsplit(' ').next();
    last.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// The hash of a key id among a metric's labels.
fn label(line: &str) -> Result<String> {
    let rest = line.split("key_id_hash=\"").nth(1);
    let hash = rest.and_then(|rest| rest.split('"').next());
    Ok(hash.context("the line has a hash")?.to_owned())
}
