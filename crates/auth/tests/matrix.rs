//! Prints caller × action × resource from the policy of a small installation and compares it with `matrix.txt`.
//!
//! A change of `matrix.txt` is a change of who may do what: `UPDATE_EXPECT=1 cargo test -p strongroom-auth` writes it.

use std::{fmt::Write, sync::Arc};

use expect_test::expect_file;
use strongroom_auth::{Binding, Policy, Role};
use strongroom_core::{
    ActionKind, Caller, CertificateIdentity, Decide, Decision, Job, KeyId, NodeCredential,
    NodeIdentity, NodeRole, ObjectId, PodIdentity, Question, Resource, RingId, RingKind, RingRef,
    SecretAccess, SecretBinding, SecretId, SecretRole, ServiceAccount, Tenant,
};

const SYSTEM: RingRef = RingRef {
    id: RingId::from_bytes([0; 16]),
    kind: RingKind::System,
};
const BOUND: RingRef = RingRef {
    id: RingId::from_bytes([1; 16]),
    kind: RingKind::Application,
};
const OTHER: RingRef = RingRef {
    id: RingId::from_bytes([2; 16]),
    kind: RingKind::Application,
};

fn callers() -> [(&'static str, Caller); 19] {
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
        ("admin-socket", Caller::AdminSocket { uid: 64_200 }),
        (Job::Initialize.as_str(), Caller::System(Job::Initialize)),
        (Job::Anchor.as_str(), Caller::System(Job::Anchor)),
        (Job::Revoke.as_str(), Caller::System(Job::Revoke)),
        (Job::Time.as_str(), Caller::System(Job::Time)),
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

/// The record of each secret binds the account `api`.
fn secret(ring: RingRef, owner: &str) -> Resource {
    let binding = SecretBinding {
        role: SecretRole::SecretReader,
        account: object("api", "1"),
    };
    let access = SecretAccess::new(Some(tenant(owner)), vec![binding]).expect("one binding");
    Resource::Secret {
        ring,
        secret: SecretId::from_bytes([8; 16]),
        access: Arc::new(access),
    }
}

/// The secret of the platform has no tenant and binds nobody.
fn resources() -> [(&'static str, Resource); 11] {
    let key = |ring| Resource::Key {
        ring,
        key: KeyId::from_bytes([7; 16]),
    };
    [
        ("instance", Resource::Instance),
        ("system ring", Resource::Ring(SYSTEM)),
        ("bound ring", Resource::Ring(BOUND)),
        ("other ring", Resource::Ring(OTHER)),
        ("system key", key(SYSTEM)),
        ("bound key", key(BOUND)),
        ("other key", key(OTHER)),
        ("system secret", secret(SYSTEM, "east")),
        ("bound secret", secret(BOUND, "east")),
        ("other secret", secret(OTHER, "north")),
        (
            "no tenant's",
            Resource::Secret {
                ring: OTHER,
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
        bind(Role::KeyEncrypter, "encrypter", BOUND),
        bind(Role::KeyDecrypter, "decrypter", BOUND),
        bind(Role::KeyEncrypter, "both", BOUND),
        bind(Role::KeyDecrypter, "both", BOUND),
        bind(Role::KeyEncrypter, "both", SYSTEM),
        bind(Role::KeyDecrypter, "both", SYSTEM),
        bind(Role::SecretReader, "revealer", BOUND),
        bind(Role::SecretReader, "revealer", SYSTEM),
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
