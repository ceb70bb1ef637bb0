//! A cluster with our custom resources, a key service beside it, and operators as processes of this machine, each with the
//! rights that the chart gives and the tokens of a pod of its own.

pub mod load;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use strongroom_hack::{
    charts::Chart,
    cluster::{Options, Process, ScopedCluster},
    installation::{Answer, Installation, Settings, probe},
    paths,
    programs::{Build, Programs},
};
use tempfile::TempDir;

use crate::{forward::Forward, gate::Gate, world::wait};

/// Where operators live.
pub const SYSTEM: &str = "strongroom-system";
/// How long something may take on a machine that also compiles.
pub const LIMIT: Duration = Duration::from_secs(120);
const PODS: &str = include_str!("operated/cluster.yaml");

/// The cluster, the key service and what runs.
#[derive(Debug)]
pub struct Operated {
    /// The API server.
    pub cluster: ScopedCluster,
    /// The key service.
    pub installation: Installation,
    first_port: u16,
    folder: TempDir,
    programs: Programs,
    operators: Vec<Operator>,
}

/// An operator that runs. Its way to the API server is its own.
#[derive(Debug)]
struct Operator {
    pod: String,
    process: Process,
    forward: Forward,
}

impl Operated {
    /// Starts cluster and key service; no operator yet. With nodes there are controllers too.
    ///
    /// # Errors
    /// With the log of whatever did not come up.
    pub fn begin(name: &str, first_port: u16, nodes: usize) -> Result<Self> {
        Self::begin_with(programs()?, name, first_port, nodes)
    }

    /// The same with programs of another build.
    ///
    /// # Errors
    /// As `begin`.
    pub fn begin_with(
        programs: Programs,
        name: &str,
        first_port: u16,
        nodes: usize,
    ) -> Result<Self> {
        let mut options = Options::new(format!("e2e-{name}").parse()?);
        if nodes > 0 {
            options = options.with_nodes(nodes, 1)?;
        }
        let cluster = ScopedCluster::up(options)?;
        apply_definitions(&cluster)?;
        for namespace in [SYSTEM, "payments"] {
            cluster.kubectl(&["create", "namespace", namespace])?;
        }
        let rights = Chart::Strongroom.render(
            SYSTEM,
            "1.36.0",
            &[
                "--show-only=templates/operator/rbac.yaml",
                "--show-only=templates/policies/access.yaml",
            ],
        )?;
        cluster.kubectl_with_input(&["apply", "-f", "-"], &rights)?;
        cluster.kubectl_with_input(&["apply", "-f", "-"], PODS)?;
        Ok(Self {
            installation: install(name, first_port, &cluster, &programs)?,
            cluster,
            first_port,
            folder: tempfile::tempdir()?,
            programs,
            operators: Vec::new(),
        })
    }

    /// Starts the operator of a pod, `operator-a` or `operator-b`.
    ///
    /// # Errors
    /// When it is not ready in time, with its log.
    pub fn start(&mut self, pod: &str) -> Result<()> {
        let address = self.installation.workloads_address();
        self.start_by(pod, &address, &self.root())
    }

    /// A way to the key service on which requests of an operator can be held back.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn gate(&self) -> Result<Gate> {
        Gate::open(self.installation.workloads_address(), &self.root())
    }

    /// Starts the operator of a pod, which reaches the key service by a way of its own.
    ///
    /// # Errors
    /// As `start`.
    pub fn start_through(&mut self, pod: &str, gate: &Gate) -> Result<()> {
        let root = self.folder.path().join(format!("{pod}-root.crt"));
        fs::write(&root, gate.root())?;
        self.start_by(pod, &gate.address().to_string(), &root)
    }

    /// The root certificate of the key service.
    fn root(&self) -> PathBuf {
        self.installation.path("etc/administrator-root.crt")
    }

    fn start_by(&mut self, pod: &str, address: &str, root: &Path) -> Result<()> {
        let forward = Forward::open(self.inside()?)?;
        let at = |name: &str| self.folder.path().join(format!("{pod}-{name}"));
        fs::write(at("kubeconfig"), self.kubeconfig(pod, &forward)?)?;
        fs::write(at("token"), self.key_service_token(pod)?)?;
        let config = format!(
            "keyService: {{endpoints: ['{address}'], caFile: {}, tokenFile: {}}}\n\
             kubeconfig: {}\nnamespace: {SYSTEM}\nprobes: 127.0.0.1:{}\n",
            root.display(),
            at("token").display(),
            at("kubeconfig").display(),
            self.port(pod)
        );
        fs::write(at("config.yaml"), config)?;
        let log = File::options().create(true).append(true).open(at("log"))?;
        let mut command = Command::new(self.programs.operator());
        command
            .args(["serve", &format!("--pod={pod}"), "--config"])
            .arg(at("config.yaml"))
            .stdin(Stdio::null())
            .stderr(log);
        let process = Process::spawn(&mut command)?;
        self.operators.push(Operator {
            pod: pod.to_owned(),
            process,
            forward,
        });
        wait(LIMIT, "the operator is ready", || {
            let answer = self.probe(pod, "/readyz")?;
            ensure!(answer.status == 200, "{}: {}", answer.body, self.log(pod));
            Ok(true)
        })
    }

    /// Ends the operator of a pod in order.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self, pod: &str) -> Result<()> {
        self.operator(pod)?.process.stop()?;
        self.operators.retain(|operator| operator.pod != pod);
        Ok(())
    }

    /// Sends a signal to the operator of a pod.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, pod: &str, signal: Signal) -> Result<()> {
        self.operator(pod)?.process.signal(signal)
    }

    /// The way of an operator to the API server.
    ///
    /// # Errors
    /// When it does not run.
    pub fn forward(&self, pod: &str) -> Result<&Forward> {
        Ok(&self.operator(pod)?.forward)
    }

    /// Memory of an operator in KiB.
    ///
    /// # Errors
    /// When it does not run.
    pub fn memory_kib(&self, pod: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.operator(pod)?.process.id());
        let text = fs::read_to_string(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number.context("VmRSS is there")?.parse()?)
    }

    fn operator(&self, pod: &str) -> Result<&Operator> {
        let found = self.operators.iter().find(|operator| operator.pod == pod);
        found.with_context(|| format!("{pod} does not run"))
    }

    fn port(&self, pod: &str) -> u16 {
        self.first_port + if pod == "operator-a" { 8 } else { 9 }
    }

    /// Asks the probe address of an operator.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn probe(&self, pod: &str, path: &str) -> Result<Answer> {
        probe(self.port(pod), path)
    }

    /// The last lines of an operator's log.
    #[must_use]
    pub fn log(&self, pod: &str) -> String {
        let path = self.folder.path().join(format!("{pod}-log"));
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// The sum of a metric over all label values that contain a text.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn metric(&self, pod: &str, name: &str, label: &str) -> Result<f64> {
        let metrics = self.probe(pod, "/metrics")?.body;
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label));
        Ok(lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// Everything in the audit log so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn audit(&self) -> Result<String> {
        let mut text = String::new();
        for file in fs::read_dir(self.installation.audit_dir())? {
            let file = file?;
            if file.file_type()?.is_file() {
                text.push_str(&String::from_utf8_lossy(&fs::read(file.path())?));
            }
        }
        Ok(text)
    }

    /// Applies a manifest.
    ///
    /// # Errors
    /// As kubectl.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let words = ["apply", "--server-side", "-f", "-"];
        self.cluster.kubectl_with_input(&words, manifest).map(drop)
    }

    /// `kubectl` in the namespace `payments`.
    ///
    /// # Errors
    /// As kubectl.
    pub fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", "payments"], words].concat())
    }

    /// One object of the namespace `payments`.
    ///
    /// # Errors
    /// As kubectl.
    pub fn object(&self, kind: &str, name: &str) -> Result<Value> {
        let shown = self.kubectl(&["get", kind, name, "-o", "json"])?;
        Ok(serde_json::from_str(&shown)?)
    }

    /// Status and reason of a condition, such as `True Applied`; nothing when it is not there.
    ///
    /// # Errors
    /// As kubectl.
    pub fn condition(&self, kind: &str, name: &str, type_: &str) -> Result<String> {
        let object = self.object(kind, name)?;
        let generation = &object["metadata"]["generation"];
        let conditions = object["status"]["conditions"].as_array();
        let found = conditions
            .into_iter()
            .flatten()
            .find(|it| it["type"] == type_ && it["observedGeneration"] == *generation);
        let word = |key: &str| found.and_then(|it| it[key].as_str()).unwrap_or("-");
        Ok(format!("{} {}", word("status"), word("reason")))
    }

    /// Waits until a condition is so.
    ///
    /// # Errors
    /// When it is not in time, with what it is and the operator's log.
    pub fn wait_condition(&self, kind: &str, name: &str, type_: &str, is: &str) -> Result<()> {
        wait(LIMIT, &format!("{kind}/{name} {type_} is {is}"), || {
            let now = self.condition(kind, name, type_)?;
            ensure!(now == is, "{now}; {}", self.log("operator-a"));
            Ok(true)
        })
    }

    /// Waits until an object is as it is written.
    ///
    /// # Errors
    /// As `wait_condition`.
    pub fn wait_ready(&self, kind: &str, name: &str) -> Result<()> {
        self.wait_condition(kind, name, "Ready", "True Applied")
    }

    fn inside(&self) -> Result<i32> {
        let Some(node) = self.cluster.nodes().into_iter().next() else {
            return Ok(self.cluster.namespace().holder().id());
        };
        let server = node.member("kube-apiserver")?;
        Ok(server.context("the API server runs")?.id())
    }

    /// The token with which the operator of a pod calls the key service.
    ///
    /// # Errors
    /// As kubectl.
    pub fn key_service_token(&self, pod: &str) -> Result<String> {
        self.token(pod, &["--audience=strongroom.dev"])
    }

    fn token(&self, pod: &str, more: &[&str]) -> Result<String> {
        let bound = format!("--bound-object-name={pod}");
        let words = [
            "create",
            "token",
            "strongroom-operator",
            "-n",
            SYSTEM,
            "--bound-object-kind=Pod",
            &bound,
        ];
        let token = self.cluster.kubectl(&[&words[..], more].concat())?;
        Ok(token.trim().to_owned())
    }

    fn kubeconfig(&self, pod: &str, forward: &Forward) -> Result<String> {
        let authority = self.cluster.layout().pki("kubernetes-ca.crt");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": forward.url(), "certificate-authority": authority,
            }}],
            "users": [{"name": "it", "user": {"token": self.token(pod, &["--duration=2h"])?}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        Ok(kubeconfig.to_string())
    }

    /// Ends everything; a story calls it as its last step, so that a failed one leaves its debris.
    ///
    /// # Errors
    /// When a program does not end.
    pub fn end(mut self) -> Result<()> {
        for operator in self.operators.drain(..) {
            operator.process.stop()?;
        }
        let root = self.installation.path("");
        self.installation.stop_all()?;
        fs::remove_dir_all(root)?;
        Ok(())
    }
}

impl Drop for Operated {
    fn drop(&mut self) {
        for operator in &self.operators {
            let _ = operator.process.kill();
        }
    }
}

/// The programs, built once for all stories of a test.
fn programs() -> Result<Programs> {
    static BUILT: Mutex<Option<Programs>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(programs) = &*built {
        return Ok(programs.clone());
    }
    let programs = Programs::ensure_built(Build::Plain)?;
    Ok(built.insert(programs).clone())
}

/// Applies the committed definitions of our custom resources, and waits until they are served.
///
/// # Errors
/// As kubectl.
pub fn apply_definitions(cluster: &ScopedCluster) -> Result<()> {
    let folder = paths::checkout().join("crds");
    let folder = folder
        .to_str()
        .context("the checkout has a name in UTF-8")?;
    cluster.kubectl(&["apply", "--server-side", "-f", folder])?;
    let words = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        folder,
    ];
    cluster.kubectl(&words).map(drop)
}

fn install(
    name: &str,
    first_port: u16,
    cluster: &ScopedCluster,
    programs: &Programs,
) -> Result<Installation> {
    let root =
        PathBuf::from("/var/lib/strongroom-test").join(format!("{name}-{}", std::process::id()));
    let mut settings = Settings::new(&root, programs.folder(), first_port);
    let keys = root.join("etc/main.jwks");
    settings.clusters.push(format!(
        "{{name: main, issuer: 'https://kubernetes.default.svc', keysFile: {}, \
         operators: [{{namespace: {SYSTEM}, name: strongroom-operator}}], \
         drivers: [{{namespace: strongroom-csi, name: csi-driver}}]}}",
        keys.display()
    ));
    let mut installation = Installation::lay_out(settings)?;
    fs::write(
        &keys,
        cluster.kubectl(&["get", "--raw", "/openid/v1/jwks"])?,
    )?;
    installation.bring_up()?;
    installation.administrator("administrator")?;
    Ok(installation)
}
