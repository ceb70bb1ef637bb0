//! Plans as they are decided, from nodes as they can be.

use std::path::{Path, PathBuf};

use clap::Parser;
use expect_test::{expect, expect_file};

use super::{
    accounts::{group_line, user_line},
    api_server::ApiServer,
    host::{Host, Kind, Seen},
    instance::Identity,
    join::Join,
    layout::{ADMINISTRATOR, Content, ENCRYPTION, Layout, PLUGIN_CONFIG},
    plan::{Plan, Refusal, State, Step},
    report::Report,
    settings::Settings,
    template::marked,
};
use crate::args::{Args, BootstrapArgs, Command};

fn args(more: &[&str]) -> BootstrapArgs {
    let fixed = [
        "kubectl-strongroom",
        "bootstrap",
        "--address=192.0.2.10",
        "--image-tag=1.2.3",
    ];
    match Args::parse_from(fixed.iter().chain(more)).command {
        Command::Bootstrap(args) => args,
        _ => unreachable!("bootstrap was asked for"),
    }
}

fn settings(more: &[&str]) -> Settings {
    let server = "https://192.0.2.10:6443".to_owned();
    let now = "2026-11-22T05:00:00Z".parse().unwrap();
    Settings::new(&args(more), None, Some(server), now).unwrap()
}

/// A node on which nothing of ours is.
fn empty() -> Host {
    let mut host = Host {
        passwd: "root:x:0:0:root:/root:/bin/sh\n".to_owned(),
        group: "root:x:0:\n".to_owned(),
        has_ca_key: true,
        ..Host::default()
    };
    for path in ["/", "/etc", "/etc/kubernetes/manifests", "/var", "/var/lib"] {
        put(&mut host, path, (0, 0, 0o755), Kind::Folder);
    }
    host
}

fn put(host: &mut Host, path: impl AsRef<Path>, place: (u32, u32, u32), kind: Kind) {
    let (owner, group, mode) = place;
    let seen = Seen {
        owner,
        group,
        mode,
        kind,
    };
    host.paths.insert(path.as_ref().to_owned(), seen);
}

fn put_text(host: &mut Host, path: &str, text: &str) {
    put(host, path, (0, 0, 0o644), Kind::File(text.into()));
}

/// The node after everything in its plan was done.
fn done(settings: &Settings) -> Host {
    let mut host = empty();
    let layout = Layout::new(settings);
    for account in &layout.accounts {
        host.passwd.push_str(&user_line(account));
        host.group.push_str(&group_line(account));
    }
    let entries = layout.entries.iter().chain(&layout.pods);
    for entry in entries.chain(&layout.administrator) {
        let kind = match &entry.content {
            Content::Folder => Kind::Folder,
            Content::Text(text) => Kind::File(text.clone().into()),
            Content::Secret(_) => Kind::File(b"secret".to_vec()),
        };
        put(
            &mut host,
            &entry.path,
            (entry.owner, entry.group, entry.mode),
            kind,
        );
    }
    host.instance = Some(Identity {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        audit_fingerprint: "aa".to_owned(),
    });
    host.kubeconfig_is_good = true;
    host.administrator_is_good = true;
    host
}

fn plan(settings: &Settings, host: &Host) -> Plan {
    Plan::new(settings, &Layout::new(settings), host)
}

/// The work that is left on a node that was set up and then changed.
fn work_after(change: impl FnOnce(&mut Host)) -> Vec<String> {
    let settings = settings(&[]);
    let mut host = done(&settings);
    change(&mut host);
    let plan = plan(&settings, &host);
    assert_eq!(plan.refusals, []);
    plan.work()
        .map(|planned| match &planned.step {
            Step::Put(entry) => format!("{} {}", planned.state, entry.path.display()),
            other => format!("{} {other:?}", planned.state),
        })
        .collect()
}

/// What stands in the way on an empty node that was changed.
fn refusals(more: &[&str], change: impl FnOnce(&mut Host)) -> Vec<Refusal> {
    let mut host = empty();
    change(&mut host);
    plan(&settings(more), &host).refusals
}

#[test]
fn plan_for_an_empty_node_has_everything() {
    let (settings, host) = (settings(&[]), empty());
    let plan = plan(&settings, &host);
    let report = Report::new(&plan, &host, &settings);
    expect_file!["../../tests/data/bootstrap-plan.txt"].assert_eq(&report.plan_text());
    let text = serde_yaml_ng::to_string(&report).unwrap();
    expect_file!["../../tests/data/bootstrap-plan.yaml"].assert_eq(&text);
}

#[test]
fn node_that_is_set_up_is_left_alone() {
    assert_eq!(work_after(|_| ()), Vec::<String>::new());
}

#[test]
fn only_what_differs_is_changed() {
    let work = work_after(|host| {
        host.paths.remove(Path::new("/etc/strongroom/cli.yaml"));
        let state = host.paths.get_mut(Path::new("/var/lib/strongroom/audit"));
        state.unwrap().mode = 0o755;
        put_text(host, ENCRYPTION, &marked("kind: EncryptionConfiguration\n"));
        host.administrator_is_good = false;
    });
    assert_eq!(
        work,
        [
            "changed /var/lib/strongroom/audit",
            "new /etc/strongroom/cli.yaml",
            "changed /etc/strongroom/apiserver/encryption.yaml",
            "changed /etc/strongroom/administrator/key.pem",
            "changed /etc/strongroom/administrator/certificate.pem",
            "changed /etc/strongroom/administrator/ca.pem",
        ]
    );
}

#[test]
fn pod_that_an_interrupted_run_left_is_removed() {
    let work = work_after(|host| {
        let path = "/etc/kubernetes/manifests/strongroom-init.yaml";
        put_text(host, path, &marked("kind: Pod\n"));
    });
    assert_eq!(
        work,
        [r#"changed Remove("/etc/kubernetes/manifests/strongroom-init.yaml")"#]
    );
}

#[test]
fn file_that_was_edited_stays_unless_told_otherwise() {
    let path = "/etc/strongroom/key-service/config.yaml";
    let edited = |more: &[&str]| {
        let settings = settings(more);
        let mut host = done(&settings);
        let text = host.text(path).unwrap().to_owned();
        put_text(&mut host, path, &format!("{text}access: []\n"));
        let plan = plan(&settings, &host);
        assert_eq!(plan.refusals, []);
        let of = |planned: &&super::plan::Planned| matches!(&planned.step, Step::Put(entry) if entry.path == Path::new(path));
        let state = plan.steps.iter().find(of).unwrap().state;
        let sum = Report::new(&plan, &host, &settings).plan_text();
        assert_eq!(
            sum.ends_with(", 1 edited by hand and left alone.\n"),
            state == State::Edited,
            "{sum}"
        );
        state
    };
    assert_eq!(edited(&[]), State::Edited);
    assert_eq!(edited(&["--overwrite"]), State::Changed);
}

#[test]
fn what_stands_in_the_way_is_named() {
    let unsafe_path = |path: &str, why| Refusal::Unsafe {
        path: path.into(),
        why,
    };
    let cases: Vec<(Vec<Refusal>, Refusal)> = vec![
        (refusals(&[], |host| host.euid = 1000), Refusal::NotRoot),
        (
            refusals(&[], |host| {
                host.passwd.push_str("alice:x:2001:100::/:/bin/sh\n")
            }),
            Refusal::IdTaken {
                id: 2001,
                by: "alice".to_owned(),
            },
        ),
        (
            refusals(&[], |host| {
                host.group.push_str("strongroom-kms-plugin:x:999:\n")
            }),
            Refusal::NameTaken {
                name: "strongroom-kms-plugin",
                id: "999".to_owned(),
            },
        ),
        (
            refusals(&["--manifests=/etc/other"], |_| ()),
            Refusal::NoManifests("/etc/other".into()),
        ),
        (
            refusals(&[], |host| {
                put(host, "/etc", (1000, 0, 0o755), Kind::Folder)
            }),
            unsafe_path("/etc", "belongs to another user"),
        ),
        (
            refusals(&[], |host| {
                put(host, "/var/lib/strongroom", (0, 0, 0o775), Kind::Folder);
            }),
            unsafe_path(
                "/var/lib/strongroom",
                "can be written by others than its owner",
            ),
        ),
        (
            refusals(&[], |host| {
                put(host, "/var/lib/strongroom/audit", (0, 0, 0o777), Kind::Link);
            }),
            unsafe_path("/var/lib/strongroom/audit", "is a symbolic link"),
        ),
        (
            refusals(&[], |host| {
                put_text(host, ENCRYPTION, "kind: EncryptionConfiguration\n")
            }),
            Refusal::Foreign(ENCRYPTION.into()),
        ),
        (
            refusals(&[], |host| {
                let providers = "resources:\n- providers:\n  - identity: {}\n";
                put_text(host, ENCRYPTION, &marked(providers));
            }),
            Refusal::IdentityFirst,
        ),
        (
            refusals(&[], |host| {
                let remote = "keyService: {endpoints: ['192.0.2.1:8444']}\n";
                put_text(host, PLUGIN_CONFIG, &marked(remote));
            }),
            Refusal::SecondKeyService,
        ),
        (
            refusals(&[], |host| {
                let path = format!("{ADMINISTRATOR}/ca.pem");
                put(host, path, (0, 0, 0o600), Kind::File(b"x".to_vec()));
            }),
            Refusal::InstanceLost,
        ),
        (
            refusals(&[], |host| host.api_server = Some(encrypting(ENCRYPTION))),
            Refusal::InstanceElsewhere,
        ),
        (
            refusals(&[], |host| {
                host.api_server = Some(encrypting("/etc/other.yaml"))
            }),
            Refusal::ForeignEncryption("/etc/other.yaml".into()),
        ),
        (
            refusals(&[], |host| {
                host.api_server = Some(ApiServer {
                    version: Some("v1.31.9".to_owned()),
                    ..ApiServer::default()
                });
            }),
            Refusal::TooOld("v1.31.9".to_owned()),
        ),
        (
            refusals(&[], |host| host.has_ca_key = false),
            Refusal::NoCaKey("/etc/kubernetes/pki/ca.key".into()),
        ),
        (
            refusals(&[], |host| host.taken_ports = vec![8080]),
            Refusal::PortTaken(8080),
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, [expected]);
    }
    assert_eq!(refusals(&[], |_| ()), []);
}

fn encrypting(path: &str) -> ApiServer {
    ApiServer {
        encryption: Some(PathBuf::from(path)),
        ..ApiServer::default()
    }
}

#[test]
fn no_kubeconfig_needs_no_authority() {
    let found = refusals(&["--no-kubeconfig"], |host| host.has_ca_key = false);
    assert_eq!(found, []);
    let layout = Layout::new(&settings(&["--no-kubeconfig"]));
    assert!(layout.paths().all(|path| !path.ends_with("kubeconfig")));
}

/// A node that joins the key service of another.
fn joining() -> Settings {
    let mut settings = settings(&["--no-kubeconfig"]);
    settings.join = Some(Join {
        file: PathBuf::from("/root/enrolment-cp-2.yaml"),
        endpoints: vec!["192.0.2.10:8444".to_owned()],
        root_sha256: "0123456789abcdef".repeat(4),
    });
    settings
}

#[test]
fn plan_for_a_joining_node_has_the_plugin_alone() {
    let settings = joining();
    let host = empty();
    let plan = plan(&settings, &host);
    let report = Report::new(&plan, &host, &settings);
    expect_file!["../../tests/data/bootstrap-join.txt"].assert_eq(&report.plan_text());
    let text = serde_yaml_ng::to_string(&report).unwrap();
    expect_file!["../../tests/data/bootstrap-join.yaml"].assert_eq(&text);
}

/// What is left to do for an API server whose init container has some image.
fn left_to_do(waits_with: Option<&str>) -> String {
    let settings = settings(&[]);
    let host = Host {
        api_server: Some(ApiServer {
            encryption: Some(ENCRYPTION.into()),
            reloads: true,
            folders: vec!["/etc/strongroom".into(), "/var/lib/strongroom".into()],
            waits_with: waits_with.map(str::to_owned),
            ..ApiServer::default()
        }),
        ..done(&settings)
    };
    Report::new(&plan(&settings, &host), &host, &settings).end_text()
}

#[test]
fn api_server_that_does_not_wait_is_shown_how() {
    let done = left_to_do(Some("strongroom.dev/kms-plugin:1.2.3"));
    assert!(
        done.ends_with("has its flags, its folders and its init container.\n"),
        "{done}"
    );
    let missing = left_to_do(None);
    assert!(
        missing.contains("without it a plugin that comes late"),
        "{missing}"
    );
    assert!(
        missing.contains("    image: strongroom.dev/kms-plugin:1.2.3\n"),
        "{missing}"
    );
    let older = left_to_do(Some("strongroom.dev/kms-plugin:1.2.2"));
    assert!(
        older.contains("instead of the one with strongroom.dev/kms-plugin:1.2.2"),
        "{older}"
    );
}

#[test]
fn all_that_the_api_server_lacks_is_listed() {
    let settings = settings(&[]);
    let host = done(&settings);
    let text = Report::new(&plan(&settings, &host), &host, &settings).end_text();
    let left: Vec<&str> = text.lines().map(str::trim).collect();
    for line in [
        "flag    --encryption-provider-config=/etc/strongroom/apiserver/encryption.yaml",
        "flag    --encryption-provider-config-automatic-reload=true",
        "folder  /etc/strongroom/apiserver, as a hostPath of type Directory at the same path",
        "folder  /var/lib/strongroom/sockets/apiserver, as a hostPath of type Directory at the same path",
    ] {
        assert!(left.contains(&line), "{line} is not in\n{text}");
    }
}

#[test]
fn node_joins_once_and_never_where_the_key_service_is() {
    let settings = joining();
    let mut host = done(&settings);
    host.instance = None;
    host.is_enrolled = true;
    assert_eq!(plan(&settings, &host).work().count(), 0);
    host.is_enrolled = false;
    assert_eq!(plan(&settings, &host).work().count(), 1);
    host.instance = done(&settings).instance;
    assert_eq!(plan(&settings, &host).refusals, [Refusal::HasKeyService]);
}

/// Owners and modes of everything, so that a change of one is seen in a review.
#[test]
fn no_secret_can_be_read_by_the_world() {
    let layout = Layout::new(&settings(&[]));
    let entries = layout.entries.iter().chain(&layout.pods);
    for entry in entries
        .chain(&layout.administrator)
        .chain([&layout.once.pod])
    {
        let shown = entry.path.display();
        assert_eq!(entry.mode & 0o022, 0, "{shown} can be written by others");
        if let Content::Secret(_) = entry.content {
            assert_eq!(entry.mode & 0o077, 0, "{shown} can be read by others");
        }
        if entry.owner != 0 {
            assert_eq!(entry.mode & 0o007, 0, "{shown} is open to the world");
        }
    }
}

#[test]
fn user_ids_and_ports_must_differ() {
    let error = |more: &[&str]| {
        let now = "2026-11-22T05:00:00Z".parse().unwrap();
        let server = Some("https://192.0.2.10:6443".to_owned());
        let settings = Settings::new(&args(more), None, server, now);
        settings.map(drop).unwrap_err().to_string()
    };
    for more in [
        "--key-service-uid=2003",
        "--kms-plugin-uid=0",
        "--hsm-agent-uid=65534",
    ] {
        expect!["user ids are three different numbers, and neither 0 nor 65534"]
            .assert_eq(&error(&[more]));
    }
    for more in [
        ["--probes-port=65534"],
        ["--port=8082"],
        ["--plugins-port=8443"],
        ["--plugins-port=8445"],
        ["--workloads-port=8443"],
    ] {
        expect!["the three ports from --probes-port on, --port, --workloads-port and --plugins-port must be six different ones"]
            .assert_eq(&error(&more));
    }
}
