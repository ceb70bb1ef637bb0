//! Where something could have been written, and what was found there.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    canary::Canaries,
    installed::{DRIVERS, Installed, SYSTEM},
};

use crate::used::{Used, signature};

/// Programs that run in pods with tokens.
const WITH_TOKENS: [&str; 3] = ["key-service", "operator", "csi-driver"];

/// What was searched, and what was in it.
#[derive(Default)]
pub(crate) struct Everywhere {
    pub(crate) files: usize,
    pub(crate) bytes: usize,
    pub(crate) keys: usize,
    /// Where the planted value is.
    pub(crate) planted: BTreeSet<String>,
    /// Where secrets are that should not be.
    pub(crate) secrets: Vec<String>,
}

/// Adds what our programs show to others, and the PINs of the tokens, which are in one file each.
pub(crate) fn add_credentials(place: &Installed, canaries: &mut Canaries) -> Result<()> {
    let node = place.node()?;
    let mut tokens = 0;
    for program in WITH_TOKENS {
        for process in node.processes(program)? {
            let root = PathBuf::from(format!("/proc/{}/root/var/run/secrets", process.id()));
            for file in files_named("token", &root)? {
                let token = fs::read_to_string(&file)?;
                let name = format!("the token {} of {program}", file.display());
                canaries.add(&name, signature(&token)?.as_bytes().to_vec());
                tokens += 1;
            }
        }
    }
    // The operator's two; key service and driver have one each.
    ensure!(tokens >= 4, "only {tokens} tokens of ours were found");
    let pins = pins(place)?;
    ensure!(pins.len() == 2, "{pins:?}");
    for file in pins {
        let pin = fs::read(&file)?;
        canaries.add("a PIN", pin.trim_ascii().to_vec());
    }
    Ok(())
}

/// Where the PINs are: on the volume of the one token and in the folder of the other.
fn pins(place: &Installed) -> Result<Vec<PathBuf>> {
    let node = place.node()?;
    let mut pins = files_named("pin", &node.on_disk("/var/lib/volumes"))?;
    pins.extend(files_named("pin", &node.on_disk("/var/lib/strongroom"))?);
    Ok(pins)
}

/// Files of a name below a folder. Links of kubelet's are followed where they stand for files, not for folders.
fn files_named(name: &str, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(found);
    };
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            // The versions behind kubelet's links.
            if !entry.file_name().to_string_lossy().starts_with("..") {
                found.extend(files_named(name, &path)?);
            }
        } else if entry.file_name() == name {
            found.push(path);
        }
    }
    Ok(found)
}

/// What all programs of both installations say of themselves, and kubelet and the API server of us.
pub(crate) fn metrics(place: &Installed) -> Result<String> {
    let mut text = String::new();
    let addresses = |namespace: &str, component: &str| -> Result<Vec<String>> {
        let selector = format!("app.kubernetes.io/component={component}");
        let addresses = "jsonpath={.items[*].status.podIP}";
        let words = ["get", "pods", "-l", &selector, "-o", addresses];
        let shown = place.within(namespace, &words)?;
        Ok(shown.split_whitespace().map(str::to_owned).collect())
    };
    let mut places = vec![];
    for (namespace, component, ports) in [
        (SYSTEM, "key-service", &["8080", "8082"][..]),
        (SYSTEM, "operator", &["8084"]),
        (DRIVERS, "csi-driver", &["8083"]),
    ] {
        for address in addresses(namespace, component)? {
            places.extend(ports.iter().map(|port| format!("{address}:{port}")));
        }
    }
    // The static pods of bootstrap.
    places.extend(["8080", "8081", "8082"].map(|port| format!("127.0.0.1:{port}")));
    ensure!(places.len() == 7, "{places:?}");
    for place_of in places {
        let url = format!("http://{place_of}/metrics");
        let words = ["-sS", "--fail", "--max-time", "5", &url];
        let said = place.node()?.output("curl", &words)?;
        ensure!(said.contains("strongroom_"), "{place_of}: {said}");
        text.push_str(&said);
    }
    text.push_str(&place.stage.cluster.metrics()?);
    text.push_str(&place.kubectl(&["get", "--raw", "/api/v1/nodes/node-0/proxy/metrics"])?);
    Ok(text)
}

/// Looks everywhere.
pub(crate) fn everywhere(
    place: &Installed,
    used: &Used,
    metrics: &str,
    began: SystemTime,
) -> Result<Everywhere> {
    let mut found = Everywhere::default();
    let events = place.kubectl(&["get", "events", "--all-namespaces", "-o", "json"])?;
    found.look("events", events.as_bytes(), used);
    found.look("metrics", metrics.as_bytes(), used);
    found.look("the command line", used.said.as_bytes(), used);
    for entry in place.stage.cluster.etcd_list("/")? {
        found.keys += 1;
        found.look("etcd", &[&entry.key[..], b" ", &entry.value].concat(), used);
    }
    let root = place.stage.cluster.layout().root().to_owned();
    // The node's disk, etcd's files, and what kubelet, containerd and the API server logged. Our own keys are no secrets of
    // the product's, and images are what was there before.
    for folder in ["nodes", "etcd", "log"] {
        found.look_below(place, &root.join(folder), used, began)?;
    }
    found.check_planted(place)?;
    Ok(found)
}

impl Everywhere {
    fn look(&mut self, name: &str, bytes: &[u8], used: &Used) {
        if !used.planted.find(bytes).is_empty() {
            self.planted.insert(name.to_owned());
        }
        let hits = used.canaries.find(bytes).into_iter();
        self.secrets
            .extend(hits.map(|hit| format!("{name}: {hit}")));
    }

    fn look_below(
        &mut self,
        place: &Installed,
        folder: &Path,
        used: &Used,
        began: SystemTime,
    ) -> Result<()> {
        let root = place.stage.cluster.layout().root();
        let shown = |path: &Path| {
            path.strip_prefix(root)
                .unwrap_or(path)
                .display()
                .to_string()
        };
        let planted = used.planted.find_changed_below(folder, began)?;
        self.planted
            .extend(planted.hits.iter().map(|(path, _)| shown(path)));
        let found = used.canaries.find_changed_below(folder, began)?;
        self.files += found.files;
        self.bytes += found.bytes;
        let pins = pins(place)?;
        let mut seen = 0;
        for (path, hit) in found.hits {
            if hit.starts_with("a PIN") && pins.contains(&path) {
                seen += 1;
            } else {
                self.secrets.push(format!("{}: {hit}", shown(&path)));
            }
        }
        let expected = if folder.ends_with("nodes") {
            pins.len()
        } else {
            0
        };
        ensure!(seen == expected, "{seen} PINs are where they belong");
        Ok(())
    }

    /// Each kind of place has the planted value, so that a secret would have been found there.
    fn check_planted(&self, place: &Installed) -> Result<()> {
        let audit_log = place.node()?.audit_log();
        let audit_log = audit_log
            .file_name()
            .context("a file")?
            .to_string_lossy()
            .into_owned();
        for part in [
            "events",
            "etcd",
            "etcd/member/wal/",
            &audit_log,
            "kubelet.log",
            "containerd.log",
            "/var/log/pods/",
        ] {
            let is_there = self
                .planted
                .iter()
                .any(|it| it == part || it.contains(part));
            ensure!(
                is_there,
                "nothing was planted in {part}: {:?}",
                self.planted
            );
        }
        Ok(())
    }
}

/// The API server logs bodies: otherwise nothing of what objects hold would be in its log.
pub(crate) fn bodies_are_logged(log: &Path) -> Result<()> {
    let text = fs::read_to_string(log)?;
    let mut events = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let has_body = |event: &Value| {
        event["objectRef"]["resource"] == "secretbundles" && event["requestObject"].is_object()
    };
    ensure!(
        events.any(|event| has_body(&event)),
        "no body of a SecretBundle is in the audit log"
    );
    Ok(())
}
