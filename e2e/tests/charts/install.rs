//! The charts on a node with a real kubelet, out of our images: installed, upgraded, removed and installed again, with a pod
//! that reads a secret which was applied by kubectl.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{control_plane::ControlPlane, world::wait};
use strongroom_hack::{
    charts::{self, Chart},
    cluster::{BUSYBOX, ScopedCluster},
};

use crate::objects::{DRIVERS_NAMESPACE, NAMESPACE, NEWEST};

pub(crate) const PAYMENTS: &str = include_str!("payments.yaml");
/// What is promised from loaded images to an installation that serves.
const LIMIT: Duration = Duration::from_secs(120);
/// Has the API server refuse what is not restricted.
const RESTRICTED: &str = "pod-security.kubernetes.io/enforce=restricted";

/// A node with our images, the custom resources, and an empty namespace for the chart that takes restricted pods only.
struct Place {
    stage: ControlPlane,
}

impl Place {
    fn begin(name: &str) -> Result<Self> {
        let place = Self {
            stage: ControlPlane::start(name, 1)?,
        };
        place.kubectl(&["create", "namespace", NAMESPACE])?;
        place.kubectl(&["label", "namespace", NAMESPACE, RESTRICTED])?;
        place.helm("install", "crds", Chart::Crds, &[])?;
        Ok(place)
    }

    fn cluster(&self) -> &ScopedCluster {
        &self.stage.cluster
    }

    fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.cluster().kubectl(words)
    }

    fn helm(&self, verb: &str, release: &str, chart: Chart, more: &[&str]) -> Result<String> {
        let folder = chart.folder();
        let folder = folder.to_str().context("a path in UTF-8")?;
        let words = [verb, release, folder, "--namespace", NAMESPACE];
        charts::run_helm(self.cluster(), &[&words[..], more].concat())
    }

    fn install(&self, more: &[&str]) -> Result<String> {
        self.helm("install", "strongroom", Chart::Strongroom, more)
    }

    fn uninstall(&self) -> Result<()> {
        let words = ["uninstall", "strongroom", "--namespace", NAMESPACE];
        charts::run_helm(
            self.cluster(),
            &[&words[..], &["--wait", "--timeout=2m"]].concat(),
        )?;
        wait(LIMIT, "everything ended", || {
            let pods = ["get", "pods", "--all-namespaces", "-o", "name"];
            let selector = ["-l", "app.kubernetes.io/name=strongroom"];
            Ok(self.kubectl(&[&pods[..], &selector].concat())?.is_empty()
                && self
                    .kubectl(&["get", "namespace", DRIVERS_NAMESPACE])
                    .is_err())
        })
    }

    /// Waits until everything serves, and says which instance does.
    fn wait_until_it_serves(&self) -> Result<String> {
        let ready = ["wait", "--for=condition=Ready", "--timeout=120s"];
        wait(LIMIT, "the operator tells how it is", || {
            Ok(self.kubectl(&["get", "keyservice", "default"]).is_ok())
        })?;
        self.kubectl(&[&ready[..], &["keyservice/default"]].concat())?;
        for (namespace, owner) in [
            (NAMESPACE, "statefulset/strongroom-key-service"),
            (NAMESPACE, "deployment/strongroom-operator"),
            (DRIVERS_NAMESPACE, "daemonset/strongroom-csi-driver"),
        ] {
            let status = [
                "rollout",
                "status",
                owner,
                "-n",
                namespace,
                "--timeout=120s",
            ];
            self.kubectl(&status)?;
        }
        self.instance()
    }

    /// What the witness names.
    fn instance(&self) -> Result<String> {
        let witness = ["get", "configmap", "strongroom-witness", "-n", NAMESPACE];
        let instance = ["-o", "jsonpath={.data.instanceId}"];
        self.kubectl(&[&witness[..], &instance].concat())
    }

    fn payments(&self, words: &[&str]) -> Result<String> {
        self.kubectl(&[&["-n", "payments"], words].concat())
    }

    fn apply_payments(&self) -> Result<()> {
        let manifest = PAYMENTS.replace("IMAGE", BUSYBOX);
        let apply = ["apply", "--server-side", "-f", "-"];
        self.cluster().kubectl_with_input(&apply, &manifest)?;
        Ok(())
    }

    /// Makes a pod that reads the secret, and returns what it reads.
    fn password(&self) -> Result<String> {
        self.apply_payments()?;
        let ready = ["wait", "--for=condition=Ready", "pod/api", "--timeout=120s"];
        self.payments(&ready)?;
        let read = ["exec", "api", "--", "cat", "/run/secrets/app/db/password"];
        let password = self.payments(&read)?;
        ensure!(password.len() == 32, "{password}");
        Ok(password)
    }

    fn delete_pod(&self) -> Result<()> {
        self.payments(&["delete", "pod", "api", "--timeout=60s"])
            .map(drop)
    }

    /// Asks for an init as Argo CD does at each sync, and returns what the Job said.
    fn ask_for_init(&self) -> Result<String> {
        let only = [
            "--show-only=templates/init/rbac.yaml",
            "--show-only=templates/init/job.yaml",
        ];
        let hook = Chart::Strongroom.render(NAMESPACE, NEWEST, &only)?;
        self.cluster()
            .kubectl_with_input(&["apply", "-f", "-"], &hook)?;
        let job = ["-n", NAMESPACE, "job/strongroom-init"];
        let wait = ["wait", "--for=condition=Complete", "--timeout=120s"];
        self.kubectl(&[&wait[..], &job].concat())?;
        let said = self.kubectl(&[&["logs"][..], &job].concat())?;
        self.cluster()
            .kubectl_with_input(&["delete", "-f", "-"], &hook)?;
        Ok(said)
    }
}

#[test]
fn installation_keeps_everything_through_upgrades_and_removal() -> Result<()> {
    let place = Place::begin("e2e-charts-install")?;
    let began = Instant::now();
    place.install(&[])?;
    let instance = place.wait_until_it_serves()?;
    ensure!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
    println!("installed and serving after {:?}", began.elapsed());
    ensure!(instance.len() == 32, "the witness names {instance:?}");

    place.kubectl(&["create", "namespace", "payments"])?;
    place.payments(&["create", "serviceaccount", "api"])?;
    let password = place.password()?;

    // With other values too, which starts every program anew.
    let administrators =
        r#"administrators=[{"certificate": "administrator"}, {"certificate": "second"}]"#;
    let values = [&[][..], &["--set-json", administrators]];
    for more in values {
        place.helm("upgrade", "strongroom", Chart::Strongroom, more)?;
        assert_eq!(place.wait_until_it_serves()?, instance);
        place.delete_pod()?;
        assert_eq!(place.password()?, password);
    }
    let jobs = ["get", "jobs", "-n", NAMESPACE, "-o", "name"];
    assert_eq!(place.kubectl(&jobs)?, "", "an upgrade asks for no init");
    let test = ["test", "strongroom", "--namespace", NAMESPACE];
    charts::run_helm(place.cluster(), &[&test[..], &["--timeout=2m"]].concat())?;

    place.delete_pod()?;
    place.uninstall()?;
    let kept = "persistentvolumeclaims,configmaps";
    let kept = place.kubectl(&["get", kept, "-n", NAMESPACE, "-o", "name"])?;
    for name in ["audit", "store", "token"] {
        let claim = format!("persistentvolumeclaim/{name}-strongroom-key-service-0");
        assert!(kept.contains(&claim), "{kept}");
    }
    assert!(kept.contains("configmap/strongroom-witness"), "{kept}");
    place.payments(&["get", "keyring/payments", "managedsecret/db"])?;

    place.install(&["--wait", "--timeout=2m"])?;
    assert_eq!(place.wait_until_it_serves()?, instance);
    assert_eq!(place.password()?, password);
    let said = place.ask_for_init()?;
    assert!(said.contains("already initialised"), "{said}");
    assert!(said.contains(&instance), "{said}");

    // Without the custom resources' chart they stay as well.
    charts::run_helm(
        place.cluster(),
        &["uninstall", "crds", "--namespace", NAMESPACE],
    )?;
    place.payments(&["get", "keyring/payments", "managedsecret/db"])?;
    Ok(())
}

#[test]
fn installation_with_wait_is_ready_and_its_volumes_are_not_made_anew() -> Result<()> {
    let place = Place::begin("e2e-charts-wait")?;
    // Without a StorageClass nothing is installed.
    let default = "storageclass.kubernetes.io/is-default-class";
    let annotate = |value: &str| {
        let annotation = format!("{default}={value}");
        place.kubectl(&[
            "annotate",
            "storageclass",
            "local",
            "--overwrite",
            &annotation,
        ])
    };
    annotate("false")?;
    for (value, sentence) in [
        ("", "the cluster has no default StorageClass"),
        ("fast", "the cluster has no StorageClass fast"),
    ] {
        let value = format!("keyService.persistence.storageClass={value}");
        let refused = place.install(&["--set", &value]);
        let refused = format!("{:#}", refused.expect_err("there is no such class"));
        assert!(refused.contains(sentence), "{refused}");
        let nothing = place.kubectl(&["get", "all", "-n", NAMESPACE, "-o", "name"])?;
        assert_eq!(nothing, "");
    }
    annotate("true")?;

    let began = Instant::now();
    place.install(&["--wait", "--timeout=2m"])?;
    let instance = place.wait_until_it_serves()?;
    ensure!(began.elapsed() < LIMIT, "it took {:?}", began.elapsed());
    println!(
        "installed with --wait and serving after {:?}",
        began.elapsed()
    );

    // Volumes that are empty, beside a witness: somebody lost them. No second instance comes of it.
    place.uninstall()?;
    let claims = ["delete", "persistentvolumeclaims", "--all", "-n", NAMESPACE];
    place.kubectl(&claims)?;
    let refused = place.install(&["--timeout=2m"]);
    let refused = format!("{:#}", refused.expect_err("its volumes are empty"));
    let sentence =
        format!("strongroom-witness names instance {instance}, but its store is not here");
    assert!(refused.contains(&sentence), "{refused}");
    assert_eq!(place.instance()?, instance);
    Ok(())
}
