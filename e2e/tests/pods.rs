//! A secret in a pod: a real kubelet, tokens of a real API server, the real key service, and the driver on the node.
#![forbid(unsafe_code)]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    native::Native,
    tenant::{self, Tenant, UID},
    world::wait,
};
use strongroom_hack::{
    cluster::{BUSYBOX, Node, Options, ScopedCluster},
    installation::{Installation, Settings},
    programs::{Build, Programs},
};
use tempfile::TempDir;

const DRIVER: &str = include_str!("pods/csi-driver.yaml");
const LIMIT: Duration = Duration::from_secs(120);

/// A node with a real kubelet and the driver, and a key service beside it that holds a secret `db` of namespace
/// `payments`.
struct Story {
    cluster: ScopedCluster,
    installation: Installation,
    driver: Option<Child>,
    // Outside the folders that are the node's own, so that the driver sees it.
    shared: TempDir,
    tenant: Tenant,
}

impl Story {
    fn begin(name: &str, first_port: u16) -> Result<Self> {
        let cluster =
            ScopedCluster::up(Options::new(format!("e2e-{name}").parse()?).with_nodes(1, 1)?)?;
        cluster.kubectl_with_input(&["apply", "-f", "-"], &DRIVER.replace("IMAGE", BUSYBOX))?;
        let installation = install(name, first_port, &cluster)?;
        let tenant = Tenant::create(&cluster, async || {
            Ok(Native::connect(&installation, "administrator")
                .await?
                .channel())
        })?;
        let mut story = Self {
            cluster,
            installation,
            driver: None,
            shared: tempfile::tempdir()?,
            tenant,
        };
        story.start_driver()?;
        Ok(story)
    }

    /// Runs the driver among the node's processes and mounts, with the token of a pod that its DaemonSet would have. Only its
    /// network is the machine's, where the key service is.
    fn start_driver(&mut self) -> Result<()> {
        let namespace = ["-n", "strongroom-csi"];
        let ready = [
            "wait",
            "--for=condition=Ready",
            "pod/csi-driver",
            "--timeout=120s",
        ];
        self.cluster.kubectl(&[&namespace[..], &ready].concat())?;
        let token = [
            "create",
            "token",
            "csi-driver",
            "--audience=strongroom.dev",
            "--bound-object-kind=Pod",
            "--bound-object-name=csi-driver",
        ];
        let token = self.cluster.kubectl(&[&namespace[..], &token].concat())?;
        let at = |name: &str| self.shared.path().join(name);
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
             probes: 127.0.0.1:0\n",
            self.installation.workloads_address()
        );
        fs::write(at("config.yaml"), config)?;
        let node = self.node()?;
        fs::create_dir_all(node.on_disk("/var/lib/kubelet/plugins/csi.strongroom.dev"))?;
        let program = Programs::ensure_built(Build::Plain)?.csi_driver();
        let words = node.enter_words()?.replace(" --net", "");
        let mut words = words.split(' ');
        let mut command = Command::new(words.next().context("a command")?);
        command
            .args(words)
            .arg(program)
            .args(["serve", "--node=node-0", "--config"])
            .arg(at("config.yaml"))
            .stderr(File::create(at("log"))?);
        self.driver = Some(command.spawn()?);
        wait(LIMIT, "kubelet knows the driver", || {
            let drivers = "jsonpath={.spec.drivers[*].name}";
            let known = self
                .cluster
                .kubectl(&["get", "csinode", "node-0", "-o", drivers])?;
            Ok(known.contains("csi.strongroom.dev"))
        })
    }

    fn end(mut self) -> Result<()> {
        if let Some(mut driver) = self.driver.take() {
            driver.kill()?;
            driver.wait()?;
        }
        let root = self.installation.path("");
        self.installation.stop_all()?;
        fs::remove_dir_all(root)?;
        Ok(())
    }

    fn exec(&self, pod: &str, script: &str) -> Result<String> {
        tenant::exec(&self.cluster, pod, script)
    }

    /// Volumes of ours that the node has mounted; each is in its table once for each place at which the disk is seen.
    fn mounts(&self) -> Result<usize> {
        let table = self.node()?.output("cat", &["/proc/self/mountinfo"])?;
        let ours = table
            .lines()
            .filter(|line| line.contains(" - tmpfs strongroom "));
        let devices: BTreeSet<_> = ours.filter_map(|line| line.split(' ').nth(2)).collect();
        Ok(devices.len())
    }

    fn node(&self) -> Result<Node<'_>> {
        self.cluster.node("node-0")
    }
}

/// A key service that knows the cluster by its keys.
fn install(name: &str, first_port: u16, cluster: &ScopedCluster) -> Result<Installation> {
    let root =
        PathBuf::from("/var/lib/strongroom-test").join(format!("{name}-{}", std::process::id()));
    let programs = Programs::ensure_built(Build::Plain)?;
    let mut settings = Settings::new(&root, programs.folder(), first_port);
    let keys = root.join("etc/main.jwks");
    settings.clusters.push(format!(
        "{{name: main, issuer: 'https://kubernetes.default.svc', keysFile: {}, drivers: [{{namespace: strongroom-csi, \
         name: csi-driver}}]}}",
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

#[test]
fn pod_reads_its_secret_sees_it_rotate_and_leaves_nothing() -> Result<()> {
    let story = Story::begin("pods", 13900)?;
    tenant::create_pod(&story.cluster, "api")?;
    story.tenant.grant(&story.cluster, "api")?;
    tenant::wait_until_runs(&story.cluster, "api")?;
    let password = "/run/secrets/app/db/password";

    let shown = story.exec("api", &format!("stat -L -c '%u %g %a' {password}; id -u"))?;
    assert_eq!(shown, "0 2000 440\n1000\n");
    let first = story.exec("api", &format!("cat {password}"))?;
    assert_eq!(first.len(), 32, "as generated");
    assert_eq!(
        story.exec("api", "cat /run/secrets/app/db/username")?,
        "payments_api"
    );
    assert!(story.exec("api", "echo x > /run/secrets/app/x").is_err());
    assert_eq!(story.mounts()?, 1);

    // Read where the container has it, so that only the delivery is measured.
    let containers = story.node()?.processes("busybox")?;
    let files = containers
        .iter()
        .map(|it| format!("/proc/{}/root{password}", it.id()));
    let file = files
        .into_iter()
        .find(|file| fs::exists(file).unwrap_or(false));
    let file = file.context("the pod's container runs")?;
    let began = Instant::now();
    story.tenant.rotate()?;
    // Looked at more often than `wait` does, for the figure that is printed.
    while fs::read_to_string(&file).is_ok_and(|now| now == first) && began.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(2));
    }
    let delay = began.elapsed();
    let second = story.exec("api", &format!("cat {password}"))?;
    ensure!(
        second.len() == 32 && second != first,
        "the pod has no new version"
    );
    println!("rotation seen after {delay:?}");
    // kubelet's next publish would come after a minute.
    ensure!(
        delay < Duration::from_secs(30),
        "only polling brought it: {delay:?}"
    );

    let uid = tenant::kubectl(&story.cluster, &["get", "pod", "api", "-o", UID])?;
    tenant::kubectl(&story.cluster, &["delete", "pod", "api", "--timeout=60s"])?;
    wait(LIMIT, "the volume is gone", || Ok(story.mounts()? == 0))?;
    let folder = story
        .node()?
        .on_disk(&format!("/var/lib/kubelet/pods/{uid}"));
    wait(LIMIT, "the pod's folder is gone", || Ok(!folder.exists()))?;
    story.end()
}

#[test]
fn pod_without_the_role_is_told_what_to_add_and_starts_once_it_is() -> Result<()> {
    let story = Story::begin("pods-role", 13920)?;
    tenant::create_pod(&story.cluster, "api")?;
    wait(LIMIT, "the pod's author is told", || {
        let events = tenant::kubectl(
            &story.cluster,
            &["get", "events", "-o", "jsonpath={.items[*].message}"],
        )?;
        Ok(events.contains("ServiceAccount payments/api has no role SecretReader"))
    })?;
    assert_eq!(story.mounts()?, 0);
    story.tenant.grant(&story.cluster, "api")?;
    tenant::wait_until_runs(&story.cluster, "api")?;
    assert_eq!(
        story.exec("api", "cat /run/secrets/app/db/username")?,
        "payments_api"
    );
    story.end()
}
