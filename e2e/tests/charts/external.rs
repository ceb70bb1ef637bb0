//! The charts beside a key service that `bootstrap` set up: its static pods encrypt etcd on the node, and operator and driver
//! come out of the chart by the commands of the page.

use std::{os::unix::fs::symlink, time::Duration};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{
    control_plane::{ControlPlane, ENCRYPTION, succeeded},
    page,
    world::wait,
};
use strongroom_hack::{
    charts,
    cluster::{BUSYBOX, Health},
    paths,
};

use crate::{
    install::PAYMENTS,
    objects::{DRIVERS_NAMESPACE, NAMESPACE},
};

const PAGE: &str = include_str!("../../../docs/how-to/bootstrap.md");
const LIMIT: Duration = Duration::from_secs(180);
const RIGHTS: &str = "/etc/strongroom/rbac.yaml";
const PASSWORD: &str = "/run/secrets/app/db/password";

#[test]
fn pods_read_secrets_of_the_key_service_that_encrypts_etcd() -> Result<()> {
    let place = Place {
        stage: ControlPlane::start("e2e-charts-external", 1)?,
    };
    place.bootstrap()?;
    place.install()?;

    place.kubectl(&["create", "namespace", "payments"])?;
    place.payments(&["create", "serviceaccount", "api"])?;
    let manifest = PAYMENTS.replace("IMAGE", BUSYBOX);
    let apply = ["apply", "--server-side", "-f", "-"];
    place.stage.cluster.kubectl_with_input(&apply, &manifest)?;
    place.payments(&["wait", "--for=condition=Ready", "pod/api", "--timeout=180s"])?;
    let first = place.password()?;
    ensure!(first.len() == 32, "{first}");

    place.rotate()?;
    let second = place.password()?;
    ensure!(second != first, "all volumes have it, says the command");
    let before = place.stage.process("key-service")?;
    before.kill()?;
    ensure!(place.password()? == second, "the pod keeps its files");
    wait(LIMIT, "the key service is another process", || {
        Ok(place.stage.process("key-service")? != before)
    })?;
    // The driver finds it again by itself, and then what was rotated meanwhile.
    place.rotate()?;
    wait(LIMIT, "the pod reads the third version", || {
        Ok(place.password()? != second)
    })?;

    place.stage.create_secret("one")?;
    place.stage.check_secret("one")?;
    place.helm(&["test", "strongroom", "--timeout=2m"])?;
    let status = place.stage.strongroom(&["status"])?;
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    ensure!(status.status.success(), "{said}");
    place.uninstall()
}

/// A node with a key service of its own, and the charts.
struct Place {
    stage: ControlPlane,
}

impl Place {
    fn bootstrap(&self) -> Result<()> {
        self.stage.bootstraps_with_access(&[])?;
        let node = self.stage.node()?;
        node.set_encryption(ENCRYPTION)?;
        node.restart_api_server(Health::Ready)?;
        node.output("kubectl", &["apply", "-f", RIGHTS]).map(drop)
    }

    /// Types what the page says, on the node, in a folder where the charts lie as in a checkout.
    fn install(&self) -> Result<()> {
        let folder = self.stage.shared();
        symlink(paths::checkout().join("charts"), folder.join("charts"))?;
        let helm = charts::helm()?;
        let helm = helm.parent().context("a folder")?;
        let [commands] = page::blocks(PAGE, 5)?[..] else {
            anyhow::bail!("section 5 has one block");
        };
        let (here, helm) = (folder.display(), helm.display());
        let script = format!("export PATH={here}:{helm}:$PATH HOME={here}\ncd {here}\n{commands}");
        self.stage.node()?.output("sh", &["-euc", &script])?;
        wait(LIMIT, "the operator tells how it is", || {
            Ok(self.kubectl(&["get", "keyservice", "default"]).is_ok())
        })?;
        let ready = ["wait", "--for=condition=Ready", "keyservice/default"];
        self.kubectl(&[&ready[..], &["--timeout=180s"]].concat())?;
        let sets = ["get", "statefulsets,jobs", "-n", NAMESPACE, "-o", "name"];
        let sets = self.kubectl(&sets)?;
        ensure!(sets.is_empty(), "the chart has a key service too: {sets}");
        Ok(())
    }

    /// Removes the release; what it worked with stays.
    fn uninstall(&self) -> Result<()> {
        self.payments(&["delete", "pod", "api", "--timeout=60s"])?;
        self.helm(&["uninstall", "strongroom", "--wait", "--timeout=2m"])?;
        wait(LIMIT, "the driver is gone", || {
            let gone = ["get", "namespace", DRIVERS_NAMESPACE];
            Ok(self.kubectl(&gone).is_err())
        })?;
        self.stage.check_secret("one")
    }

    fn helm(&self, words: &[&str]) -> Result<String> {
        let namespace = ["--namespace", NAMESPACE];
        charts::run_helm(&self.stage.cluster, &[words, &namespace].concat())
    }

    fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.stage.cluster.kubectl(words)
    }

    fn payments(&self, words: &[&str]) -> Result<String> {
        self.kubectl(&[&["-n", "payments"], words].concat())
    }

    fn password(&self) -> Result<String> {
        self.payments(&["exec", "api", "--", "cat", PASSWORD])
    }

    /// Rotates the secret by the command line on the node.
    fn rotate(&self) -> Result<()> {
        let rotate = ["rotate", "msec/db", "-n", "payments", "--wait"];
        succeeded(self.stage.strongroom(&rotate)?).map(drop)
    }
}
