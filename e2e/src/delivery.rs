//! A node with a real kubelet and the driver, a key service beside it that knows the cluster by its keys, and namespace
//! `payments` with a secret `db`. The driver runs among the node's processes and mounts; only its network is the machine's.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use strongroom_api::{
    csi::v1::VolumeCondition,
    strongroom::v1::{
        AcquireControlEpochRequest, ApplyBundleRequest, BundleFile, BundleSpec, Fence, ObjectRef,
        operator_client::OperatorClient,
    },
};
use strongroom_hack::{
    cluster::{BUSYBOX, Node, Options, ScopedCluster},
    installation::{Installation, Settings, probe},
    programs::{Build, Programs},
};
use tempfile::TempDir;
use tonic::{
    Request,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

use crate::{
    native::Native,
    published,
    tenant::{self, Tenant},
    usage::Usage,
    world::wait,
};

/// Namespaces, accounts and the pods whose tokens driver and operator show.
const NODE: &str = include_str!("tenant/node.yaml");
/// Far more than anything takes; nobody waits for it unless something is wrong.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Everything between an administrator and the files of a pod.
pub struct Delivery {
    /// One node, which is also the control plane.
    pub cluster: ScopedCluster,
    /// The key service.
    pub installation: Installation,
    /// The namespace.
    pub tenant: Tenant,
    driver: Option<Child>,
    /// The driver's programs, each built once: what is edited meanwhile is not this story's.
    programs: Vec<(Build, PathBuf)>,
    probes: u16,
    // Outside the folders that are the node's own, so that the driver sees it.
    shared: TempDir,
}

impl Delivery {
    /// Brings all of it up.
    ///
    /// # Errors
    /// With the log of whatever did not come up.
    pub fn begin(name: &str, first_port: u16) -> Result<Self> {
        Self::begin_with(name, first_port, Build::Plain)
    }

    /// The same with other programs.
    ///
    /// # Errors
    /// As `begin`.
    pub fn begin_with(name: &str, first_port: u16, build: Build) -> Result<Self> {
        let cluster =
            ScopedCluster::up(Options::new(format!("e2e-{name}").parse()?).with_nodes(1, 1)?)?;
        cluster.kubectl_with_input(&["apply", "-f", "-"], &NODE.replace("IMAGE", BUSYBOX))?;
        let installation = install(name, first_port, &cluster, build)?;
        let tenant = Tenant::create(&cluster, async || {
            Ok(Native::connect(&installation, "administrator")
                .await?
                .channel())
        })?;
        let mut delivery = Self {
            cluster,
            installation,
            tenant,
            driver: None,
            programs: Vec::new(),
            probes: first_port + 9,
            shared: tempfile::tempdir()?,
        };
        delivery.configure_driver()?;
        delivery.start_driver(build, "")?;
        Ok(delivery)
    }

    fn configure_driver(&self) -> Result<()> {
        let at = |name: &str| self.shared.path().join(name);
        let token = pod_token(&self.cluster, "strongroom-csi", "csi-driver")?;
        fs::write(at("token"), token)?;
        fs::copy(
            self.installation.path("etc/administrator-root.crt"),
            at("root.crt"),
        )?;
        fs::create_dir(at("self-test"))?;
        let folder = self.shared.path().display();
        let config = format!(
            "keyService: {{endpoints: ['{}'], caFile: {folder}/root.crt, tokenFile: {folder}/token}}\n\
             volume: {{selfTestDir: {folder}/self-test}}\n\
             probes: 127.0.0.1:{}\n",
            self.installation.workloads_address(),
            self.probes
        );
        fs::write(at("config.yaml"), config)?;
        let node = self.node()?;
        fs::create_dir_all(node.on_disk("/var/lib/kubelet/plugins/csi.strongroom.dev"))?;
        Ok(())
    }

    /// The driver of a build.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn program(&mut self, build: Build) -> Result<PathBuf> {
        let known = self.programs.iter().find(|(of, _)| *of == build);
        if let Some((_, program)) = known {
            return Ok(program.clone());
        }
        let program = Programs::ensure_built(build)?.csi_driver();
        self.programs.push((build, program.clone()));
        Ok(program)
    }

    /// Starts the driver and waits until kubelet has asked it for its name. With `faults` it ends itself where they say.
    ///
    /// # Errors
    /// When kubelet does not come to know it.
    pub fn start_driver(&mut self, build: Build, faults: &str) -> Result<()> {
        ensure!(self.driver.is_none(), "a driver runs already");
        let program = self.program(build)?;
        let words = self.node()?.enter_words()?.replace(" --net", "");
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().context("a command")?);
        command
            .args(words)
            .arg(program)
            .args(["serve", "--node=node-0", "--config"])
            .arg(self.shared.path().join("config.yaml"))
            .env("FAILPOINTS", faults)
            // What enters the node's namespace of processes waits for the driver that it starts there: both are one group.
            .process_group(0)
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(self.driver_log())?,
            );
        self.driver = Some(command.spawn()?);
        wait(LIMIT, "kubelet knows the driver", || {
            let drivers = "jsonpath={.spec.drivers[*].name}";
            let known = self
                .cluster
                .kubectl(&["get", "csinode", "node-0", "-o", drivers])?;
            let ready = probe(self.probes, "/readyz").is_ok_and(|it| it.status == 200);
            Ok(known.contains("csi.strongroom.dev") && ready)
        })
    }

    /// Makes a bundle of the namespace, or another of it, as the operator does for a SecretBundle.
    ///
    /// # Errors
    /// As the key service.
    pub fn apply_bundle(&self, name: &str, files: Vec<BundleFile>) -> Result<()> {
        let token = pod_token(&self.cluster, "strongroom-csi", "operator")?;
        let uid = |kind: &str, name: &str| {
            self.cluster
                .kubectl(&["get", kind, name, "-o", tenant::UID])
        };
        let process = hex::encode([7; 16]);
        let epoch = AcquireControlEpochRequest {
            process: process.clone(),
            cluster_uid: uid("namespace", "kube-system")?,
        };
        let object = ObjectRef {
            namespace: "payments".to_owned(),
            namespace_uid: uid("namespace", "payments")?,
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut operator = OperatorClient::new(self.workloads().await?);
            let epoch = operator.acquire_control_epoch(bearing(epoch, &token)?);
            let control_epoch = epoch.await?.into_inner().control_epoch;
            let request = ApplyBundleRequest {
                fence: Some(Fence {
                    control_epoch,
                    process,
                }),
                object: Some(object),
                ring: "payments".to_owned(),
                spec: Some(BundleSpec {
                    default_mode: 0,
                    files,
                }),
            };
            operator.apply_bundle(bearing(request, &token)?).await?;
            Ok(())
        })
    }

    async fn workloads(&self) -> Result<Channel> {
        let root = fs::read(self.installation.path("etc/administrator-root.crt"))?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(root))
            .domain_name("key-service.strongroom.dev");
        let address = format!("https://{}", self.installation.workloads_address());
        let endpoint = Endpoint::from_shared(address)?.tls_config(tls)?;
        Ok(endpoint.connect().await?)
    }

    /// Kills the driver, or notes that it is dead.
    ///
    /// # Errors
    /// When there was none.
    pub fn kill_driver(&mut self) -> Result<()> {
        let mut driver = self.driver.take().context("no driver runs")?;
        let group = Pid::from_child(&driver);
        match kill_process_group(group, Signal::KILL) {
            // It has ended with the node, or at its fault point.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        driver.wait()?;
        Ok(())
    }

    /// Whether the driver has ended by itself.
    ///
    /// # Errors
    /// When there is none.
    pub fn driver_is_dead(&mut self) -> Result<bool> {
        let driver = self.driver.as_mut().context("no driver runs")?;
        Ok(driver.try_wait()?.is_some())
    }

    /// What the driver's process holds.
    ///
    /// # Errors
    /// When there is none.
    pub fn usage(&self) -> Result<Usage> {
        let driver = self.driver.as_ref().context("no driver runs")?;
        // What entered the node waits for the driver.
        let tasks = format!("/proc/{0}/task/{0}/children", driver.id());
        let children = fs::read_to_string(tasks)?;
        Usage::of(children.trim().parse().context("the driver's process")?)
    }

    /// Where the driver's log is.
    #[must_use]
    pub fn driver_log(&self) -> PathBuf {
        self.shared.path().join("log")
    }

    /// A metric of the driver, without labels.
    ///
    /// # Errors
    /// When it is not there.
    pub fn metric(&self, name: &str) -> Result<f64> {
        let text = probe(self.probes, "/metrics")?.body;
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = values.next();
        Ok(value.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// A metric of the driver, summed over the label values that contain a text.
    ///
    /// # Errors
    /// When the driver does not answer.
    pub fn counted(&self, name: &str, label: &str) -> Result<f64> {
        let text = probe(self.probes, "/metrics")?.body;
        let of_it = |line: &&str| line.starts_with(name) && line.contains(label);
        let counts = text.lines().filter(of_it);
        Ok(counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    /// What kubelet is told of a pod's volume.
    ///
    /// # Errors
    /// As the driver.
    pub fn condition(&self, pod: &str) -> Result<VolumeCondition> {
        let volume = self.volume(pod)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let driver = published::Driver::connect(&self.node()?).await?;
            driver.condition(&volume).await
        })
    }

    /// The volume of a pod.
    ///
    /// # Errors
    /// When kubelet has not published it.
    pub fn volume(&self, pod: &str) -> Result<published::Volume> {
        let uid = tenant::kubectl(&self.cluster, &["get", "pod", pod, "-o", tenant::UID])?;
        published::Volume::of_pod(&self.node()?, &uid)
    }

    /// Runs a script in the first container of a pod.
    ///
    /// # Errors
    /// When it fails.
    pub fn exec(&self, pod: &str, script: &str) -> Result<String> {
        tenant::exec(&self.cluster, pod, script)
    }

    /// Volumes of ours that the node has mounted; each is in its table once for each place at which the disk is seen.
    ///
    /// # Errors
    /// When the node is off.
    pub fn mounts(&self) -> Result<usize> {
        let table = self.node()?.output("cat", &["/proc/self/mountinfo"])?;
        let ours = table
            .lines()
            .filter(|line| line.contains(" - tmpfs strongroom "));
        let devices: BTreeSet<_> = ours.filter_map(|line| line.split(' ').nth(2)).collect();
        Ok(devices.len())
    }

    /// Where a pod's container has its volume, as this process sees it. The pod must be the only one that has such a file.
    ///
    /// # Errors
    /// When no container has it.
    pub fn volume_of_container(&self, file: &str) -> Result<PathBuf> {
        let containers = self.node()?.processes("busybox")?;
        let roots = containers
            .iter()
            .map(|it| PathBuf::from(format!("/proc/{}/root/run/secrets/app", it.id())));
        let mut found = roots.filter(|root| root.join(file).exists());
        found.next().context("no container has the volume")
    }

    /// The node.
    ///
    /// # Errors
    /// Never, but for a cluster without it.
    pub fn node(&self) -> Result<Node<'_>> {
        self.cluster.node("node-0")
    }

    /// Ends all of it.
    ///
    /// # Errors
    /// When something does not end.
    pub fn end(mut self) -> Result<()> {
        if self.driver.is_some() {
            self.kill_driver()?;
        }
        let root = self.installation.path("");
        self.installation.stop_all()?;
        fs::remove_dir_all(root)?;
        Ok(())
    }
}

/// A message with a token.
fn bearing<T>(message: T, token: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse()?;
    request.metadata_mut().insert("authorization", bearer);
    Ok(request)
}

/// The token of a pod that holds a place for a program: bound to it, and so to the node.
///
/// # Errors
/// As the API server.
pub fn pod_token(cluster: &ScopedCluster, namespace: &str, name: &str) -> Result<String> {
    let namespace = ["-n", namespace];
    let pod = format!("pod/{name}");
    let ready = ["wait", "--for=condition=Ready", &pod, "--timeout=120s"];
    cluster.kubectl(&[&namespace[..], &ready].concat())?;
    let bound = format!("--bound-object-name={name}");
    let token = [
        "create",
        "token",
        name,
        "--audience=strongroom.dev",
        "--bound-object-kind=Pod",
        &bound,
    ];
    cluster.kubectl(&[&namespace[..], &token].concat())
}

/// A key service that knows the cluster by its keys.
fn install(
    name: &str,
    first_port: u16,
    cluster: &ScopedCluster,
    build: Build,
) -> Result<Installation> {
    let root =
        PathBuf::from("/var/lib/strongroom-test").join(format!("{name}-{}", std::process::id()));
    let programs = Programs::ensure_built(build)?;
    let mut settings = Settings::new(&root, programs.folder(), first_port);
    let keys = root.join("etc/main.jwks");
    settings.clusters.push(format!(
        "{{name: main, issuer: 'https://kubernetes.default.svc', keysFile: {}, drivers: [{{namespace: strongroom-csi, \
         name: csi-driver}}], operators: [{{namespace: strongroom-csi, name: operator}}]}}",
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
