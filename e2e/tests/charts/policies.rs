//! The admission policies and the rights of the chart on a real API server: as somebody with the role `edit`, with `admin`,
//! and with the operator's own token. Nothing of ours runs here.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strongroom_e2e::world::wait;
use strongroom_hack::{
    charts::{self, Chart},
    cluster::{Options, ScopedCluster},
};
use tempfile::NamedTempFile;

use crate::objects::{DRIVERS_NAMESPACE, NAMESPACE};

const LIMIT: Duration = Duration::from_secs(120);

/// A cluster with the charts, a namespace `payments`, somebody with the role `edit` there and somebody with `admin`.
struct Story {
    cluster: ScopedCluster,
}

impl Story {
    fn begin(name: &str) -> Result<Self> {
        // The roles `edit` and `admin` are put together by a controller, which runs beside nodes.
        let cluster = ScopedCluster::up(Options::new(name.parse()?).with_nodes(1, 1)?)?;
        install(&cluster, Chart::Crds, "crds", &[])?;
        install(&cluster, Chart::Strongroom, "strongroom", &["--no-hooks"])?;
        cluster.kubectl(&["create", "namespace", "payments"])?;
        let story = Self { cluster };
        for (user, role) in [("editor", "edit"), ("owner", "admin")] {
            let (role, who) = (format!("--clusterrole={role}"), format!("--user={user}"));
            story.kubectl(&["create", "rolebinding", user, &role, &who])?;
        }
        wait(LIMIT, "the roles are put together", || {
            let may = story.may("owner", &["bind", "managedsecrets.strongroom.dev"])?;
            Ok(may && story.may("editor", &["create", "managedsecrets.strongroom.dev"])?)
        })?;
        story.wait_for_policies()?;
        Ok(story)
    }

    /// An API server takes a policy into use a moment after it was made.
    fn wait_for_policies(&self) -> Result<()> {
        wait(LIMIT, "the policies are in use", || {
            let early = self.cluster.kubectl(&[
                "create",
                "configmap",
                "strongroom-witness",
                "-n",
                NAMESPACE,
                "--dry-run=server",
            ]);
            let secret = secret("early", &["api"]);
            let bound = self.apply_as(Some("editor"), &secret, true)?;
            Ok(early.is_err() && !bound.status.success())
        })
    }

    fn kubectl(&self, words: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", "payments"], words].concat())
    }

    fn may(&self, user: &str, what: &[&str]) -> Result<bool> {
        let user = format!("--as={user}");
        let words = [&["auth", "can-i"], what, &["-n", "payments", &user]].concat();
        answer(self.cluster.kubectl_command().args(words))
    }

    /// Applies an object as somebody, or as the cluster's administrator.
    fn apply_as(&self, user: Option<&str>, object: &Value, dry: bool) -> Result<Output> {
        let mut command = self.cluster.kubectl_command();
        command.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command.args(dry.then_some("--dry-run=server"));
        command.args(user.map(|user| format!("--as={user}")));
        with_input(&mut command, &object.to_string())
    }

    fn applies(&self, user: Option<&str>, object: &Value) -> Result<()> {
        let output = self.apply_as(user, object, false)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{user:?}: {said}");
        Ok(())
    }

    #[track_caller]
    fn is_refused(&self, user: Option<&str>, object: &Value, sentence: &str) -> Result<()> {
        let output = self.apply_as(user, object, false)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{user:?} applied {object}");
        assert!(said.contains(sentence), "{user:?}: {said}");
        Ok(())
    }

    /// A kubeconfig with the token of a service account and nothing else.
    fn kubeconfig(&self, namespace: &str, account: &str) -> Result<NamedTempFile> {
        let shown = ["config", "view", "--raw", "--output=json"];
        let mut config: Value = serde_json::from_str(&self.cluster.kubectl(&shown)?)?;
        let token = self
            .cluster
            .kubectl(&["create", "token", account, "-n", namespace])?;
        config["users"][0]["user"] = json!({"token": token.trim()});
        let file = NamedTempFile::new()?;
        fs::write(file.path(), config.to_string())?;
        Ok(file)
    }
}

fn install(cluster: &ScopedCluster, chart: Chart, release: &str, more: &[&str]) -> Result<()> {
    let folder = chart.folder();
    let folder = folder.to_str().context("a path in UTF-8")?;
    let words = [
        "install",
        release,
        folder,
        "--namespace",
        NAMESPACE,
        "--create-namespace",
    ];
    charts::run_helm(cluster, &[&words[..], more].concat()).map(drop)
}

fn with_input(command: &mut Command, input: &str) -> Result<Output> {
    let file = NamedTempFile::new()?;
    fs::write(file.path(), input)?;
    Ok(command.stdin(fs::File::open(file.path())?).output()?)
}

/// What `kubectl auth can-i` says.
fn answer(command: &mut Command) -> Result<bool> {
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8(output.stdout)?;
    match said.trim() {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => anyhow::bail!("{other}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "strongroom.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "payments"},
        "spec": spec,
    })
}

fn access(role: &str, accounts: &[&str]) -> Value {
    let subject = |account| json!({"kind": "ServiceAccount", "name": account});
    let subjects: Vec<Value> = accounts.iter().map(subject).collect();
    json!([{"role": role, "subjects": subjects}])
}

/// A secret that these accounts may read; without any it says nothing of access.
fn secret(name: &str, readers: &[&str]) -> Value {
    let mut secret = object(
        "ManagedSecret",
        name,
        json!({"source": {"manual": {"fields": ["key"]}}}),
    );
    if !readers.is_empty() {
        secret["spec"]["access"] = access("SecretReader", readers);
    }
    secret
}

fn key(users: &[&str]) -> Value {
    let mut key = object(
        "CryptoKey",
        "orders",
        json!({"purpose": "EncryptDecrypt", "algorithm": "AES256GCM"}),
    );
    if !users.is_empty() {
        key["spec"]["access"] = access("KeyDecrypter", users);
    }
    key
}

const NEEDS_BIND: &str = "a change of spec.access needs the verb bind on";

#[test]
fn who_may_write_an_object_may_not_therefore_say_who_uses_it() -> Result<()> {
    let story = Story::begin("e2e-charts-access")?;
    let (editor, admin) = (Some("editor"), Some("owner"));

    // Made, changed and deleted by `edit`, but never with access.
    story.applies(editor, &secret("db", &[]))?;
    story.is_refused(editor, &secret("db", &["api"]), NEEDS_BIND)?;
    story.is_refused(editor, &secret("other", &["api"]), NEEDS_BIND)?;
    story.is_refused(editor, &key(&["api"]), NEEDS_BIND)?;
    story.applies(editor, &key(&[]))?;

    // `admin` says who, and `edit` changes nothing of that, in either direction.
    story.applies(admin, &secret("db", &["api"]))?;
    story.applies(admin, &key(&["ledger"]))?;
    story.is_refused(editor, &secret("db", &["api", "mine"]), NEEDS_BIND)?;
    story.is_refused(editor, &secret("db", &["mine"]), NEEDS_BIND)?;
    let patch = |words: &[&str]| {
        let patch = [
            "patch",
            "managedsecret",
            "db",
            "--type=merge",
            "--as=editor",
        ];
        story.kubectl(&[&patch, words].concat())
    };
    let refused = patch(&["-p", r#"{"spec": {"access": null}}"#]).expect_err("it removes access");
    assert!(format!("{refused:#}").contains(NEEDS_BIND), "{refused:#}");
    patch(&["-p", r#"{"metadata": {"labels": {"team": "blue"}}}"#])?;
    let shown = [
        "get",
        "managedsecret",
        "db",
        "-o",
        "jsonpath={.spec.access[*].subjects[*].name}",
    ];
    assert_eq!(story.kubectl(&shown)?, "api");

    // Rings are the platform's, with access and without.
    let ring = |spec: Value| object("KeyRing", "payments", spec);
    let with_access = ring(json!({"access": access("KeyEncrypter", &["ledger"])}));
    for user in [editor, admin] {
        story.is_refused(user, &ring(json!({})), "cannot")?;
        story.is_refused(user, &with_access, "cannot")?;
    }
    story.applies(None, &with_access)?;

    // Another namespace's objects are as far away as before.
    for user in ["editor", "owner"] {
        let user = format!("--as={user}");
        let words = [
            "auth",
            "can-i",
            "bind",
            "managedsecrets.strongroom.dev",
            "-n",
            "default",
            &user,
        ];
        assert!(!answer(story.cluster.kubectl_command().args(words))?);
    }
    Ok(())
}

#[test]
fn operator_reads_no_secret_and_changes_no_workload_whatever_it_is_given() -> Result<()> {
    let story = Story::begin("e2e-charts-operator")?;
    let accounts = [
        (NAMESPACE, "strongroom-operator"),
        (NAMESPACE, "strongroom-key-service"),
        (DRIVERS_NAMESPACE, "strongroom-csi-driver"),
    ];
    for (namespace, account) in accounts {
        let file = story.kubeconfig(namespace, account)?;
        for verb in ["get", "list", "watch", "create", "patch", "delete"] {
            for resource in [
                &["secrets"][..],
                &["pods"],
                &["deployments.apps"],
                &["serviceaccounts", "--subresource=token"],
            ] {
                let mut command = story.cluster.kubectl_command();
                command.env("KUBECONFIG", file.path());
                command.args(["auth", "can-i", "--all-namespaces", verb]);
                assert!(
                    !answer(command.args(resource))?,
                    "{account} may {verb} {resource:?}"
                );
            }
        }
    }

    // With its own rights: finalizers and status, and no access.
    story.applies(Some("owner"), &secret("db", &["api"]))?;
    let file = story.kubeconfig(NAMESPACE, "strongroom-operator")?;
    let by_operator = |words: &[&str]| -> Result<Result<String, String>> {
        let mut command = story.cluster.kubectl_command();
        command.env("KUBECONFIG", file.path()).stdin(Stdio::null());
        let output = command.args(["-n", "payments"]).args(words).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok(if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(said)
        })
    };
    let patch = |patch: &str, more: &[&str]| {
        let words = ["patch", "managedsecret", "db", "--type=merge", "-p", patch];
        by_operator(&[&words, more].concat())
    };
    let finalizer = r#"{"metadata": {"finalizers": ["strongroom.dev/release"]}}"#;
    assert!(patch(finalizer, &[])?.is_ok());
    assert!(patch(r#"{"metadata": {"finalizers": []}}"#, &[])?.is_ok());
    // kubectl reads the subresource before it writes it, so it is asked instead.
    let status = [
        "auth",
        "can-i",
        "patch",
        "managedsecrets.strongroom.dev",
        "--subresource=status",
    ];
    assert_eq!(by_operator(&status)?.as_deref(), Ok("yes\n"));
    let widened = json!({"spec": {"access": access("SecretReader", &["api", "mine"])}});
    let refused = patch(&widened.to_string(), &[])?.expect_err("it has no right to bind");
    assert!(refused.contains(NEEDS_BIND), "{refused}");

    // Somebody gives it every right.
    story.cluster.kubectl(&[
        "create",
        "clusterrolebinding",
        "mistake",
        "--clusterrole=cluster-admin",
        &format!("--serviceaccount={NAMESPACE}:strongroom-operator"),
    ])?;
    story.kubectl(&[
        "create",
        "deployment",
        "api",
        "--image=strongroom.dev/busybox:1",
    ])?;
    story.kubectl(&["create", "secret", "generic", "mine", "--from-literal=a=b"])?;
    wait(LIMIT, "it has every right", || {
        Ok(by_operator(&["get", "secret", "mine"])?.is_ok())
    })?;
    let template = r#"{"spec": {"template": {"metadata": {"annotations": {"strongroom.dev/restarted": "1"}}}}}"#;
    for words in [
        &["create", "deployment", "other", "--image=x"][..],
        &["patch", "deployment", "api", "-p", template],
        &["scale", "deployment", "api", "--replicas=0"],
        &["delete", "deployment", "api"],
        &["run", "other", "--image=x"],
        &["create", "secret", "generic", "other"],
        &["delete", "secret", "mine"],
        &["create", "serviceaccount", "other"],
        &["create", "token", "default"],
        &["create", "job", "other", "--image=x"],
        &[
            "create",
            "rolebinding",
            "other",
            "--clusterrole=admin",
            "--user=mine",
        ],
    ] {
        let refused = by_operator(words)?.expect_err("the policy holds");
        let sentence = "Strongroom's operator changes no workload, Secret, account or right";
        assert!(refused.contains(sentence), "{words:?}: {refused}");
    }
    // Everybody else may, as before.
    story.kubectl(&["delete", "deployment", "api"])?;
    Ok(())
}

#[test]
fn only_the_key_service_says_whom_to_trust() -> Result<()> {
    let story = Story::begin("e2e-charts-trust")?;
    let file = story.kubeconfig(NAMESPACE, "strongroom-key-service")?;
    for (name, namespace) in [
        ("strongroom-ca", NAMESPACE),
        ("strongroom-ca", DRIVERS_NAMESPACE),
        ("strongroom-witness", NAMESPACE),
    ] {
        let create = [
            "create",
            "configmap",
            name,
            "-n",
            namespace,
            "--from-literal=a=b",
        ];
        let sentence = "only Strongroom's key service writes this ConfigMap";
        let refused = story.cluster.kubectl(&create).expect_err("anybody else");
        assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
        let mut command = story.cluster.kubectl_command();
        let created = command
            .env("KUBECONFIG", file.path())
            .args(create)
            .output()?;
        let said = String::from_utf8_lossy(&created.stderr);
        assert!(created.status.success(), "{said}");
        let patch = [
            "patch",
            "configmap",
            name,
            "-n",
            namespace,
            "-p",
            r#"{"data": {"a": "c"}}"#,
        ];
        let refused = story.cluster.kubectl(&patch).expect_err("anybody else");
        assert!(format!("{refused:#}").contains(sentence), "{refused:#}");
        // Whoever wants to begin anew, with volumes that are empty, removes it.
        story
            .cluster
            .kubectl(&["delete", "configmap", name, "-n", namespace])?;
    }
    // The name alone means nothing elsewhere, nor another name here.
    for (name, namespace) in [("strongroom-ca", "payments"), ("other", NAMESPACE)] {
        story
            .cluster
            .kubectl(&["create", "configmap", name, "-n", namespace])?;
    }
    Ok(())
}
