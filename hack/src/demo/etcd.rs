//! The second act: what is in etcd, before and after, and a rotation. Each step checks what it claims.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::place::Place;
use super::shell::Shell;
use crate::cluster::Cluster;
use crate::installation::{Installation, Program};
use crate::progress;

/// The password that must not be in etcd.
const VALUE: &str = "correct-horse-battery";

/// What stands before each value that is encrypted.
const PREFIX: &[u8] = b"k8s:enc:kms:v2:strongroom:";

const SECRET: &str = "/registry/secrets/default/orders";
const WRITE_UNCHANGED: &str = "kubectl get secret orders -o yaml | kubectl replace -f -";
const VERSION: &str =
    r#"kubectl get secret orders -o jsonpath='{.metadata.resourceVersion}{"\n"}'"#;

/// Tells the story; returns what to print at its end.
pub(super) fn tell(
    place: &Place,
    cluster: Cluster,
    mut installation: Installation,
) -> Result<String> {
    let fingerprint = progress::step("hsm-agent, key-service, kms-plugin", || {
        installation.bring_up()
    })?;
    installation.administrator("administrator")?;
    fs::write(installation.path("fingerprint"), format!("{fingerprint}\n"))?;
    fs::write(
        installation.path("encryption.yaml"),
        installation.encryption_configuration(&["secrets"]),
    )?;
    let story = Story {
        shell: Shell::new(place.environment()),
        place,
        cluster,
        installation,
    };
    story.introduce();
    story.plain_bytes()?;
    story.switch_on()?;
    story.encrypted_bytes()?;
    story.rotate()?;
    story.restart()?;
    story.audit_log()?;
    let summary = story.summary()?;
    println!("\n== What is left running ==\n\n{summary}");
    Ok(summary)
}

struct Story<'a> {
    place: &'a Place,
    cluster: Cluster,
    installation: Installation,
    shell: Shell,
}

impl Story<'_> {
    fn introduce(&self) {
        println!(
            "\nkube-apiserver and etcd run in a network namespace of their own, without a way out. Beside them run\n\
             hsm-agent (with SoftHSM), key-service and kms-plugin, each under a user id of its own, below\n\
             {root}. To type the commands below yourself, in a shell of root:\n\
             \n\
             $ . {environment}\n\
             \n\
             kubectl and etcdctl are then scripts that enter the namespace: {enter} …",
            root = self.place.root().display(),
            environment = self.place.environment().display(),
            enter = self.cluster.namespace().enter_words(),
        );
    }

    fn plain_bytes(&self) -> Result<()> {
        chapter("1. A Secret, and its bytes in etcd as Kubernetes stores them");
        self.shell.run(&format!(
            "kubectl create secret generic orders --from-literal=password={VALUE}"
        ))?;
        self.shell.run(&format!(
            "etcdctl get {SECRET} --print-value-only | tail -c 80 | od -A d -t x1z"
        ))?;
        ensure!(
            contains(&self.raw()?, VALUE),
            "the value is not in etcd in clear"
        );
        Ok(())
    }

    fn switch_on(&self) -> Result<()> {
        chapter("2. Encryption is switched on, and nothing is lost");
        self.shell.run("cat encryption.yaml")?;
        let file = self.cluster.layout().encryption();
        let (file, next) = (file.display(), file.with_extension("next"));
        let next = next.display();
        self.shell
            .run(&format!("cp encryption.yaml {next} && mv {next} {file}"))?;
        println!("\nkube-apiserver would read the file within a minute; a restart is quicker.");
        self.restart_api_server()?;
        self.secret_is_readable("orders")
    }

    fn encrypted_bytes(&self) -> Result<()> {
        chapter("3. The same Secret is written again, and so encrypted");
        self.shell.run(WRITE_UNCHANGED)?;
        self.shell.run(&format!(
            "etcdctl get {SECRET} --print-value-only | head -c 128 | od -A d -t x1z"
        ))?;
        let raw = self.raw()?;
        ensure!(raw.starts_with(PREFIX), "the value in etcd has no prefix");
        ensure!(!contains(&raw, VALUE), "the value is in etcd in clear");
        println!("\nA second Secret, which will not be written again:");
        self.shell
            .run(&format!(
                "kubectl create secret generic archive --from-literal=password={VALUE}"
            ))
            .map(drop)
    }

    fn rotate(&self) -> Result<()> {
        chapter("4. The key is rotated");
        println!(
            "\nkube-apiserver asks for the key in use once a minute, and sooner while a kubelet probes its readiness;\n\
             the demo probes it meanwhile."
        );
        self.while_probed(|| self.shell.run("kubectl-strongroom rotate etcd --wait"))?;
        println!("\nBoth Secrets are still encrypted with the old key, and still read:");
        self.secret_is_readable("orders")?;
        println!(
            "\nWhen it is next written, changed or not, the new key encrypts it. The first write is such a one:"
        );
        let versions = [
            self.shell.run(VERSION)?,
            self.write_unchanged()?,
            self.write_unchanged()?,
        ];
        ensure!(
            versions[0] != versions[1] && versions[1] == versions[2],
            "the Secret was not written anew exactly once"
        );
        Ok(())
    }

    fn write_unchanged(&self) -> Result<String> {
        self.shell.run(WRITE_UNCHANGED)?;
        self.shell.run(VERSION)
    }

    fn restart(&self) -> Result<()> {
        chapter("5. kube-apiserver is restarted: it has no key any more, and must ask");
        self.restart_api_server()?;
        println!("\nOne of the Secrets has the new key, one the old:");
        self.secret_is_readable("orders")?;
        self.secret_is_readable("archive")?;
        println!("\nIts own counter of calls of Decrypt, since it started:");
        let counter = self.shell.run(
            "kubectl get --raw /metrics | grep 'kms_operations_latency_seconds_count.*Decrypt'",
        )?;
        let calls: Option<u64> = counter
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|n| n.parse().ok());
        ensure!(calls > Some(0), "the API server did not ask");
        Ok(())
    }

    fn audit_log(&self) -> Result<()> {
        chapter("6. The audit log is proven, and a changed byte is found");
        println!("\nThe witness is a signed checkpoint. In earnest it is kept somewhere else.");
        self.shell.run(
            "kubectl-strongroom status -o json | python3 -c 'import json, sys; \
             print(json.load(sys.stdin)[\"audit\"][\"anchoredCheckpoint\"])' > witness",
        )?;
        self.shell.run("cp -r audit audit-copy")?;
        self.shell.run(&verification("audit-copy"))?;
        println!("\nSomebody gives an administrator's certificate another name, in a copy:");
        self.shell.run("cp -r audit-copy audit-changed")?;
        self.shell.run(
            r#"sed -i 's/"name":"administrator"/"name":"administratoR"/' audit-changed/log-*.jsonl"#,
        )?;
        self.shell.run_to(
            "cmp --verbose audit-copy/log-*.jsonl audit-changed/log-*.jsonl",
            1,
        )?;
        let said = self.shell.run_to(&verification("audit-changed"), 1)?;
        ensure!(said.contains("log-"), "the changed file is not named");
        Ok(())
    }

    fn restart_api_server(&self) -> Result<()> {
        self.shell
            .run(&format!(
                "xtask cluster restart --name {}",
                self.place.name()
            ))
            .map(drop)
    }

    fn secret_is_readable(&self, name: &str) -> Result<()> {
        let value = self.shell.run(&format!(
            "kubectl get secret {name} -o go-template='{{{{.data.password | base64decode}}}}{{{{\"\\n\"}}}}'"
        ))?;
        ensure!(value.trim() == VALUE, "the Secret {name} has another value");
        Ok(())
    }

    fn raw(&self) -> Result<Vec<u8>> {
        let entry = self.cluster.etcd_get(SECRET)?;
        Ok(entry.context("the Secret is not in etcd")?.value)
    }

    /// Probes the API server's readiness as a kubelet does, while some work is done.
    fn while_probed<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // Not ready is an answer too.
                    let _ = self.cluster.get("/readyz/kms-providers");
                    thread::sleep(Duration::from_secs(1));
                }
            });
            let result = work();
            done.store(true, Ordering::Relaxed);
            result
        })
    }

    fn summary(&self) -> Result<String> {
        let mut programs = Vec::new();
        for program in Program::ALL {
            let id = self.installation.process(program)?.id();
            programs.push(format!("{} {id}", program.name()));
        }
        Ok(format!(
            "  folder     {root} (etc/, log/, audit/)\n\
            \x20 cluster    {name}, in {cluster}\n\
            \x20 processes  {programs}\n\
             \n\
             Look around, in a shell of root:\n\
             \n\
             $ . {environment}\n\
             $ kubectl get secrets --all-namespaces\n\
             $ kubectl-strongroom status\n\
             $ tail log/*.log\n\
             $ xtask cluster logs --name {name}\n\
             \n\
             End it, from the checkout, without a trace:\n\
             \n\
             $ {down}\n",
            root = self.place.root().display(),
            name = self.place.name(),
            cluster = self.cluster.layout().root().display(),
            programs = programs.join(", "),
            environment = self.place.environment().display(),
            down = self.place.down_words(),
        ))
    }
}

fn chapter(title: &str) {
    println!("\n== {title} ==");
}

fn verification(folder: &str) -> String {
    format!(
        "kubectl-strongroom audit verify {folder} --fingerprint \"$(cat fingerprint)\" --witness witness"
    )
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}
