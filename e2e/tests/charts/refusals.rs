//! What the chart does not install, and the sentence that says so.

use anyhow::Result;
use strongroom_hack::charts::Chart;

use crate::objects::{NAMESPACE, NEWEST};

fn check(arguments: &[&str], sentence: &str) {
    let refused = Chart::Strongroom.render(NAMESPACE, NEWEST, arguments);
    let Err(error) = refused else {
        panic!("{arguments:?} renders");
    };
    let error = format!("{error:#}");
    assert!(error.contains(sentence), "{arguments:?}: {error}");
}

fn check_value(value: &str, sentence: &str) {
    check(&["--set", value], sentence);
}

#[test]
fn unknown_values_are_refused_by_name_on_every_level() {
    for value in [
        "replicas=1",
        "image.name=x",
        "cluster.issuer=x",
        "administrators[0].user=x",
        "keyService.port=1",
        "keyService.persistence.class=x",
        "keyService.resources.claims=x",
        "keyService.tolerations[0].operand=x",
        "hsm.pin=1234",
        "operator.leader=x",
        "csiDriver.name=x",
        "image.pullSecrets[0].token=x",
    ] {
        let name = value.split('=').next().unwrap_or(value);
        let name = name.rsplit('.').next().unwrap_or(name);
        check_value(value, &format!("'{name}' not allowed"));
    }
    let crds = Chart::Crds.render(NAMESPACE, NEWEST, &["--set", "keep=false"]);
    let refused = format!("{:#}", crds.expect_err("it has no values"));
    assert!(refused.contains("'keep' not allowed"), "{refused}");
}

#[test]
fn values_that_cannot_be_are_refused_by_name() {
    for (value, place) in [
        ("profile=Test", "/profile"),
        ("administrators=null", "administrators"),
        ("access[0].ring=abc", "/access/0/ring"),
        ("cluster.name=Main", "/cluster/name"),
        ("cluster.audience=", "/cluster/audience"),
        ("keyService.mode=Both", "/keyService/mode"),
        ("keyService.caSha256=abc", "/keyService/caSha256"),
        ("keyService.caBundle=abc", "/keyService/caBundle"),
        (
            "keyService.endpoints={https://a:1}",
            "/keyService/endpoints",
        ),
        (
            "keyService.persistence.size=0Gi",
            "/keyService/persistence/size",
        ),
        (
            "keyService.persistence.size=500Mi",
            "/keyService/persistence/size",
        ),
        ("hsm.type=Paper", "/hsm/type"),
        ("operator.replicas=0", "/operator/replicas"),
        ("csiDriver.namespace=a/b", "/csiDriver/namespace"),
        ("csiDriver.kubeletDir=var/lib", "/csiDriver/kubeletDir"),
        ("csiDriver.tokenSource=Both", "/csiDriver/tokenSource"),
        ("csiDriver.withoutNoswap=Warn", "/csiDriver/withoutNoswap"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
    ] {
        check_value(value, place);
    }
    check(&["--set-json", "administrators=[]"], "/administrators");
}

#[test]
fn production_is_refused_until_there_are_backup_and_recovery() {
    check_value("profile=Production", "a destination for backups");
}

#[test]
fn driver_does_not_share_a_namespace() {
    check_value(
        &format!("csiDriver.namespace={NAMESPACE}"),
        "the privileged CSI driver needs a namespace of its own",
    );
}

#[test]
fn key_service_outside_is_named_and_pinned() {
    let external = "keyService.mode=External";
    check_value(external, "needs keyService.endpoints");
    let named = format!("{external},keyService.endpoints={{192.0.2.1:8445}}");
    check_value(&named, "either keyService.caBundle or keyService.caSha256");
    let digest = "0123456789abcdef".repeat(4);
    let both = format!("{named},keyService.caSha256={digest}");
    check(
        &[
            "--set",
            &both,
            "--set",
            "keyService.caBundle=-----BEGIN CERTIFICATE-----",
        ],
        "either keyService.caBundle or keyService.caSha256",
    );
    check_value(
        &format!("keyService.caSha256={digest}"),
        "for keyService.mode External",
    );
}

#[test]
fn clusters_that_are_too_old_are_refused() -> Result<()> {
    Chart::Strongroom.render(NAMESPACE, "1.32.2", &[])?;
    let refused = Chart::Strongroom.render(NAMESPACE, "1.31.9", &[]);
    let refused = format!("{:#}", refused.expect_err("1.31 is not supported"));
    assert!(refused.contains("kubeVersion"), "{refused}");
    Ok(())
}
