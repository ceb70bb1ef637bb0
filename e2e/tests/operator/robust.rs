//! What goes wrong with one kind of objects stays with it.

use anyhow::{Result, ensure};
use strongroom_e2e::{
    operated::{LIMIT, Operated},
    world::wait,
};

const RING: &str = "{apiVersion: strongroom.dev/v1alpha1, kind: KeyRing, metadata: {name: payments, namespace: payments}, spec: {}}";

fn secret(name: &str) -> String {
    format!(
        "{{apiVersion: strongroom.dev/v1alpha1, kind: ManagedSecret, metadata: {{name: {name}, namespace: payments}}, \
         spec: {{source: {{generate: {{fields: [{{name: password}}]}}}}}}}}"
    )
}

fn gets_on(story: &Operated, name: &str) -> Result<()> {
    story.apply(&secret(name))?;
    story.wait_ready("managedsecret", name)?;
    ensure!(story.probe("operator-a", "/healthz")?.status == 200);
    Ok(())
}

#[test]
fn broken_watches_hold_up_no_other_kind() -> Result<()> {
    let mut story = Operated::begin("operator-robust", 29470, 0)?;
    story.start("operator-a")?;
    story.apply(RING)?;
    gets_on(&story, "first")?;

    // Every connection at once, several times.
    for number in 0..3 {
        story.forward("operator-a")?.drop_connections();
        gets_on(&story, &format!("dropped-{number}"))?;
    }

    // The rights on one kind.
    let rules = ["get", "clusterrole", "strongroom-operator", "-o", "json"];
    let mut role: serde_json::Value = serde_json::from_str(&story.cluster.kubectl(&rules)?)?;
    let kinds = role["rules"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(|rule| rule["resources"].as_array_mut());
    for resources in kinds {
        resources.retain(|resource| resource != "cryptokeys");
    }
    role["metadata"] = serde_json::json!({"name": "strongroom-operator"});
    story
        .cluster
        .kubectl_with_input(&["replace", "-f", "-"], &role.to_string())?;
    story.forward("operator-a")?.drop_connections();
    let errors = || {
        story.metric(
            "operator-a",
            "strongroom_operator_watch_errors_total",
            "CryptoKey",
        )
    };
    let before = errors()?;
    wait(LIMIT, "the watch of keys fails", || {
        Ok(errors()? > before + 2.0)
    })?;
    gets_on(&story, "revoked")?;

    // The definition of another.
    story.cluster.kubectl(&[
        "delete",
        "crd",
        "secretbundles.strongroom.dev",
        "--timeout=60s",
    ])?;
    story.forward("operator-a")?.drop_connections();
    let errors = || {
        story.metric(
            "operator-a",
            "strongroom_operator_watch_errors_total",
            "SecretBundle",
        )
    };
    let before = errors()?;
    wait(LIMIT, "the watch of bundles fails", || {
        Ok(errors()? > before + 2.0)
    })?;
    gets_on(&story, "deleted")?;
    story.end()
}
