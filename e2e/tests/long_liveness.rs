//! Kubelet starts the operator anew when nothing at all gets on, and only then.
#![forbid(unsafe_code)]

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strongroom_e2e::{
    installed::{Installed, LIMIT, SYSTEM},
    world::wait,
};
use strongroom_hack::cluster::Health;

/// After so long without any progress the operator counts as dead.
const DEAD_AFTER: Duration = Duration::from_secs(300);
/// What a probe, its failures and kubelet may add to that, on a machine that also compiles.
const SLACK: Duration = Duration::from_secs(180);
const KEY_SERVICE: &str = "statefulset/strongroom-key-service";
const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}";

struct Story(Installed);

impl Story {
    fn secret_becomes_ready(&self, name: &str) -> Result<()> {
        self.0.apply(&format!(
            "{{apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {{name: {name}, namespace: payments}}, \
             spec: {{source: {{generate: {{fields: [{{name: password}}]}}}}}}}}"
        ))?;
        let secret = format!("managedsecret/{name}");
        let ready = ["wait", "--for=condition=Ready", "--timeout=180s", &secret];
        self.0.within("payments", &ready).map(drop)
    }

    /// The operator's process on the machine.
    fn process(&self) -> Result<Option<i32>> {
        let processes = self.0.node()?.processes("operator")?;
        Ok(processes.first().map(|process| process.id()))
    }

    fn pod(&self, template: &str) -> Result<String> {
        let selector = "app.kubernetes.io/component=operator";
        let output = format!("jsonpath={{.items[0].{template}}}");
        let words = ["get", "pods", "-l", selector, "-o", &output];
        self.0.within(SYSTEM, &words)
    }

    fn restarts(&self) -> Result<String> {
        self.pod("status.containerStatuses[0].restartCount")
    }

    /// Status and text of a probe.
    fn probe(&self, path: &str) -> Result<String> {
        let url = format!("http://{}:8084{path}", self.pod("status.podIP")?);
        let words = ["-sS", "--max-time", "5", "-w", " %{http_code}", &url];
        self.0.node()?.output("curl", &words)
    }

    fn scale_key_service(&self, replicas: usize) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        let words = ["scale", KEY_SERVICE, &replicas];
        self.0.within(SYSTEM, &words).map(drop)
    }

    /// The operator's rights, without those on keys; returns those that it had.
    fn revoke_rights_on_keys(&self) -> Result<String> {
        let words = ["get", "clusterrole", "strongroom-operator", "-o", "json"];
        let mut role: Value = serde_json::from_str(&self.0.kubectl(&words)?)?;
        role["metadata"] = json!({"name": "strongroom-operator"});
        let before = role.to_string();
        let rules = role["rules"].as_array_mut().context("it has rules")?;
        for resources in rules
            .iter_mut()
            .filter_map(|it| it["resources"].as_array_mut())
        {
            resources.retain(|resource| resource != "cryptokeys");
        }
        self.replace(&role.to_string())?;
        Ok(before)
    }

    fn replace(&self, manifest: &str) -> Result<()> {
        let cluster = &self.0.stage.cluster;
        let words = ["replace", "-f", "-"];
        cluster.kubectl_with_input(&words, manifest).map(drop)
    }
}

#[test]
fn operator_is_started_anew_when_nothing_gets_on_and_only_then() -> Result<()> {
    let story = Story(Installed::begin("e2e-operator-alive")?);
    story.0.kubectl(&["create", "namespace", "payments"])?;
    story.0.apply(RING)?;
    story.secret_becomes_ready("first")?;
    let operator = story.process()?;

    // One watch that cannot begin again, every connection ended, and no key service.
    let rights = story.revoke_rights_on_keys()?;
    story.scale_key_service(0)?;
    story.0.node()?.restart_api_server(Health::Ready)?;
    wait(DEAD_AFTER + SLACK, "the watch of keys stands still", || {
        let ready = story.probe("/readyz")?;
        Ok(ready.contains("CryptoKey (") && ready.ends_with(" 503"))
    })?;
    thread::sleep(Duration::from_secs(60));
    let alive = story.probe("/healthz")?;
    ensure!(alive.ends_with(" 200"), "{alive}");
    ensure!(story.process()? == operator && story.restarts()? == "0");

    let began = Instant::now();
    story.0.node()?.stop_api_server()?;
    wait(DEAD_AFTER + SLACK, "kubelet starts it anew", || {
        Ok(story.process()?.is_some_and(|now| Some(now) != operator))
    })?;
    let after = began.elapsed();
    println!("report: operator: started anew {after:?} after the API server had gone");
    ensure!(after > DEAD_AFTER, "too early");

    story.0.node()?.start_api_server()?;
    story.0.node()?.wait_for_api_server(Health::Ready)?;
    story.replace(&rights)?;
    story.scale_key_service(1)?;
    wait(LIMIT, "it is ready again", || {
        Ok(story.probe("/readyz")?.ends_with(" 200"))
    })?;
    ensure!(story.restarts()? == "1", "{} restarts", story.restarts()?);
    story.secret_becomes_ready("second")
}
