//! The first act: a secret in a pod, rotated under it, by kubectl and helm, on any cluster. Each step checks what it claims.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::shell::Shell;
use crate::paths;

const PAYMENTS: &str = include_str!("../../../config/samples/payments.yaml");
const POD: &str = include_str!("../../../config/samples/pod.yaml");
const READER: &str = include_str!("audit-reader.yaml");
/// The image of the pods as the sample names it.
const POD_IMAGE: &str = "strongroom.dev/busybox:1";

/// kubelet asks again for a volume that was refused after up to two minutes.
const MOUNT_LIMIT: Duration = Duration::from_secs(240);
const PAUSE: Duration = Duration::from_millis(500);

const READY: &str = "kubectl wait --for=condition=Ready";

/// What the act needs to know of the cluster.
pub(super) struct Scene {
    /// The shell, with `kubectl`, `kubectl-strongroom` and `helm`.
    pub(super) shell: Shell,
    /// A folder for manifests and what else the commands write; the shell's own.
    pub(super) folder: PathBuf,
    /// The image that the pods run; it has a shell, coreutils and tar.
    pub(super) pod_image: String,
    /// What helm gets besides the defaults.
    pub(super) values: Vec<String>,
}

impl Scene {
    /// Plays the act.
    pub(super) fn play(&self) -> Result<()> {
        self.lay_out()?;
        self.install()?;
        self.apply()?;
        self.refuse()?;
        self.admit()?;
        self.rotate()?;
        self.kill_the_key_service()?;
        self.verify()
    }

    fn lay_out(&self) -> Result<()> {
        let write = |name: &str, text: &str| {
            let text = text.replace(POD_IMAGE, &self.pod_image);
            let path = self.folder.join(name);
            fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))
        };
        write("payments.yaml", PAYMENTS)?;
        write("pod.yaml", POD)?;
        write("audit-reader.yaml", READER)
    }

    fn install(&self) -> Result<()> {
        chapter("1. Strongroom is installed");
        let chart = |name: &str| paths::checkout().join("charts").join(name);
        let namespace = "--namespace strongroom-system --create-namespace";
        self.run(&format!(
            "helm install strongroom-crds {} {namespace}",
            chart("strongroom-crds").display()
        ))?;
        let values = self.values.join(" ");
        self.run(&format!(
            "helm install strongroom {} {namespace} --wait --timeout 5m {values}",
            chart("strongroom").display()
        ))?;
        self.run(&format!("{READY} keyservice/default --timeout=180s"))?;
        self.run("kubectl get keyservice").map(drop)
    }

    fn apply(&self) -> Result<()> {
        chapter("2. A ring, and in it a secret whose value nobody has seen");
        self.run("cat payments.yaml")?;
        self.run("kubectl apply -f payments.yaml")?;
        self.run(&format!(
            "{READY} -n payments keyring/payments managedsecret/db secretbundle/api --timeout=120s"
        ))?;
        self.run("kubectl get strongroom -n payments").map(drop)
    }

    fn refuse(&self) -> Result<()> {
        chapter("3. A pod that was given no role gets nothing, and is told why");
        self.run("kubectl apply -f pod.yaml")?;
        self.until("kubelet says why", MOUNT_LIMIT, || {
            let events = "kubectl get events -n payments --field-selector reason=FailedMount";
            Ok(self.shell.quietly(events)?.contains("SecretReader"))
        })?;
        self.run(
            "kubectl get events -n payments --field-selector reason=FailedMount \
             -o jsonpath='{.items[-1:].message}{\"\\n\"}'",
        )?;
        let why = "kubectl strongroom why pod/api -n payments";
        let said = self.shell.run_to(why, 4)?;
        ensure!(
            said.contains("has no role SecretReader on ManagedSecret payments/db"),
            "`why` does not name the missing role"
        );
        Ok(())
    }

    fn admit(&self) -> Result<()> {
        chapter("4. The role is added, and the pod starts by itself");
        self.run(
            "kubectl patch managedsecret db -n payments --type=merge --patch \
             '{\"spec\": {\"access\": [{\"role\": \"SecretReader\", \
             \"subjects\": [{\"kind\": \"ServiceAccount\", \"name\": \"api\"}]}]}}'",
        )?;
        println!("\nkubelet asks again at its own pace, up to two minutes later.");
        self.run(&format!("{READY} -n payments pod/api --timeout=240s"))?;
        self.until("the pod has read its secret", MOUNT_LIMIT, || {
            Ok(self.pod_log("")?.contains("version 1 "))
        })?;
        self.run("kubectl logs -n payments api").map(drop)
    }

    fn rotate(&self) -> Result<()> {
        chapter("5. The secret is rotated under the running pod");
        self.run("kubectl strongroom rotate msec/db -n payments --wait --timeout 60s")?;
        self.until("the pod sees the new version", MOUNT_LIMIT, || {
            Ok(self.pod_log("")?.contains("version 2 "))
        })?;
        self.run("kubectl logs -n payments api --timestamps")?;
        let made = self.shell.quietly(
            "kubectl get secretrotations -n payments -o \
             jsonpath='{.items[-1:].status.steps[?(@.name==\"Rotated\")].time}'",
        )?;
        let log = self.pod_log("--timestamps")?;
        let line = log.lines().find(|line| line.contains("version 2 "));
        let seen = line.and_then(|line| line.split(' ').next());
        let made: jiff::Timestamp = made.trim().parse().context("the time of the rotation")?;
        let seen: jiff::Timestamp = seen.context("a time")?.parse()?;
        println!(
            "\nThe key service made it at {made}; the pod had read it at {seen}, {} ms later.",
            seen.duration_since(made).as_millis()
        );
        Ok(())
    }

    fn kill_the_key_service(&self) -> Result<()> {
        chapter("6. The key service is killed; the pod keeps what it has");
        let uid = "kubectl get pod strongroom-key-service-0 -n strongroom-system \
                   -o jsonpath='{.metadata.uid}'";
        let before = self.shell.quietly(uid)?;
        self.run(
            "kubectl delete pod strongroom-key-service-0 -n strongroom-system --grace-period=0 --force",
        )?;
        self.run("kubectl exec -n payments api -- ls /run/secrets/app/db")?;
        self.until("there is another pod", MOUNT_LIMIT, || {
            let now = self.shell.quietly(uid).unwrap_or_default();
            Ok(!now.is_empty() && now != before)
        })?;
        self.run(&format!(
            "{READY} -n strongroom-system pod/strongroom-key-service-0 --timeout=120s"
        ))?;
        self.run("kubectl strongroom rotate msec/db -n payments --wait --timeout 120s")?;
        println!("\nThe driver has found it again, and the pod follows:");
        self.until("the pod sees the third version", MOUNT_LIMIT, || {
            Ok(self.pod_log("")?.contains("version 3 "))
        })?;
        self.run("kubectl logs -n payments api --timestamps")
            .map(drop)
    }

    fn verify(&self) -> Result<()> {
        chapter("7. The audit log is proven");
        self.run("kubectl strongroom admin-certificate --folder administrator")?;
        self.run("kubectl strongroom status --config administrator/config.yaml")?;
        println!(
            "\nFingerprint and witness are kept elsewhere in earnest: `init` printed the one, any signed checkpoint\n\
             is the other. The log is copied by a pod that may only read its volume."
        );
        self.run(
            "kubectl strongroom status --config administrator/config.yaml -o json > status.json",
        )?;
        self.run(
            "python3 -c 'import json; audit = json.load(open(\"status.json\"))[\"audit\"]; \
             open(\"pods-fingerprint\", \"w\").write(audit[\"certifierFingerprint\"]); \
             open(\"pods-witness\", \"w\").write(audit[\"anchoredCheckpoint\"])'",
        )?;
        self.run("kubectl apply -n strongroom-system -f audit-reader.yaml")?;
        self.run(&format!(
            "{READY} -n strongroom-system pod/audit-reader --timeout=120s"
        ))?;
        self.run("kubectl cp -n strongroom-system audit-reader:/audit/log pods-audit")?;
        self.run("kubectl delete -n strongroom-system --now pod/audit-reader")?;
        let said = self.run(
            "kubectl strongroom audit verify pods-audit --fingerprint \"$(cat pods-fingerprint)\" \
             --witness pods-witness",
        )?;
        ensure!(said.contains("Complete up to the witness"), "not proven");
        Ok(())
    }

    fn run(&self, line: &str) -> Result<String> {
        self.shell.run(line)
    }

    fn pod_log(&self, flags: &str) -> Result<String> {
        self.shell
            .quietly(&format!("kubectl logs -n payments api {flags}"))
    }

    fn until(&self, what: &str, limit: Duration, done: impl Fn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + limit;
        while !done()? {
            ensure!(Instant::now() < end, "{what}: not within {limit:?}");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

fn chapter(title: &str) {
    println!("\n== {title} ==");
}

/// What to type to remove what the act left, on a cluster that goes on.
pub(super) fn removal(folder: &Path) -> String {
    format!(
        "$ kubectl delete namespace payments\n\
         $ helm uninstall strongroom --namespace strongroom-system\n\
         $ kubectl delete pvc --namespace strongroom-system --selector app.kubernetes.io/name=strongroom\n\
         $ helm uninstall strongroom-crds --namespace strongroom-system\n\
         $ kubectl delete namespace strongroom-system strongroom-csi\n\
         $ rm -r {}\n",
        folder.display()
    )
}
