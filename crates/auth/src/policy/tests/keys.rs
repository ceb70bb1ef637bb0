//! Keys of applications by tokens: what the records of key and ring give an account, and what no record can.

use strongroom_core::{
    Access, AccessBinding, AccessRole, ObjectId, PodIdentity, ServiceAccount, Tenant,
};

use super::*;

fn tenant(cluster: &str) -> Tenant {
    Tenant {
        cluster: cluster.parse().unwrap(),
        namespace: "payments".parse().unwrap(),
    }
}

fn object(name: &str, uid: &str) -> ObjectId {
    ObjectId {
        name: name.parse().unwrap(),
        uid: uid.parse().unwrap(),
    }
}

fn pod(cluster: &str, account: &str, uid: &str) -> Caller {
    Caller::Pod(Arc::new(PodIdentity {
        account: ServiceAccount {
            tenant: tenant(cluster),
            id: object(account, uid),
        },
        pod: object("pod", "1"),
        node: object("node", "1"),
        token: "token".parse().unwrap(),
    }))
}

fn access(bindings: &[(AccessRole, &str)]) -> Arc<Access> {
    let bindings = bindings.iter().map(|(role, account)| AccessBinding {
        role: *role,
        account: object(account, "1"),
    });
    Arc::new(Access::new(Some(tenant("east")), bindings.collect()).unwrap())
}

/// A key with bindings in its ring's record and in its own.
fn key(ring: &[(AccessRole, &str)], own: &[(AccessRole, &str)]) -> Resource {
    Resource::Key {
        ring: RingRef {
            access: access(ring),
            ..application()
        },
        key: KeyId::from_bytes([9; 16]),
        access: access(own),
    }
}

/// Which of both a caller may do.
fn uses(policy: &Policy, caller: &Caller, key: &Resource) -> &'static str {
    let may = |action| ask(policy, caller, action, key) == Decision::Allow;
    match (may(ActionKind::Encrypt), may(ActionKind::Decrypt)) {
        (true, true) => "both",
        (true, false) => "encrypt",
        (false, true) => "decrypt",
        (false, false) => "nothing",
    }
}

#[test]
fn a_role_of_the_key_or_its_ring_counts_for_its_own_action() {
    use AccessRole::{KeyDecrypter, KeyEncrypter, SecretReader};
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let ledger = pod("east", "ledger", "1");
    for (ring, own, expected) in [
        (&[][..], &[][..], "nothing"),
        (&[], &[(KeyEncrypter, "ledger")], "encrypt"),
        (&[(KeyDecrypter, "ledger")], &[], "decrypt"),
        (
            &[(KeyEncrypter, "ledger")],
            &[(KeyDecrypter, "ledger")],
            "both",
        ),
        (
            &[(KeyEncrypter, "ledger")],
            &[(KeyEncrypter, "ledger")],
            "encrypt",
        ),
        (&[(SecretReader, "ledger")], &[], "nothing"),
        (
            &[(KeyEncrypter, "api")],
            &[(KeyDecrypter, "api")],
            "nothing",
        ),
    ] {
        let key = key(ring, own);
        assert_eq!(uses(&policy, &ledger, &key), expected, "{ring:?} {own:?}");
    }
    assert_eq!(policy.errors(), 0);
}

#[test]
fn an_account_of_the_same_name_is_not_the_one_that_was_bound() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let key = key(
        &[(AccessRole::KeyEncrypter, "ledger")],
        &[(AccessRole::KeyDecrypter, "ledger")],
    );
    assert_eq!(uses(&policy, &pod("east", "ledger", "1"), &key), "both");
    for other in [pod("west", "ledger", "1"), pod("east", "ledger", "2")] {
        assert_eq!(uses(&policy, &other, &key), "nothing", "{other}");
    }
}

#[test]
fn whatever_is_permitted_keys_of_others_and_of_the_installation_stay_closed_to_pods() {
    let policy = unvalidated("permit (principal, action, resource);", &[]);
    let own = key(&[], &[]);
    assert_eq!(uses(&policy, &pod("east", "ledger", "1"), &own), "both");
    assert_eq!(uses(&policy, &pod("west", "ledger", "1"), &own), "nothing");
    let Resource::Key { key, access, .. } = own else {
        unreachable!("it is a key");
    };
    let of_installation = Resource::Key {
        ring: RingRef {
            access: access.clone(),
            ..system()
        },
        key,
        access,
    };
    let ledger = pod("east", "ledger", "1");
    assert_eq!(uses(&policy, &ledger, &of_installation), "nothing");
    for action in ActionKind::ALL.iter().copied() {
        let decision = ask(&policy, &ledger, action, &of_installation);
        assert_eq!(decision, Decision::Deny, "{action}");
    }
}

#[test]
fn a_full_record_of_a_ring_beside_a_full_one_of_a_key_is_a_short_list() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let names: Vec<_> = (0..64).map(|number| format!("account-{number}")).collect();
    let all = |role| -> Vec<_> { names.iter().map(|name| (role, name.as_str())).collect() };
    let key = key(
        &all(AccessRole::KeyEncrypter),
        &all(AccessRole::KeyDecrypter),
    );
    for name in &names {
        let caller = pod("east", name, "1");
        assert_eq!(uses(&policy, &caller, &key), "both");
        let question = Question {
            caller: &caller,
            action: ActionKind::Encrypt,
            resource: &key,
        };
        let links = policy.policies(question).unwrap().num_of_policies();
        assert_eq!(links, policy.platform.policies().num_of_policies() + 2);
    }
}
