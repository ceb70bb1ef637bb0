//! The harness itself: the stories trust that a cluster is real, alone, and gone afterwards.

use std::process::Command;

use anyhow::Result;
use strongroom_hack::cluster::{self, Health, Layout, Name, Options, Release, ScopedCluster};

fn named(name: &str) -> Options {
    Options::new(name.parse().expect("a valid name"))
}

fn stored_secret(cluster: &ScopedCluster, name: &str) -> Result<Vec<u8>> {
    let key = format!("/registry/secrets/default/{name}");
    Ok(cluster.etcd_get(&key)?.expect("the secret is stored").value)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[test]
fn two_clusters_run_side_by_side_and_leave_nothing_behind() -> Result<()> {
    let (first, second): (Name, Name) = ("e2e-first".parse()?, "e2e-second".parse()?);
    {
        let newest = ScopedCluster::up(Options::new(first.clone()))?;
        let oldest = ScopedCluster::up(Options {
            kubernetes: Release::Oldest,
            ..Options::new(second.clone())
        })?;
        for (cluster, value) in [(&newest, "plain-one"), (&oldest, "plain-two")] {
            let literal = format!("--from-literal=password={value}");
            cluster.kubectl(&["create", "secret", "generic", "one", &literal])?;
            let bytes = stored_secret(cluster, "one")?;
            assert!(bytes.starts_with(b"k8s\0"), "a Secret is stored as it is");
            assert!(contains(&bytes, value));
        }
        assert!(
            newest
                .get("/version")?
                .contains(&Release::Newest.module().version()?)
        );
        assert!(
            oldest
                .get("/version")?
                .contains(&Release::Oldest.module().version()?)
        );
    }
    for name in [first, second] {
        assert!(!Layout::new(&name).root().exists());
        assert!(!cluster::names()?.contains(&name));
    }
    Ok(())
}

#[test]
fn restarted_api_server_is_another_process_with_the_same_data() -> Result<()> {
    let cluster = ScopedCluster::up(named("e2e-restart"))?;
    cluster.kubectl(&["create", "secret", "generic", "kept"])?;
    let process = || {
        cluster
            .layout()
            .process("kube-apiserver")
            .map(|p| p.expect("it runs"))
    };
    let before = process()?;
    cluster.restart_api_server(Health::Ready)?;
    assert_ne!(process()?, before);
    assert!(!before.is_alive());
    cluster.kubectl(&["get", "secret", "kept"])?;
    Ok(())
}

#[test]
fn nothing_inside_reaches_the_outside() -> Result<()> {
    let cluster = ScopedCluster::up(named("e2e-alone"))?;
    let routes = cluster
        .namespace()
        .client_command("ip")
        .args(["route", "show", "default"])
        .output()?;
    assert!(routes.status.success());
    assert_eq!(String::from_utf8(routes.stdout)?, "");
    let outside = Command::new("ip")
        .args(["link", "show", "cluster0"])
        .output()?;
    assert!(!outside.status.success(), "the bridge is not the machine's");
    Ok(())
}

#[test]
fn start_that_fails_names_the_log_and_ends_its_processes() -> Result<()> {
    let options = Options {
        encryption: "kind: Nonsense\n".to_owned(),
        ..named("e2e-refused")
    };
    let name = options.name.clone();
    let error = ScopedCluster::up(options).expect_err("the configuration is nonsense");
    let layout = Layout::new(&name);
    let text = format!("{error:#}");
    assert!(
        text.contains(&layout.log("kube-apiserver").display().to_string()),
        "{text}"
    );
    assert!(text.contains("'apiVersion' is missing"), "{text}");
    for member in ["etcd", "kube-apiserver", "namespace"] {
        assert_eq!(layout.process(member)?, None, "{member}");
    }
    cluster::down(&name)
}

#[test]
fn bytes_put_into_etcd_are_read_back_unchanged() -> Result<()> {
    let cluster = ScopedCluster::up(named("e2e-bytes"))?;
    let value: Vec<u8> = (0..=255).chain([b'\n', 0]).collect();
    cluster.etcd_put("/strongroom-test/bytes", &value)?;
    let entries = cluster.etcd_list("/strongroom-test/")?;
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].key, b"/strongroom-test/bytes");
    assert_eq!(entries[0].value, value);
    assert_eq!(cluster.etcd_get("/strongroom-test/absent")?, None);
    Ok(())
}

#[test]
fn requests_are_in_the_audit_log_of_the_api_server_without_values() -> Result<()> {
    let cluster = ScopedCluster::up(named("e2e-audit"))?;
    let literal = "--from-literal=password=canary-in-the-coal-mine";
    cluster.kubectl(&["create", "secret", "generic", "logged", literal])?;
    let log = std::fs::read_to_string(cluster.layout().audit_log())?;
    assert!(log.contains("/api/v1/namespaces/default/secrets"));
    assert!(log.contains(r#""name":"logged""#));
    let canary = "canary-in-the-coal-mine";
    assert!(!contains(log.as_bytes(), canary));
    Ok(())
}
