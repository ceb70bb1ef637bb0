//! Everything that one does with secrets, each with values that nobody has seen before.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    canary::Canaries,
    installed::{DRIVERS, Installed, LIMIT, SYSTEM},
    world::wait,
};
use strongroom_hack::charts::{self, Chart};

const PAYMENTS: &str = include_str!("payments.yaml");
const PASSWORD: &str = "cat /run/secrets/app/db/password";

/// What was used.
pub(crate) struct Used {
    /// What must be nowhere.
    pub(crate) canaries: Canaries,
    /// How many of them.
    pub(crate) values: usize,
    /// What must be wherever something is written.
    pub(crate) planted: Canaries,
    /// What commands printed, but for what was revealed.
    pub(crate) said: String,
}

impl Used {
    fn keep(&mut self, name: &str, value: &str) {
        self.canaries.add(name, value.as_bytes().to_vec());
        self.values += 1;
    }

    /// A value for people to set; it is in hexadecimal, as text.
    fn draw(&mut self, name: &str) -> Result<String> {
        self.values += 1;
        Ok(hex::encode(self.canaries.draw(name)?))
    }

    fn runs(&mut self, place: &Installed, words: &[&str], code: i32) -> Result<()> {
        let answer = place.strongroom(words)?;
        answer.ended(code)?;
        self.said.push_str(&answer.out);
        self.said.push_str(&answer.err);
        Ok(())
    }
}

/// Uses everything.
pub(crate) fn everything(place: &Installed) -> Result<Used> {
    let mut used = Used {
        canaries: Canaries::default(),
        values: 0,
        planted: Canaries::default(),
        said: String::new(),
    };
    used.runs(place, &["admin-certificate"], 0)?;
    let mut planted = used.planted.draw("planted")?;
    // A name has 63 characters at most.
    planted.truncate(16);
    used.planted = Canaries::default();
    used.planted.add("planted", planted.clone());
    place.kubectl(&["create", "namespace", "payments"])?;
    place.apply(&PAYMENTS.replace("PLANTED", &hex::encode(planted)))?;
    people_set_values(place, &mut used)?;
    place.wait_for_pod("payments", "api")?;
    let token = place.exec("payments", "api", "cat /run/secrets/token/token")?;
    used.keep("the pod's token", signature(&token)?);
    for (version, file) in ["db/password", "token"].iter().enumerate() {
        let value = place.exec("payments", "api", &format!("cat /run/secrets/app/{file}"))?;
        used.keep(&format!("file {version}"), &value);
    }
    let rendered = place.exec("payments", "api", "tail -n 1 /run/secrets/app/app.env")?;
    let rendered = rendered.trim().trim_start_matches("STRIPE=");
    used.keep("a part of a template's output", &rendered[..40]);

    versions_come_and_go(place, &mut used)?;
    used.runs(place, &["why", "pod/api", "-n", "payments"], 0)?;
    used.runs(place, &["why", "pod/refused", "-n", "payments"], 4)?;
    used.runs(place, &["status"], 0)?;
    kubernetes_secrets_are_encrypted(place, &mut used)?;
    somebody_reveals(place, &mut used)?;
    Ok(used)
}

/// The part of a token that nobody can make.
pub(crate) fn signature(token: &str) -> Result<&str> {
    token
        .trim()
        .rsplit('.')
        .next()
        .context("a token has three parts")
}

fn people_set_values(place: &Installed, used: &mut Used) -> Result<()> {
    for round in 1..=2 {
        let value = used.draw(&format!("value {round} that a person set"))?;
        set(place, used, &value)?;
    }
    let value = used.draw("an imported value")?;
    let literal = format!("--from-literal=token={value}");
    place.within(
        "payments",
        &["create", "secret", "generic", "old", &literal],
    )?;
    let import = [
        "secret",
        "import",
        "secret/old",
        "--as",
        "legacy",
        "-n",
        "payments",
    ];
    used.runs(place, &import, 0)
}

fn set(place: &Installed, used: &mut Used, value: &str) -> Result<()> {
    let file = place.home().join("value");
    fs::write(&file, value)?;
    let file = format!("--from-file=key={}", file.display());
    used.runs(
        place,
        &["secret", "set", "stripe", "-n", "payments", &file],
        0,
    )
}

/// Rotations, while every program of ours is replaced once.
fn versions_come_and_go(place: &Installed, used: &mut Used) -> Result<()> {
    let programs = [
        (DRIVERS, "app.kubernetes.io/component=csi-driver"),
        (SYSTEM, "app.kubernetes.io/component=operator"),
        (SYSTEM, "app.kubernetes.io/component=key-service"),
    ];
    for (namespace, selector) in programs {
        rotate(place, used)?;
        let words = ["delete", "pod", "-l", selector, "--timeout=60s"];
        place.within(namespace, &words)?;
        let ready = [
            "wait",
            "--for=condition=Ready",
            "pod",
            "-l",
            selector,
            "--timeout=120s",
        ];
        wait(LIMIT, "it is back", || {
            Ok(place.within(namespace, &ready).is_ok())
        })?;
    }
    rotate(place, used)
}

fn rotate(place: &Installed, used: &mut Used) -> Result<()> {
    let before = place.exec("payments", "api", PASSWORD)?;
    let words = [
        "rotate",
        "msec/db",
        "-n",
        "payments",
        "--wait",
        "--timeout=4m",
    ];
    used.runs(place, &words, 0)?;
    let password = place.exec("payments", "api", PASSWORD)?;
    // Not even right after all programs were started again is it done any earlier.
    ensure!(password != before, "the pod reads what it read");
    ensure!(password.len() == 32, "{} characters", password.len());
    used.keep("a generated password", &password);
    Ok(())
}

/// The second act, with the other installation's key.
fn kubernetes_secrets_are_encrypted(place: &Installed, used: &mut Used) -> Result<()> {
    for name in ["before", "after"] {
        let value = used.draw(&format!("a Secret of Kubernetes {name} the rotation"))?;
        let literal = format!("--from-literal=value={value}");
        place.within("payments", &["create", "secret", "generic", name, &literal])?;
        let read = [
            "get",
            "secret",
            name,
            "-o",
            "go-template={{.data.value | base64decode}}",
        ];
        ensure!(place.within("payments", &read)? == value);
        let rotated = place.stage.strongroom(&["rotate", "etcd"])?;
        ensure!(rotated.status.success(), "{rotated:?}");
        used.said.push_str(&String::from_utf8(rotated.stdout)?);
    }
    Ok(())
}

/// Only who was given the role by the configuration sees a value, and administrators do not have it.
fn somebody_reveals(place: &Installed, used: &mut Used) -> Result<()> {
    let reveal = [
        "secret", "reveal", "stripe", "-n", "payments", "--field", "key", "--reason", "INC-42",
    ];
    used.runs(place, &reveal, 4)?;
    let ring = place.within("payments", &["get", "keyring", "payments", "-o", "json"])?;
    let ring: Value = serde_json::from_str(&ring)?;
    let ring = ring["status"]["ringID"]
        .as_str()
        .context("a ring has an id")?;
    let access =
        format!(r#"access=[{{"role": "SecretReader", "certificate": "alice", "ring": "{ring}"}}]"#);
    let folder = Chart::Strongroom.folder();
    let folder = folder.to_str().context("a path in UTF-8")?;
    let words = [
        "upgrade",
        "strongroom",
        folder,
        "-n",
        SYSTEM,
        "--set-json",
        &access,
    ];
    charts::run_helm(
        &place.stage.cluster,
        &[&words[..], &["--wait", "--timeout=3m"]].concat(),
    )?;
    let alice = place.home().join("alice");
    fs::create_dir(&alice)?;
    wait(LIMIT, "the key service gives the certificate", || {
        let words = ["admin-certificate", "--name", "alice"];
        place.strongroom_of(&alice, &words)?.ended(0)?;
        Ok(true)
    })?;
    let revealed = place.strongroom_of(&alice, &reveal)?;
    revealed.ended(0)?;
    let value = used.canaries.find(revealed.out.as_bytes());
    ensure!(
        value
            .iter()
            .any(|it| it.starts_with("value 2 that a person set")),
        "what was revealed is not what was set: {value:?}"
    );
    used.said.push_str(&revealed.err);
    Ok(())
}
