//! hsm-agent and key service as the chart runs them, but as processes: empty folders, access to a real API server as their
//! service account, and a namespace of their own for their ConfigMaps.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strongroom_e2e::{
    forward::Forward,
    watched::Watched,
    world::{run, wait},
};
use strongroom_hack::{
    cluster::ScopedCluster,
    installation::{Answer, Installation, KEY_SERVICE_UID, Program, Settings},
    programs::Programs,
};

const RIGHTS: &str = include_str!("rights.yaml");
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) const WITNESS: &str = "strongroom-witness";
pub(crate) const AUTHORITY: &str = "strongroom-ca";
pub(crate) const REQUEST: &str = "strongroom-init";

pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a ScopedCluster,
    pub(crate) forward: Forward,
    pub(crate) installation: Installation,
    pub(crate) system: String,
    programs: Programs,
    running: Vec<(Program, Watched)>,
    root: PathBuf,
}

impl<'a> Place<'a> {
    pub(crate) fn lay_out(
        cluster: &'a ScopedCluster,
        system: &str,
        first_port: u16,
        programs: &Programs,
    ) -> Result<Self> {
        cluster.kubectl_with_input(&["apply", "-f", "-"], &RIGHTS.replace("SYSTEM", system))?;
        let root = PathBuf::from("/var/lib/strongroom-test")
            .join(format!("{system}-{}", std::process::id()));
        let mut settings = Settings::new(&root, programs.folder(), first_port);
        let kubeconfig = root.join("etc/kubeconfig");
        settings.kubernetes = Some(format!(
            "{{kubeconfig: {}, cluster: main, namespace: {system}, caNamespaces: [{system}-csi], init: Request}}",
            kubeconfig.display()
        ));
        settings.clusters = vec!["{name: main}".to_owned()];
        let installation = Installation::lay_out(settings)?;
        let place = Self {
            cluster,
            forward: Forward::open(cluster.namespace().holder().id())?,
            installation,
            system: system.to_owned(),
            programs: programs.clone(),
            running: Vec::new(),
            root,
        };
        place.write_kubeconfig("strongroom-key-service", &kubeconfig)?;
        Ok(place)
    }

    fn write_kubeconfig(&self, account: &str, path: &Path) -> Result<()> {
        let token = self.cluster.kubectl(&[
            "create",
            "token",
            account,
            "-n",
            &self.system,
            "--duration=2h",
        ])?;
        let authority = self.cluster.layout().pki("kubernetes-ca.crt");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": self.forward.url(),
                "certificate-authority-data": base64(&fs::read(authority)?),
            }}],
            "users": [{"name": "it", "user": {"token": token.trim()}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(path, kubeconfig.to_string())?;
        chown(path, Some(KEY_SERVICE_UID), Some(KEY_SERVICE_UID))?;
        Ok(())
    }

    pub(crate) fn start(&mut self, program: Program, faults: &str) -> Result<()> {
        self.stop(program);
        let watched = Watched::start(&self.installation, program, faults)?;
        self.running.push((program, watched));
        Ok(())
    }

    /// Both, as in a pod.
    pub(crate) fn start_both(&mut self) -> Result<()> {
        self.start(Program::HsmAgent, "")?;
        self.start(Program::KeyService, "")
    }

    pub(crate) fn stop(&mut self, program: Program) {
        self.running.retain(|(running, _)| *running != program);
    }

    pub(crate) fn process(&mut self, program: Program) -> Result<&mut Watched> {
        let found = self
            .running
            .iter_mut()
            .find(|(running, _)| *running == program);
        found
            .map(|(_, watched)| watched)
            .with_context(|| format!("{} was not started", program.name()))
    }

    pub(crate) fn readyz(&self, program: Program) -> Result<Answer> {
        self.installation.probe(program, "/readyz")
    }

    /// Waits until `/readyz` of a program has this status and says this.
    pub(crate) fn wait_says(&self, program: Program, status: u16, text: &str) -> Result<()> {
        let what = format!("{} says {status} {text:?}", program.name());
        let says = || -> Result<bool> {
            let answer = self.readyz(program)?;
            if answer.status == status && answer.body.contains(text) {
                return Ok(true);
            }
            anyhow::bail!("{} {}", answer.status, answer.body)
        };
        wait(LIMIT, &what, says).with_context(|| self.installation.log_end(program))
    }

    pub(crate) fn wait_serves(&self) -> Result<()> {
        self.wait_says(Program::HsmAgent, 200, "ok")?;
        self.wait_says(Program::KeyService, 200, "ok")
    }

    /// `key-service request-init` as the job's service account.
    pub(crate) fn ask(&self, timeout: &str) -> Result<Child> {
        let kubeconfig = self.root.join("etc/init.kubeconfig");
        self.write_kubeconfig("strongroom-init", &kubeconfig)?;
        Ok(Command::new(self.programs.key_service())
            .args(["request-init", "--namespace", &self.system])
            .args(["--timeout", timeout, "--kubeconfig"])
            .arg(kubeconfig)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?)
    }

    /// How a request ends.
    pub(crate) fn request_init(&self, timeout: &str) -> Result<Output> {
        Ok(self.ask(timeout)?.wait_with_output()?)
    }

    /// What a request that is granted prints.
    pub(crate) fn granted(&self) -> Result<String> {
        granted(self.request_init("60s")?)
            .with_context(|| self.installation.log_end(Program::KeyService))
    }

    /// The data of a ConfigMap; `None` when it is not there.
    pub(crate) fn data(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<BTreeMap<String, String>>> {
        let shown = self.cluster.kubectl(&[
            "get",
            "configmap",
            name,
            "-n",
            namespace,
            "-o",
            "json",
            "--ignore-not-found",
        ])?;
        if shown.is_empty() {
            return Ok(None);
        }
        let object: Value = serde_json::from_str(&shown)?;
        let data = object.get("data").cloned().unwrap_or_else(|| json!({}));
        Ok(Some(serde_json::from_value(data)?))
    }

    /// One word of a ConfigMap of the system namespace.
    pub(crate) fn word(&self, name: &str, key: &str) -> Result<String> {
        let data = self.data(&self.system, name)?.unwrap_or_default();
        Ok(data.get(key).cloned().unwrap_or_default())
    }

    pub(crate) fn patch(&self, name: &str, data: &Value) -> Result<()> {
        let patch = json!({ "data": data }).to_string();
        let target = ["patch", "configmap", name, "-n", &self.system];
        self.cluster
            .kubectl(&[&target[..], &["--type=merge", "-p", &patch]].concat())
            .map(drop)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.cluster
            .kubectl(&["delete", "configmap", name, "-n", &self.system])
            .map(drop)
    }

    /// What lies in the folder of a program.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.installation.path(folder))? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    /// Takes a folder away and puts an empty one in its place, as a volume that was not mounted.
    pub(crate) fn empty(&self, folder: &str) -> Result<()> {
        let (path, away) = (
            self.installation.path(folder),
            self.installation.path(&format!("{folder}.away")),
        );
        fs::rename(&path, &away)?;
        run(Command::new("install").args([
            "-d",
            "-m0700",
            &format!("-o{}", owner(folder)),
            &format!("-g{}", owner(folder)),
            &path.display().to_string(),
        ]))
        .map(drop)
    }

    /// Puts a folder back that was taken away.
    pub(crate) fn restore(&self, folder: &str) -> Result<()> {
        let path = self.installation.path(folder);
        fs::remove_dir_all(&path)?;
        fs::rename(self.installation.path(&format!("{folder}.away")), path)?;
        Ok(())
    }

    pub(crate) fn clean_up(mut self) -> Result<()> {
        self.running.clear();
        fs::remove_dir_all(&self.root)?;
        Ok(())
    }
}

/// What a request that was granted printed.
pub(crate) fn granted(output: Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn owner(folder: &str) -> u32 {
    match folder {
        "agent" => Program::HsmAgent.uid(),
        _ => KEY_SERVICE_UID,
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
