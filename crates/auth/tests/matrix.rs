//! Prints caller × action × resource from the policy of a small installation and compares it with `matrix.txt`.
//!
//! A change of `matrix.txt` is a change of who may do what: `UPDATE_EXPECT=1 cargo test -p strongroom-auth` writes it.

use std::{fmt::Write, sync::Arc};

use expect_test::expect_file;
use strongroom_auth::{Binding, Policy, Role};
use strongroom_core::{
    Access, AccessBinding, AccessRole, ActionKind, Caller, CertificateIdentity, Decide, Decision,
    Job, KeyId, NodeCredential, NodeIdentity, NodeRole, ObjectId, PodIdentity, Question, Resource,
    RingId, RingKind, RingRef, SecretId, ServiceAccount, Tenant,
};

/// The rings of the platform have no owner; the others are those of one namespace in two clusters.
fn ring(number: u8, kind: RingKind, owner: Option<Tenant>) -> RingRef {
    RingRef {
        id: RingId::from_bytes([number; 16]),
        kind,
        access: Arc::new(Access::new(owner, Vec::new()).expect("no bindings")),
    }
}

fn system() -> RingRef {
    ring(0, RingKind::System, None)
}

/// Its record binds the account `api`, to decrypt.
fn bound() -> RingRef {
    RingRef {
        access: access("east", AccessRole::KeyDecrypter),
        ..ring(1, RingKind::Application, None)
    }
}

fn other() -> RingRef {
    ring(2, RingKind::Application, Some(tenant("north")))
}

fn callers() -> [(&'static str, Caller); 22] {
    let identity = NodeIdentity {
        role: NodeRole::KmsPlugin,
        node: "cp-2".parse().expect("a node's name"),
    };
    let credential = NodeCredential {
        identity: identity.clone(),
        serial: "02".to_owned(),
    };
    let certificate = |name: &str| {
        Caller::Certificate(CertificateIdentity {
            name: name.into(),
            serial: "01".into(),
        })
    };
    [
        ("administrator", certificate("administrator")),
        ("encrypter", certificate("encrypter")),
        ("decrypter", certificate("decrypter")),
        ("both", certificate("both")),
        ("revealer", certificate("revealer")),
        ("stranger", certificate("stranger")),
        ("kms-socket", Caller::KmsSocket { uid: 64_201 }),
        ("kms-plugin", Caller::KmsPlugin(credential)),
        ("enrolment", Caller::Enrolment(identity)),
        ("reader", Caller::Pod(pod("east", "api", "1"))),
        ("anew", Caller::Pod(pod("east", "api", "2"))),
        ("unbound", Caller::Pod(pod("east", "web", "1"))),
        ("foreign", Caller::Pod(pod("west", "api", "1"))),
        ("driver", Caller::CsiDriver(pod("east", "api", "1"))),
        ("operator", Caller::Operator(pod("east", "api", "1"))),
        ("operator-west", Caller::Operator(pod("west", "api", "1"))),
        ("admin-socket", Caller::AdminSocket { uid: 64_200 }),
        (Job::Initialize.as_str(), Caller::System(Job::Initialize)),
        (Job::Anchor.as_str(), Caller::System(Job::Anchor)),
        (Job::Revoke.as_str(), Caller::System(Job::Revoke)),
        (Job::Time.as_str(), Caller::System(Job::Time)),
        (Job::Rotate.as_str(), Caller::System(Job::Rotate)),
    ]
}

fn object(name: &str, uid: &str) -> ObjectId {
    ObjectId {
        name: name.parse().expect("an object's name"),
        uid: uid.parse().expect("a uid"),
    }
}

fn tenant(cluster: &str) -> Tenant {
    Tenant {
        cluster: cluster.parse().expect("a cluster's name"),
        namespace: "payments".parse().expect("a namespace"),
    }
}

fn pod(cluster: &str, account: &str, uid: &str) -> Arc<PodIdentity> {
    Arc::new(PodIdentity {
        account: ServiceAccount {
            tenant: tenant(cluster),
            id: object(account, uid),
        },
        pod: object("pod", "3"),
        node: object("node", "4"),
        token: "5".parse().expect("a token's id"),
    })
}

/// A record that binds the account `api`.
fn access(owner: &str, role: AccessRole) -> Arc<Access> {
    let binding = AccessBinding {
        role,
        account: object("api", "1"),
    };
    Arc::new(Access::new(Some(tenant(owner)), vec![binding]).expect("one binding"))
}

/// The record of each secret binds the account `api`.
fn secret(ring: RingRef, owner: &str) -> Resource {
    Resource::Secret {
        ring,
        secret: SecretId::from_bytes([8; 16]),
        access: access(owner, AccessRole::SecretReader),
    }
}

/// So does that of each key, to encrypt.
fn key(ring: RingRef, owner: &str) -> Resource {
    Resource::Key {
        ring,
        key: KeyId::from_bytes([7; 16]),
        access: access(owner, AccessRole::KeyEncrypter),
    }
}

/// The secret of the platform has no tenant and binds nobody.
fn resources() -> [(&'static str, Resource); 11] {
    [
        ("instance", Resource::Instance),
        ("system ring", Resource::Ring(system())),
        ("bound ring", Resource::Ring(bound())),
        ("other ring", Resource::Ring(other())),
        ("system key", key(system(), "east")),
        ("bound key", key(bound(), "east")),
        ("other key", key(other(), "north")),
        ("system secret", secret(system(), "east")),
        ("bound secret", secret(bound(), "east")),
        ("other secret", secret(other(), "north")),
        (
            "no tenant's",
            Resource::Secret {
                ring: other(),
                secret: SecretId::from_bytes([9; 16]),
                access: Arc::default(),
            },
        ),
    ]
}

/// Encrypter, decrypter and one that is both, and one that reveals, on the bound ring. All try the system ring, too.
fn policy() -> Policy {
    let bind = |role, certificate: &str, ring: RingRef| Binding {
        role,
        certificate: certificate.to_owned(),
        ring: ring.id,
    };
    let bindings = [
        bind(Role::KeyEncrypter, "encrypter", bound()),
        bind(Role::KeyDecrypter, "decrypter", bound()),
        bind(Role::KeyEncrypter, "both", bound()),
        bind(Role::KeyDecrypter, "both", bound()),
        bind(Role::KeyEncrypter, "both", system()),
        bind(Role::KeyDecrypter, "both", system()),
        bind(Role::SecretReader, "revealer", bound()),
        bind(Role::SecretReader, "revealer", system()),
    ];
    Policy::new(&["administrator".to_owned()], &bindings).expect("the policy is valid")
}

fn matrix(policy: &Policy) -> String {
    let mut table = format!("{:27}{:14}", "", "");
    for (name, _) in callers() {
        write!(table, " {name}").unwrap();
    }
    table.push('\n');
    for action in ActionKind::ALL.iter().copied() {
        for (resource_name, resource) in resources() {
            write!(table, "{:27}{resource_name:14}", action.as_str()).unwrap();
            for (name, caller) in callers() {
                let question = Question {
                    caller: &caller,
                    action,
                    resource: &resource,
                };
                let cell = match policy.decide(question) {
                    Decision::Allow => "yes",
                    Decision::Deny => "-",
                };
                write!(table, " {cell:width$}", width = name.len()).unwrap();
            }
            table.truncate(table.trim_end().len());
            table.push('\n');
        }
    }
    table
}

#[test]
fn who_may_do_what_is_as_committed() {
    let policy = policy();
    let table = matrix(&policy);
    expect_file!["matrix.txt"].assert_eq(&table);
    assert_eq!(matrix(&policy), table, "remembered decisions are the same");
}
