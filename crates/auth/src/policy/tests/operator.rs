//! The operator: what it may do in its own cluster, and what no policy gives it.

use std::sync::Arc;

use strongroom_core::{Access, ObjectId, PodIdentity, SecretId, ServiceAccount, Tenant};

use super::*;

const EVERYTHING: &str = "permit (principal, action, resource);";

fn tenant(cluster: &str) -> Tenant {
    Tenant {
        cluster: cluster.parse().unwrap(),
        namespace: "strongroom-system".parse().unwrap(),
    }
}

fn operator(cluster: &str) -> Caller {
    let object = |name: &str| ObjectId {
        name: name.parse().unwrap(),
        uid: "uid".parse().unwrap(),
    };
    Caller::Operator(Arc::new(PodIdentity {
        account: ServiceAccount {
            tenant: tenant(cluster),
            id: object("strongroom-operator"),
        },
        pod: object("pod"),
        node: object("node"),
        token: "token".parse().unwrap(),
    }))
}

fn ring_of(owner: Option<&str>, kind: RingKind) -> RingRef {
    let access = Access::new(owner.map(tenant), Vec::new()).unwrap();
    RingRef {
        kind,
        access: Arc::new(access),
        ..application()
    }
}

/// A ring, a key and a secret in it.
fn inside(ring: &RingRef) -> [Resource; 3] {
    [
        Resource::Ring(ring.clone()),
        key_in(ring.clone()),
        Resource::Secret {
            ring: ring.clone(),
            secret: SecretId::from_bytes([8; 16]),
            access: ring.access.clone(),
        },
    ]
}

/// What the policy allows on any of the resources.
fn allowed(policy: &Policy, caller: &Caller, resources: &[Resource]) -> Vec<ActionKind> {
    let on_any = |action: &ActionKind| {
        let mut decisions = resources.iter().map(|it| ask(policy, caller, *action, it));
        decisions.any(|decision| decision == Decision::Allow)
    };
    ActionKind::ALL.iter().copied().filter(on_any).collect()
}

#[test]
fn beside_a_permit_of_everything_it_does_its_own_work_and_opens_nothing() {
    use ActionKind::*;
    let policy = unvalidated(EVERYTHING, &[]);
    let own = ring_of(Some("east"), RingKind::Application);
    let mut resources = inside(&own).to_vec();
    resources.push(Resource::Instance);
    assert_eq!(
        allowed(&policy, &operator("east"), &resources),
        [
            DescribeInstance,
            CreateKeyRing,
            CreateKey,
            RotateKey,
            CreateSecret,
            RotateSecret,
            AcquireControlEpoch,
            WatchObjects,
            ApplyKeyRing,
            ApplyKey,
            ApplySecret,
            ApplyBundle,
            ReleaseObject
        ]
    );
}

#[test]
fn beside_a_permit_of_everything_nothing_of_other_clusters_or_of_the_system_is_its() {
    let policy = unvalidated(EVERYTHING, &[]);
    for (owner, kind) in [
        (Some("west"), RingKind::Application),
        (None, RingKind::Application),
        (None, RingKind::System),
        // There is no such ring; if there were one, it would be closed.
        (Some("east"), RingKind::System),
    ] {
        let ring = ring_of(owner, kind);
        let allowed = allowed(&policy, &operator("east"), &inside(&ring));
        // Rings are made on the instance, where the token says whose they are.
        assert_eq!(allowed, [], "{owner:?} {kind:?}");
    }
}

#[test]
fn beside_a_permit_of_everything_nobody_else_applies_custom_resources() {
    use ActionKind::*;
    let policy = unvalidated(EVERYTHING, &[]);
    let own = ring_of(Some("east"), RingKind::Application);
    let mut resources = inside(&own).to_vec();
    resources.push(Resource::Instance);
    let Caller::Operator(identity) = operator("east") else {
        unreachable!("it is one");
    };
    for caller in [
        certificate("administrator"),
        Caller::System(Job::Initialize),
        Caller::Pod(identity.clone()),
        Caller::CsiDriver(identity),
    ] {
        let allowed = allowed(&policy, &caller, &resources);
        for action in [
            AcquireControlEpoch,
            WatchObjects,
            ApplyKeyRing,
            ApplyKey,
            ApplySecret,
            ApplyBundle,
            ReleaseObject,
        ] {
            assert!(!allowed.contains(&action), "{caller} {action}");
        }
    }
}
