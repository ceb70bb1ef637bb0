//! The command line against what the charts install on a node: nothing is configured but a kubeconfig, and it says what
//! kubelet says.

use std::{fs, os::unix::fs::PermissionsExt};

use anyhow::{Result, ensure};
use serde_json::Value;
use strongroom_e2e::{
    installed::{Installed, LIMIT},
    refusal::Refusal,
    world::wait,
};

use crate::{DENIED, NOT_YET};

const TEAM: &str = include_str!("team.yaml");
const POD: &str = include_str!("pod.yaml");
const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: team, namespace: team}, spec: {}}";
const LATE: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {name: late, namespace: team}, spec: \
                    {source: {generate: {fields: [{name: password}]}}, access: [{role: SecretReader, subjects: [{kind: \
                    ServiceAccount, name: api}]}]}}";
const FAILED: i32 = 1;

/// A pod that does not start: what its volume asks for, how `why` ends, and the code and the sentence of the event.
struct Held {
    pod: &'static str,
    attributes: &'static str,
    exit: i32,
    code: &'static str,
    sentence: &'static str,
}

const RINGLESS: Held = Held {
    pod: "api",
    attributes: "secrets: db",
    exit: FAILED,
    code: "NotFound",
    sentence: "there is no KeyRing in namespace team; the platform makes it",
};

/// Those that start by themselves when what is missing comes.
const MENDED: [Held; 3] = [
    Held {
        pod: "api",
        attributes: "secrets: db",
        exit: DENIED,
        code: "PermissionDenied",
        sentence: "ServiceAccount team/api has no role SecretReader on ManagedSecret team/db; add it under spec.access",
    },
    Held {
        pod: "early",
        attributes: "secrets: late",
        exit: FAILED,
        code: "NotFound",
        sentence: "there is no ManagedSecret team/late",
    },
    Held {
        pod: "unset",
        attributes: "secrets: stripe",
        exit: NOT_YET,
        code: "FailedPrecondition",
        sentence: "ManagedSecret team/stripe has no value yet; set it with `kubectl strongroom secret set`",
    },
];

/// Those whose author has to write them anew.
const WRONG: [Held; 5] = [
    Held {
        pod: "misspelt",
        attributes: "bundle: misspelt",
        exit: FAILED,
        code: "FailedPrecondition",
        sentence: "ManagedSecret team/open has no field passwd; name one of its fields in the SecretBundle",
    },
    Held {
        pod: "bundleless",
        attributes: "bundle: nowhere",
        exit: FAILED,
        code: "NotFound",
        sentence: "there is no SecretBundle team/nowhere",
    },
    Held {
        pod: "forged",
        attributes: "secrets: db, csi.storage.k8s.io/serviceAccount.tokens: '{}'",
        exit: FAILED,
        code: "InvalidArgument",
        sentence: "attribute \"csi.storage.k8s.io/serviceAccount.tokens\" in the pod's volume is for kubelet alone to write: \
                   remove it",
    },
    Held {
        pod: "foreign",
        attributes: "secrets: db, namespace: strongroom-system",
        exit: FAILED,
        code: "InvalidArgument",
        sentence: "unknown attribute \"namespace\" in the pod's volume: `bundle`, `secrets` and `optional` are known",
    },
    Held {
        pod: "nameless",
        attributes: "secrets: other/db",
        exit: FAILED,
        code: "InvalidArgument",
        sentence: "volumeAttributes in the pod's volume need either `bundle`, the name of a SecretBundle of the pod's namespace, \
                   or `secrets`, 1 to 64 names of ManagedSecrets separated by commas, each once",
    },
];

#[test]
fn an_installation_in_the_cluster_needs_no_address() -> Result<()> {
    let place = Installed::begin("e2e-pods-cli")?;
    an_administrator_gets_a_certificate(&place)?;

    place.kubectl(&["create", "namespace", "team"])?;
    place.apply(TEAM)?;
    RINGLESS.begins(&place)?;
    RINGLESS.is_told(&place)?;
    place.apply(RING)?;
    let others = MENDED[1..].iter().chain(&WRONG);
    others.clone().try_for_each(|held| held.begins(&place))?;
    for held in MENDED.iter().chain(&WRONG) {
        held.is_told(&place)?;
    }
    everything_missing_is_brought(&place)?;
    for held in &MENDED {
        place.wait_for_pod("team", held.pod)?;
        let why = ["why", &format!("pod/{}", held.pod), "-n", "team"];
        place.strongroom(&why)?.ended(0)?;
    }
    for held in &WRONG {
        held.is_told(&place)?;
        place.check_nothing_is_left("team", held.pod)?;
    }

    // Ends when the running pod has it.
    let password = || place.exec("team", "api", "cat /run/secrets/app/db/password");
    let before = password()?;
    let rotate = ["rotate", "msec/db", "-n", "team", "--wait", "--timeout=2m"];
    place.strongroom(&rotate)?.ended(0)?;
    ensure!(password()? != before, "the pod reads what it read");
    Ok(())
}

impl Held {
    fn begins(&self, place: &Installed) -> Result<()> {
        let pod = POD.replace("NAME", self.pod);
        place.apply(&pod.replace("ATTRIBUTES", self.attributes))
    }

    /// The event and the command say the same, word for word, and nothing of the volume is there.
    fn is_told(&self, place: &Installed) -> Result<()> {
        let expected = Refusal::new(self.code, self.sentence);
        wait(LIMIT, &format!("kubelet tells of {}", self.pod), || {
            let events = place.refusals("team", self.pod)?;
            ensure!(events.contains(&expected), "{expected:?}: {events:?}");
            Ok(true)
        })?;
        let why = place.why("team", self.pod)?;
        ensure!(
            why == (self.exit, self.sentence.to_owned()),
            "{}: {why:?}",
            self.pod
        );
        place.check_nothing_is_left("team", self.pod)
    }
}

fn an_administrator_gets_a_certificate(place: &Installed) -> Result<()> {
    let without = place.strongroom(&["clock", "confirm"])?;
    without.ended(2)?;
    without.says("get one with `kubectl strongroom admin-certificate`")?;
    place.strongroom(&["admin-certificate"])?.ended(0)?;
    let key = place
        .home()
        .join(".config/strongroom/administrator-key.pem");
    let mode = fs::metadata(key)?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "{mode:o}");
    wait(LIMIT, "everything holds", || {
        let answer = place.strongroom(&["status", "-o", "json"])?;
        answer.ended(0)?;
        let json: Value = serde_json::from_str(&answer.out)?;
        let workloads = json["cluster"]["workloads"].as_array().map(Vec::len);
        ensure!(workloads == Some(3), "{json}");
        let instance = &json["cluster"]["keyService"]["instanceID"];
        ensure!(json["instanceID"] == *instance, "{json}");
        Ok(true)
    })
}

/// The role, the secret and the value.
fn everything_missing_is_brought(place: &Installed) -> Result<()> {
    let access = r#"{"spec": {"access": [{"role": "SecretReader", "subjects": [{"kind": "ServiceAccount", "name": "api"}]}]}}"#;
    place.within(
        "team",
        &["patch", "msec", "db", "--type=merge", "-p", access],
    )?;
    place.apply(LATE)?;
    let file = "--from-file=key=/etc/hostname";
    let set = ["secret", "set", "stripe", "-n", "team", file];
    place.strongroom(&set)?.ended(0)
}
