//! What the API server refuses by itself: for each rule an object that it takes and one that it does not, when it is made and
//! when it is changed.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use strongroom_e2e::operated::apply_definitions;
use strongroom_hack::cluster::{Options, Release, ScopedCluster};

/// One rule. Patches are JSON merge patches of a base object.
struct Rule {
    kind: &'static str,
    /// Makes the base another object that is accepted.
    good: Value,
    /// Makes it one that is refused.
    bad: Value,
    /// What the refusal says.
    says: &'static str,
    /// Whether only a change can break it.
    of_changes: bool,
}

fn base(kind: &str) -> Value {
    let spec = match kind {
        "CryptoKey" => json!({"keyRingRef": {"name": "one"}, "purpose": "EncryptDecrypt"}),
        "ManagedSecret" => json!({
            "keyRingRef": {"name": "one"},
            "source": {"generate": {"fields": [{"name": "password", "length": 32}]}},
        }),
        "SecretRotation" => json!({"secretRef": {"name": "db"}, "reason": "INC-1"}),
        "SecretBundle" => json!({
            "keyRingRef": {"name": "one"},
            "files": [{"path": "a", "from": {"secret": "db", "field": "password"}}],
        }),
        _ => json!({}),
    };
    let mut object = json!({
        "apiVersion": "strongroom.dev/v1alpha1", "kind": kind,
        "metadata": {"name": "base", "namespace": "default"}, "spec": spec,
    });
    if kind == "KeyService" {
        object = json!({
            "apiVersion": "strongroom.dev/v1alpha1", "kind": kind, "metadata": {"name": "default"},
        });
    }
    object
}

fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

fn spec(spec: Value) -> Value {
    json!({ "spec": spec })
}

fn subjects(count: usize) -> Value {
    let subject = |number| json!({"kind": "ServiceAccount", "name": format!("a{number}")});
    (0..count).map(subject).collect()
}

fn access(role: &str, counts: &[usize]) -> Value {
    let rule = |count: &usize| json!({"role": role, "subjects": subjects(*count)});
    let rules: Value = counts.iter().map(rule).collect();
    spec(json!({ "access": rules }))
}

fn file(file: Value) -> Value {
    spec(json!({"files": [file]}))
}

fn rules() -> Vec<Rule> {
    let rule = |kind, good, bad, says| Rule {
        kind,
        good,
        bad,
        says,
        of_changes: false,
    };
    let mut rules = Vec::new();
    for (kind, role) in [
        ("KeyRing", "SecretReader"),
        ("CryptoKey", "KeyDecrypter"),
        ("ManagedSecret", "SecretReader"),
    ] {
        rules.push(rule(
            kind,
            access(role, &[32, 32]),
            access(role, &[32, 33]),
            "access: at most 64 subjects in all",
        ));
    }
    for kind in ["CryptoKey", "ManagedSecret"] {
        rules.push(rule(
            kind,
            spec(json!({"rotation": {"period": "1h"}})),
            spec(json!({"rotation": {"period": "59m"}})),
            "period: 1h to 87600h",
        ));
        let window = |duration: &str| {
            let window = json!({"cron": "0 3 * * 1-5", "duration": duration});
            spec(json!({"rotation": {"period": "720h", "window": window}}))
        };
        rules.push(rule(
            kind,
            window("10m"),
            window("9m"),
            "duration: 10m to 168h",
        ));
    }
    let window = json!({"cron": "0 3 * * *", "duration": "1h"});
    rules.push(rule(
        "CryptoKey",
        spec(json!({"rotation": {"requestID": "now"}})),
        spec(json!({"rotation": {"window": window}})),
        "a window needs a period",
    ));
    for kind in ["CryptoKey", "ManagedSecret", "SecretBundle"] {
        rules.push(Rule {
            of_changes: true,
            ..rule(
                kind,
                json!({"metadata": {"labels": {"a": "b"}}}),
                spec(json!({"keyRingRef": {"name": "two"}})),
                "keyRingRef cannot be changed",
            )
        });
    }
    rules.extend(rules_of_secrets());
    rules.extend(rules_of_bundles());
    rules.push(Rule {
        of_changes: true,
        ..rule(
            "SecretRotation",
            json!({"metadata": {"labels": {"a": "b"}}}),
            spec(json!({"reason": "INC-2"})),
            "a SecretRotation cannot be changed",
        )
    });
    rules
}

fn rules_of_secrets() -> Vec<Rule> {
    let source = |source: Value| spec(json!({ "source": source }));
    let field = |field: Value| source(json!({"generate": {"fields": [field]}}));
    let rule = |good, bad, says| Rule {
        kind: "ManagedSecret",
        good,
        bad,
        says,
        of_changes: false,
    };
    vec![
        rule(
            spec(json!({"source": {"generate": null, "manual": {"fields": ["key"]}}})),
            spec(json!({"source": {"manual": {"fields": ["key"]}}})),
            "exactly one of generate and manual",
        ),
        rule(
            field(json!({"name": "password", "length": 32, "alphabet": "Hex"})),
            field(json!({"name": "password", "length": 32, "value": "x"})),
            "a field has either a value, or length and alphabet",
        ),
        rule(
            spec(json!({"rotation": {"period": "720h"}})),
            spec(json!({
                "source": {"generate": null, "manual": {"fields": ["key"]}},
                "rotation": {"period": "720h"},
            })),
            "only a generated secret is rotated",
        ),
        Rule {
            of_changes: true,
            ..rule(
                json!({"metadata": {"labels": {"a": "b"}}}),
                field(json!({"name": "other"})),
                "source cannot be changed",
            )
        },
    ]
}

fn rules_of_bundles() -> Vec<Rule> {
    let from = json!({"secret": "db", "field": "password"});
    let template = json!({"secrets": ["db"], "text": "{{ db.password }}"});
    let rule = |good, bad, says| Rule {
        kind: "SecretBundle",
        good,
        bad,
        says,
        of_changes: false,
    };
    let two = |other: &str| {
        let files = [
            json!({"path": "a", "from": from}),
            json!({"path": other, "from": from}),
        ];
        spec(json!({ "files": files }))
    };
    vec![
        rule(
            file(json!({"path": "a", "template": template})),
            file(json!({"path": "a", "template": template, "from": from})),
            "exactly one of from and template",
        ),
        rule(
            file(json!({"path": "a", "from": from, "optional": true})),
            file(json!({"path": "a", "template": template, "optional": true})),
            "optional: only with from",
        ),
        rule(two("ab/c"), two("a/c"), "is a folder of another's"),
        rule(
            file(json!({"path": "a/b/c/d/e/f/g/.h", "from": from})),
            file(json!({"path": "a/../b", "from": from})),
            "spec.files[0].path",
        ),
        rule(
            file(json!({"path": "a", "from": from, "mode": "0400"})),
            file(json!({"path": "a", "from": from, "mode": "4755"})),
            "spec.files[0].mode",
        ),
    ]
}

struct Server(ScopedCluster);

impl Server {
    /// What the API server says to an object that is made; nothing when it takes it.
    fn made(&self, object: &Value) -> Option<String> {
        let words = ["create", "--dry-run=server", "--validate=strict", "-f", "-"];
        let answer = self.0.kubectl_with_input(&words, &object.to_string());
        answer.err().map(|error| format!("{error:#}"))
    }

    /// What it says to a change.
    fn changed(&self, object: &Value, patch: &Value) -> Option<String> {
        let target = format!("{}/base", object["kind"].as_str().unwrap_or_default());
        let patch = patch.to_string();
        let words = [
            "patch",
            &target,
            "--dry-run=server",
            "--type=merge",
            "-p",
            &patch,
        ];
        self.0
            .kubectl(&words)
            .err()
            .map(|error| format!("{error:#}"))
    }
}

fn ensure_refused(said: Option<String>, says: &str) -> Result<()> {
    let said = said.with_context(|| format!("not refused: {says}"))?;
    ensure!(said.contains(says), "expected {says:?}: {said}");
    Ok(())
}

#[test]
fn each_rule_takes_one_object_and_refuses_another() -> Result<()> {
    for kubernetes in [Release::Newest, Release::Oldest] {
        let mut options = Options::new("e2e-operator-rules".parse()?);
        options.kubernetes = kubernetes;
        let cluster = ScopedCluster::up(options)?;
        apply_definitions(&cluster)?;
        let server = Server(cluster);
        check_rules(&server).with_context(|| format!("{kubernetes:?}"))?;
        check_names(&server).with_context(|| format!("{kubernetes:?}"))?;
    }
    Ok(())
}

fn check_rules(server: &Server) -> Result<()> {
    for kind in [
        "KeyRing",
        "CryptoKey",
        "ManagedSecret",
        "SecretRotation",
        "SecretBundle",
    ] {
        let words = ["create", "--validate=strict", "-f", "-"];
        server
            .0
            .kubectl_with_input(&words, &base(kind).to_string())?;
    }
    for rule in rules() {
        let Rule {
            kind,
            good,
            bad,
            says,
            of_changes,
        } = rule;
        let context = || format!("{kind}: {says}");
        let with = |patch: &Value| {
            let mut object = base(kind);
            merge(&mut object, patch);
            object["metadata"]["name"] = json!("other");
            object
        };
        let made = server.made(&with(&good));
        ensure!(made.is_none(), "{}: {made:?}", context());
        if of_changes {
            let made = server.made(&with(&bad));
            ensure!(made.is_none(), "{}: {made:?}", context());
        } else {
            ensure_refused(server.made(&with(&bad)), says).with_context(context)?;
        }
        ensure_refused(server.changed(&base(kind), &bad), says).with_context(context)?;
        // What an object's source is cannot be changed to anything, good or bad.
        if good["spec"]["source"].is_null() {
            let changed = server.changed(&base(kind), &good);
            ensure!(changed.is_none(), "{}: {changed:?}", context());
        }
    }
    Ok(())
}

/// Names cannot be changed, so only making counts.
fn check_names(server: &Server) -> Result<()> {
    for kind in ["KeyRing", "CryptoKey", "ManagedSecret", "SecretBundle"] {
        for (name, is_accepted) in [("a-1", true), ("a.b", false), (&*"a".repeat(64), false)] {
            let mut object = base(kind);
            object["metadata"]["name"] = json!(name);
            let said = server.made(&object);
            if is_accepted {
                ensure!(said.is_none(), "{kind} {name}: {said:?}");
            } else {
                ensure_refused(said, "a DNS label, at most 63 characters")?;
            }
        }
    }
    ensure!(server.made(&base("KeyService")).is_none());
    let mut other = base("KeyService");
    other["metadata"]["name"] = json!("other");
    ensure_refused(
        server.made(&other),
        "there is one KeyService, called default",
    )
}
