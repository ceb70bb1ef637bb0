//! The pages about the charts, about bundles, and about a pod that does not start, in the order in which somebody needs them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{page, world::wait};

use super::reader::Reader;

const INSTALL: &str = include_str!("../../../docs/how-to/install-with-helm.md");
const WHY: &str = include_str!("../../../docs/how-to/why-does-my-pod-not-start.md");
const BUNDLES: &str = include_str!("../../../docs/how-to/bundles.md");
const LIMIT: Duration = Duration::from_secs(120);
/// Exit code of `why` for what is denied, as the page says.
const DENIED: Option<i32> = Some(4);

#[test]
fn commands_of_the_pages_install_explain_upgrade_and_remove_everything() -> Result<()> {
    let reader = Reader::start("e2e-howto-install")?;
    for commands in page::blocks(INSTALL, 2)? {
        reader.run(commands)?;
    }
    let ready = "kubectl wait --for=condition=Ready keyservice/default --timeout=120s";
    reader.run(ready)?;
    explain(&reader)?;
    apply_bundle(&reader)?;

    for commands in page::blocks(INSTALL, 4)? {
        reader.run(commands)?;
    }
    reader.run(ready)?;

    let [uninstall, destroy] = page::blocks(INSTALL, 5)?[..] else {
        anyhow::bail!("section 5 has two blocks: one that keeps everything and one that does not");
    };
    reader.run("kubectl delete pod api -n payments --timeout=60s")?;
    reader.run(uninstall)?;
    let kept = "kubectl get -n payments keyring/payments managedsecret/db secretbundle/api";
    reader.run(kept)?;
    // Without an operator it does not end, and no longer than that.
    reader.run("kubectl delete -n payments secretbundle/api --wait=false")?;
    reader.run("kubectl get -n payments secretbundle/api")?;
    let [install, ..] = page::blocks(INSTALL, 2)?[..] else {
        anyhow::bail!("section 2 installs");
    };
    let (_, again) = install.split_once('\n').context("two charts")?;
    reader.run(again)?;
    reader.run(ready)?;
    reader.run("kubectl wait -n payments --for=delete secretbundle/api --timeout=60s")?;
    reader.run(destroy)?;
    check_nothing_is_left(&reader)
}

/// The pod has no role yet: its events and `why` say so in the words of the page.
fn explain(reader: &Reader) -> Result<()> {
    let [describe, why, of_objects] = page::fenced(WHY, "sh")[..] else {
        anyhow::bail!("the page has three blocks of commands");
    };
    let [event, table] = page::fenced(WHY, "text")[..] else {
        anyhow::bail!("the page shows an event and a table");
    };
    reader.run("kubectl apply -f config/samples/payments.yaml")?;
    let ready = "kubectl wait -n payments --for=condition=Ready keyring/payments managedsecret/db --timeout=120s";
    reader.run(ready)?;
    reader.run("kubectl apply -f config/samples/pod.yaml")?;
    let (_, sentence) = event.split_once("desc =\n").context("a sentence of ours")?;
    wait(LIMIT, "the event says it as the page does", || {
        Ok(reader.run(describe)?.contains(sentence.trim_end()))
    })?;

    let node = "kubectl get pod api -n payments -o jsonpath={.spec.nodeName}";
    let table = table.replace("node-1", &reader.run(node)?);
    let said = reader.try_to(why)?;
    ensure!(said.code == DENIED, "{}{}", said.out, said.error);
    ensure!(
        said.out == table,
        "{}\nwhere the page has\n{table}",
        said.out
    );
    reader.run(of_objects).map(drop)
}

/// The bundle on the page is one that the API server takes and the operator applies.
fn apply_bundle(reader: &Reader) -> Result<()> {
    let [bundle] = page::fenced(BUNDLES, "yaml")[..] else {
        anyhow::bail!("the page has one bundle");
    };
    reader.run(&format!("kubectl apply -f - <<'END'\n{bundle}END\n"))?;
    let applied = "kubectl wait -n payments --for=condition=Ready secretbundle/api --timeout=60s";
    reader.run(applied).map(drop)
}

fn check_nothing_is_left(reader: &Reader) -> Result<()> {
    let objects = "kubectl get strongroom,keyservices --all-namespaces -o name";
    let left = reader.run(objects)?;
    ensure!(left.is_empty(), "{left}");
    let kept = "kubectl get persistentvolumeclaims,configmaps -n strongroom-system -o name";
    wait(LIMIT, "volumes and witness are gone", || {
        let left = reader.run(kept)?;
        Ok(left.trim() == "configmap/kube-root-ca.crt")
    })?;
    reader
        .run("kubectl delete namespace payments strongroom-system --timeout=60s")
        .map(drop)
}
