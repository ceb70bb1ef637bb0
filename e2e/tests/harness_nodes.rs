//! The harness with nodes: the stories trust that pods really run, that a power cut really is one, and that clusters
//! leave each other alone.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use strongroom_hack::cluster::{
    BUSYBOX, Health, Layout, Name, Node, Options, STORAGE_CLASS, ScopedCluster,
};

/// A name server, a service and a volume, as an application uses them.
const APPLICATION: &str = r#"
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Pod
  metadata: {name: server, labels: {app: server}}
  spec:
    nodeName: NODE
    containers:
    - name: server
      image: IMAGE
      command: [sh, -c, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www"]
- apiVersion: v1
  kind: Service
  metadata: {name: server}
  spec: {selector: {app: server}, ports: [{port: 80, targetPort: 8080}]}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: claim}
  spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: client}
  spec:
    nodeSelector: {kubernetes.io/hostname: node-0}
    containers:
    - name: client
      image: IMAGE
      command: [sh, -c, "until wget -q -O /data/answer http://server.default.svc.cluster.local/; do sleep 0.2; done; exec sleep 1000000"]
      volumeMounts: [{name: data, mountPath: /data}]
    volumes: [{name: data, persistentVolumeClaim: {claimName: claim}}]
"#;

/// A pod that a kubelet starts by itself. It leaves a trace in its node's own `/run` each time it starts.
const STATIC_POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: static, namespace: kube-system}
spec:
  hostNetwork: true
  containers:
  - name: static
    image: IMAGE
    command: [sh, -c, "echo started > /run/story/trace; exec sleep 1000000"]
    volumeMounts: [{name: run, mountPath: /run/story}]
  volumes: [{name: run, hostPath: {path: /run/story, type: DirectoryOrCreate}}]
"#;

const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

const LIMIT: Duration = Duration::from_secs(120);

/// Waits for something that only time brings.
fn eventually<T>(what: &str, check: impl Fn() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() > LIMIT => return Err(error).context(what.to_owned()),
            Err(_) => thread::sleep(Duration::from_millis(200)),
        }
    }
}

fn with_image(manifest: &str, node: Option<&Name>) -> String {
    let text = manifest.replace("IMAGE", BUSYBOX);
    match node {
        Some(node) => text.replace("NODE", node.as_ref()),
        None => text,
    }
}

fn exec(cluster: &ScopedCluster, pod: &str, words: &[&str]) -> Result<String> {
    cluster.kubectl(&[&["exec", pod, "--"], words].concat())
}

fn static_pod_has_started(node: &Node<'_>) -> Result<()> {
    eventually("the static pod starts", || {
        let trace = fs::read_to_string(node.seen_from_outside("/run/story/trace")?)?;
        ensure!(trace == "started\n", "{trace:?}");
        Ok(())
    })
}

fn application_answers(cluster: &ScopedCluster) -> Result<()> {
    eventually("the client has an answer", || {
        let answer = exec(cluster, "client", &["cat", "/data/answer"])?;
        ensure!(answer == "hello\n", "{answer:?}");
        Ok(())
    })
}

#[test]
fn pods_find_services_and_volumes_and_come_back_after_a_power_cut() -> Result<()> {
    let name: Name = "e2e-nodes".parse()?;
    let overcommit = fs::read_to_string(OVERCOMMIT)?;
    let cluster = ScopedCluster::up(Options::new(name.clone()).with_nodes(2, 1)?)?;
    let (node, worker) = (cluster.node("node-0")?, cluster.node("node-1")?);
    assert_eq!(node.output("ip", &["route", "show", "default"])?, "");
    // A kubelet sets this, and must not set it for the machine.
    assert_eq!(node.output("cat", &[OVERCOMMIT])?, "1\n");
    assert_eq!(fs::read_to_string(OVERCOMMIT)?, overcommit);

    let application = with_image(APPLICATION, Some(worker.name()));
    cluster.kubectl_with_input(&["apply", "-f", "-"], &application)?;
    application_answers(&cluster)?;
    let claim = cluster.kubectl(&[
        "get",
        "pvc",
        "claim",
        "-o",
        "jsonpath={.status.phase} {.spec.storageClassName} {.spec.volumeName}",
    ])?;
    let volume = claim
        .strip_prefix(&format!("Bound {STORAGE_CLASS} node-0-"))
        .with_context(|| claim.clone())?;
    let file = node.on_disk(&format!("/var/lib/volumes/{volume}/answer"));
    assert_eq!(fs::read_to_string(&file)?, "hello\n");

    node.stop_api_server()?;
    let manifest = node.on_disk("/etc/kubernetes/manifests/static.yaml");
    fs::write(&manifest, with_image(STATIC_POD, None))?;
    static_pod_has_started(&node)?;

    fs::write(node.on_disk("/etc/strongroom/kept"), "on disk")?;
    let clients = node.processes("busybox")?;
    assert_eq!(clients.len(), 2, "a pod and the static one");
    cluster.power_off()?;
    assert!(!node.is_on()? && !worker.is_on()?);
    assert_eq!(processes_of(&name)?, Vec::<String>::new());

    cluster.power_on()?;
    assert_eq!(node.output("cat", &["/etc/strongroom/kept"])?, "on disk");
    static_pod_has_started(&node)?;
    node.wait_for_api_server(Health::Ready)?;
    node.wait_until_ready()?;
    worker.wait_until_ready()?;
    fs::remove_file(&file)?;
    eventually("the client asks again", || {
        ensure!(fs::read_to_string(&file)? == "hello\n");
        Ok(())
    })?;
    application_answers(&cluster)
}

#[test]
fn clusters_with_nodes_leave_each_other_alone_and_nothing_behind() -> Result<()> {
    let (first, second): (Name, Name) = ("e2e-nodes-first".parse()?, "e2e-nodes-second".parse()?);
    {
        let cluster = ScopedCluster::up(Options::new(first.clone()).with_nodes(2, 2)?)?;
        let nodes = cluster.nodes();
        let application = with_image(APPLICATION, Some(nodes[1].name()));
        cluster.kubectl_with_input(&["apply", "-f", "-"], &application)?;
        application_answers(&cluster)?;
        for node in &nodes {
            node.kubectl(&["get", "pod", "client"])?;
        }
        let of_role = [
            "get",
            "node",
            "-l",
            "node-role.kubernetes.io/control-plane",
            "-o",
            "name",
        ];
        assert_eq!(cluster.kubectl(&of_role)?, "node/node-0\nnode/node-1\n");
        let containers = containers_of(&nodes)?;
        assert_eq!(
            containers.len(),
            4,
            "two pods, each with its pause container"
        );
        {
            let options = Options::new(second.clone()).with_nodes(1, 1)?;
            let other = ScopedCluster::up_without_api_servers(options)?;
            let node = other.node("node-0")?;
            assert_eq!(node.member("kube-apiserver")?, None);
            let manifest = node.on_disk("/etc/kubernetes/manifests/static.yaml");
            fs::write(manifest, with_image(STATIC_POD, None))?;
            static_pod_has_started(&node)?;
            other.complete(Health::Ready)?;
            other.kubectl_with_input(
                &["apply", "-f", "-"],
                &with_image(APPLICATION, Some(nodes[0].name())),
            )?;
            application_answers(&other)?;
            for node in &nodes {
                node.restart_kubelet()?;
                node.restart_containerd()?;
            }
        }
        application_answers(&cluster)?;
        assert_eq!(containers_of(&nodes)?, containers);

        // One node's power does not matter to the other.
        nodes[1].power_off()?;
        assert!(!nodes[1].is_on()? && nodes[0].is_on()?);
        assert!(nodes[1].get("/livez").is_err());
        nodes[0].get("/readyz")?;
        nodes[1].power_on()?;
        nodes[1].wait_for_api_server(Health::Ready)?;
        nodes[1].wait_until_ready()?;
    }
    for name in [first, second] {
        assert!(!Layout::new(&name).root().exists());
        assert_eq!(groups_of(&name)?, Vec::<String>::new());
        assert_eq!(processes_of(&name)?, Vec::<String>::new());
    }
    Ok(())
}

/// Returns the containers with their process ids: a container that was started again has another.
fn containers_of(nodes: &[Node<'_>]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for node in nodes {
        let text = node.ctr(&["tasks", "list"])?;
        found.extend(text.lines().skip(1).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

fn groups_of(name: &Name) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for hierarchy in fs::read_dir("/sys/fs/cgroup")? {
        let Ok(groups) = fs::read_dir(hierarchy?.path()) else {
            continue;
        };
        for group in groups {
            let group = group?.file_name().to_string_lossy().into_owned();
            if group.starts_with(&format!("strongroom.{name}.")) {
                found.push(group);
            }
        }
    }
    Ok(found)
}

/// Returns the processes that run a program with a file of the cluster. Only what sleeps is left in the cluster's own
/// namespace while its power is off.
fn processes_of(name: &Name) -> Result<Vec<String>> {
    let root = format!("{}/", Layout::new(name).root().display());
    let output = Command::new("ps").args(["-e", "-o", "args"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mentioned = |line: &&str| line.split_whitespace().any(|word| word.contains(&root));
    Ok(text.lines().filter(mentioned).map(str::to_owned).collect())
}
