//! A control-plane node from nothing to an encrypted etcd, with the images and `kubectl strongroom bootstrap`.
#![forbid(unsafe_code)]

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;
use strongroom_e2e::{
    control_plane::{ControlPlane, ENCRYPTION, succeeded},
    envelope,
    world::{secret_path, wait},
};
use strongroom_hack::cluster::Health;

const ENROL: &str = "/etc/kubernetes/manifests/strongroom-enrol.yaml";
const INIT: &str = "/etc/kubernetes/manifests/strongroom-init.yaml";

const LIMIT: Duration = Duration::from_secs(60);

/// Everything of ours on the first node's disk.
fn files(of: &ControlPlane) -> Result<BTreeMap<String, Found>> {
    let node = of.node()?;
    let mut found = BTreeMap::new();
    for folder in [
        "/etc/strongroom",
        "/etc/kubernetes/manifests",
        "/var/lib/strongroom",
    ] {
        walk(&node.on_disk(folder), folder, &mut found)?;
    }
    Ok(found)
}

/// What lies at a path of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    place: (u32, u32, u32),
    inode: u64,
    is_folder: bool,
    content: Vec<u8>,
}

fn walk(at: &Path, shown: &str, found: &mut BTreeMap<String, Found>) -> Result<()> {
    let metadata = fs::symlink_metadata(at)?;
    let entry = Found {
        place: (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777),
        inode: metadata.ino(),
        is_folder: metadata.is_dir(),
        content: if metadata.is_file() {
            fs::read(at)?
        } else {
            Vec::new()
        },
    };
    found.insert(shown.to_owned(), entry);
    if metadata.is_dir() {
        for entry in fs::read_dir(at)? {
            let name = entry?.file_name();
            let name = name.to_str().context("UTF-8")?;
            walk(&at.join(name), &format!("{shown}/{name}"), found)?;
        }
    }
    Ok(())
}

/// The files and folders of a plan, by path.
fn planned(plan: &Value) -> Result<BTreeMap<String, Value>> {
    let steps = plan["steps"].as_array().context("a plan has steps")?;
    let entries = steps.iter().filter_map(|step| {
        let is_entry = step["what"] == "file" || step["what"] == "folder";
        let path = step["path"].as_str().filter(|_| is_entry)?;
        Some((path.to_owned(), step.clone()))
    });
    Ok(entries.collect())
}

/// Compares what is on the node with the plan that was made before.
fn assert_as_planned(
    plan: &BTreeMap<String, Value>,
    found: &BTreeMap<String, Found>,
) -> Result<()> {
    for (path, step) in plan {
        let here = found
            .get(path)
            .with_context(|| format!("{path} is missing"))?;
        let (owner, group, mode) = here.place;
        assert_eq!(step["owner"], owner, "{path}");
        assert_eq!(step["group"], group, "{path}");
        assert_eq!(step["mode"], format!("{mode:04o}"), "{path}");
        assert_eq!(step["what"] == "folder", here.is_folder, "{path}");
        match step["content"].as_str() {
            Some(content) => assert_eq!(String::from_utf8_lossy(&here.content), content, "{path}"),
            None => assert!(here.is_folder || step["note"].is_string(), "{path}"),
        }
    }
    let not_planned: Vec<&String> = found
        .keys()
        .filter(|path| path.starts_with("/etc/") && !plan.contains_key(*path))
        .filter(|path| path.as_str() != "/etc/kubernetes/manifests")
        .collect();
    assert_eq!(not_planned, Vec::<&String>::new());
    Ok(())
}

/// Tells whether the world may pass all folders that lead to a path.
fn is_reachable(path: &str, found: &BTreeMap<String, Found>) -> bool {
    let folders = Path::new(path).ancestors().skip(1);
    folders
        .filter_map(|folder| found.get(folder.to_str()?))
        .all(|folder| folder.place.2 & 0o001 != 0)
}

/// Nobody but owner and group gets at what the programs keep, and the world reads no key.
fn assert_permissions(found: &BTreeMap<String, Found>) {
    for (path, Found { place, content, .. }) in found {
        let (owner, _, mode) = *place;
        assert_eq!(mode & 0o002, 0, "{path} can be written by the world");
        if owner != 0 && is_reachable(path, found) {
            assert_eq!(mode & 0o007, 0, "{path} is open to the world");
        }
        if String::from_utf8_lossy(content).contains("PRIVATE KEY") {
            assert_eq!(mode & 0o077, 0, "{path} shows a key");
        }
    }
}

#[test]
fn node_is_set_up_encrypts_and_is_left_alone_afterwards() -> Result<()> {
    let stage = ControlPlane::start("e2e-bootstrap", 1)?;
    let node = stage.node()?;

    let before = files(&stage)?;
    let plan: Value = serde_json::from_str(&stage.bootstraps(&["--plan", "-o", "json"])?)?;
    assert_eq!(plan["refusals"], serde_json::json!([]));
    assert_eq!(files(&stage)?, before, "a plan changes nothing");

    let said = stage.bootstraps(&[])?;
    assert!(said.starts_with("Done.\n"), "{said}");
    assert!(said.contains("audit fingerprint: "), "{said}");
    assert!(
        said.contains(&format!("--encryption-provider-config={ENCRYPTION}")),
        "{said}"
    );
    let after = files(&stage)?;
    assert!(!after.contains_key(INIT));
    assert_as_planned(&planned(&plan)?, &after)?;
    assert_permissions(&after);

    let again = stage.bootstraps(&[])?;
    assert!(again.starts_with("Nothing to change.\n"), "{again}");
    let etc = |files: BTreeMap<String, Found>| -> Vec<(String, Found)> {
        files
            .into_iter()
            .filter(|(path, _)| path.starts_with("/etc/"))
            .collect()
    };
    assert_eq!(etc(files(&stage)?), etc(after));

    node.set_encryption(ENCRYPTION)?;
    node.restart_api_server(Health::Ready)?;
    stage.create_secret("one")?;
    stage.check_secret("one")?;

    succeeded(stage.strongroom(&["status"])?)?;
    // Without access to the API server nobody's tokens are known here.
    let values = stage.strongroom(&["bootstrap", "values"])?;
    let said = String::from_utf8_lossy(&values.stderr).into_owned();
    assert!(said.contains("without --no-kubeconfig"), "{said}");
    Ok(())
}

#[test]
fn init_that_is_interrupted_or_repeated_makes_one_instance() -> Result<()> {
    let stage = ControlPlane::start("e2e-bootstrap-init", 1)?;
    let node = stage.node()?;
    let plan: Value = serde_json::from_str(&stage.bootstraps(&["--plan", "-o", "json"])?)?;

    // Nobody's init is done so soon: its pod is taken away in the middle.
    let late = stage.bootstrap(&["--timeout", "1s"])?;
    let said = String::from_utf8_lossy(&late.stderr).into_owned();
    assert_eq!(late.status.code(), Some(3), "{said}");
    assert!(said.contains("the next run goes on where it was"), "{said}");
    assert!(!files(&stage)?.contains_key(INIT));
    stage.bootstraps(&[])?;
    let pin = node.on_disk("/var/lib/strongroom/key-service/pin.json");
    let instance = fs::read_to_string(&pin)?;

    // As if bootstrap had been killed before it took the pod away, or a kubelet ran it once more.
    let steps = plan["steps"].as_array().context("steps")?;
    let init = steps.iter().find(|step| step["what"] == "init");
    let pod = init.and_then(|step| step["content"].as_str());
    fs::write(node.on_disk(INIT), pod.context("the pod of init")?)?;
    wait(LIMIT, "init leaves the token alone", || {
        let logs = node.on_disk("/var/log/pods");
        contains(&logs, "there is a token already")
    })?;
    let removed = stage.bootstraps(&[])?;
    assert!(removed.starts_with("Done."), "{removed}");
    assert!(!files(&stage)?.contains_key(INIT));
    assert_eq!(fs::read_to_string(&pin)?, instance);
    succeeded(stage.strongroom(&["status"])?)?;

    // A volume that is not there must not become another instance.
    let (here, away) = (pin.clone(), pin.with_extension("away"));
    fs::rename(&here, &away)?;
    let refused = stage.bootstrap(&[])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("this node was set up before"), "{said}");
    fs::rename(&away, &here)?;
    Ok(())
}

/// Tells whether some file below a folder has a text in it.
fn contains(folder: &Path, text: &str) -> Result<bool> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            contains(&path, text)?
        } else {
            fs::read_to_string(&path).is_ok_and(|content| content.contains(text))
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn second_node_joins_and_encrypts_with_the_same_key() -> Result<()> {
    let stage = ControlPlane::start("e2e-bootstrap-join", 2)?;
    let (first, second) = (stage.node()?, stage.cluster.node("node-1")?);
    stage.bootstraps(&["--plugins-port=8444"])?;
    let file = stage.shared().join("enrolment.yaml");
    let file = file.to_str().context("UTF-8")?;
    succeeded(stage.strongroom(&["enrol", "node", "node-1", "--file", file])?)?;

    let join = ["bootstrap", "--join", file];
    let said = succeeded(stage.strongroom_on(second, &join)?)?;
    assert!(said.starts_with("Done.\n"), "{said}");
    let again = succeeded(stage.strongroom_on(second, &join)?)?;
    assert!(again.starts_with("Nothing to change.\n"), "{again}");
    for left in ["/etc/strongroom/kms-plugin/enrolment.yaml", ENROL] {
        assert!(!second.on_disk(left).exists(), "{left}");
    }

    let mut key_ids = Vec::new();
    for (node, name) in [(first, "one"), (second, "two")] {
        node.set_encryption(ENCRYPTION)?;
        node.restart_api_server(Health::Ready)?;
        node.kubectl(&["create", "secret", "generic", name, "--from-literal=a=b"])?;
        let raw = stage.cluster.etcd_get(&secret_path(name))?;
        let raw = raw.context("the Secret is in etcd")?;
        key_ids.push(envelope::parse(&raw.value)?.key_id);
    }
    assert_eq!(key_ids[0], key_ids[1]);

    let refused = stage.strongroom_on(second, &["bootstrap", "--no-kubeconfig"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("There is exactly one: a single point"),
        "{said}"
    );
    Ok(())
}
