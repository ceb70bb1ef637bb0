//! Secrets: who reads for a pod, whatever links say, and that a changed record is asked anew.

use std::sync::Arc;

use strongroom_core::{
    Access, AccessBinding, AccessRole, ObjectId, PodIdentity, SecretId, ServiceAccount, Tenant,
};

use super::*;

const EVERYTHING: &str = "permit (principal, action, resource);";

fn tenant(cluster: &str, namespace: &str) -> Tenant {
    Tenant {
        cluster: cluster.parse().unwrap(),
        namespace: namespace.parse().unwrap(),
    }
}

fn object(name: &str, uid: &str) -> ObjectId {
    ObjectId {
        name: name.parse().unwrap(),
        uid: uid.parse().unwrap(),
    }
}

fn identity(tenant: Tenant, account: ObjectId, token: &str) -> Arc<PodIdentity> {
    Arc::new(PodIdentity {
        account: ServiceAccount {
            tenant,
            id: account,
        },
        pod: object("pod", token),
        node: object("node", "node-uid"),
        token: token.parse().unwrap(),
    })
}

fn pod(tenant: Tenant, account: ObjectId) -> Caller {
    Caller::Pod(identity(tenant, account, "token"))
}

fn secret(owner: Option<Tenant>, readers: &[ObjectId]) -> Resource {
    secret_in(application(), owner, readers)
}

fn secret_in(ring: RingRef, owner: Option<Tenant>, readers: &[ObjectId]) -> Resource {
    let bindings = readers.iter().map(|account| AccessBinding {
        role: AccessRole::SecretReader,
        account: account.clone(),
    });
    Resource::Secret {
        ring,
        secret: SecretId::from_bytes([8; 16]),
        access: Arc::new(Access::new(owner, bindings.collect()).unwrap()),
    }
}

#[test]
fn an_account_is_its_cluster_namespace_name_and_uid() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let ours = || tenant("east", "payments");
    let db = secret(Some(ours()), &[object("api", "1")]);
    let read = |caller: &Caller| ask(&policy, caller, ActionKind::ReadSecret, &db);
    assert_eq!(read(&pod(ours(), object("api", "1"))), Decision::Allow);
    for other in [
        pod(tenant("west", "payments"), object("api", "1")),
        pod(tenant("east", "ledger"), object("api", "1")),
        pod(ours(), object("web", "1")),
        pod(ours(), object("api", "2")),
    ] {
        assert_eq!(read(&other), Decision::Deny, "{other}");
    }
    assert_eq!(policy.errors(), 0);
}

#[test]
fn each_part_of_an_account_tells_it_from_another() {
    let entity = |tenant, id| entities::service_account(&ServiceAccount { tenant, id });
    let ours = entity(tenant("east", "payments"), object("api", "1"));
    for other in [
        entity(tenant("west", "payments"), object("api", "1")),
        entity(tenant("east", "ledger"), object("api", "1")),
        entity(tenant("east", "payments"), object("web", "1")),
        entity(tenant("east", "payments"), object("api", "2")),
    ] {
        assert_ne!(ours, other);
    }
}

#[test]
fn all_64_bindings_of_a_record_count() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let account = |number: u32| object("api", &number.to_string());
    let readers: Vec<_> = (0..64).map(account).collect();
    let db = secret(Some(tenant("east", "payments")), &readers);
    for number in 0..65 {
        let caller = pod(tenant("east", "payments"), account(number));
        let decision = ask(&policy, &caller, ActionKind::ReadSecret, &db);
        let expected = if number < 64 {
            Decision::Allow
        } else {
            Decision::Deny
        };
        assert_eq!(decision, expected, "{number}");
    }
}

#[test]
fn a_role_on_a_ring_counts_for_each_of_its_secrets_and_in_its_own_tenant() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let ours = || tenant("east", "payments");
    let bound = |roles: &[AccessRole]| {
        let bindings = roles.iter().map(|role| AccessBinding {
            role: *role,
            account: object("api", "1"),
        });
        let access = Access::new(Some(ours()), bindings.collect()).unwrap();
        RingRef {
            access: Arc::new(access),
            ..application()
        }
    };
    let read = |caller: &Caller, ring: RingRef, owner: Tenant| {
        let db = secret_in(ring, Some(owner), &[]);
        ask(&policy, caller, ActionKind::ReadSecret, &db)
    };
    let reader = || bound(&[AccessRole::SecretReader]);
    let api = pod(ours(), object("api", "1"));
    assert_eq!(read(&api, reader(), ours()), Decision::Allow);
    assert_eq!(read(&api, bound(&[]), ours()), Decision::Deny);
    let keys = bound(&[AccessRole::KeyEncrypter, AccessRole::KeyDecrypter]);
    assert_eq!(read(&api, keys, ours()), Decision::Deny);
    for other in [
        pod(ours(), object("api", "2")),
        pod(tenant("west", "payments"), object("api", "1")),
    ] {
        assert_eq!(read(&other, reader(), ours()), Decision::Deny, "{other}");
    }
    assert_eq!(policy.errors(), 0);
}

#[test]
fn a_changed_record_is_never_answered_from_memory() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let ours = || Some(tenant("east", "payments"));
    let caller = pod(tenant("east", "payments"), object("api", "1"));
    let bound = secret(ours(), &[object("api", "1")]);
    let unbound = secret(ours(), &[]);
    let anew = secret(ours(), &[object("api", "2")]);
    for _ in 0..2 {
        let read = |resource| ask(&policy, &caller, ActionKind::ReadSecret, resource);
        assert_eq!(read(&bound), Decision::Allow);
        assert_eq!(read(&unbound), Decision::Deny);
        assert_eq!(read(&anew), Decision::Deny);
    }
}

#[test]
fn no_link_reaches_another_tenants_secret() {
    let policy = unvalidated(EVERYTHING, &[]);
    let caller = pod(tenant("east", "payments"), object("api", "1"));
    for (owner, expected) in [
        (Some(tenant("east", "payments")), Decision::Allow),
        (Some(tenant("west", "payments")), Decision::Deny),
        (Some(tenant("east", "ledger")), Decision::Deny),
        (None, Decision::Deny),
    ] {
        let resource = secret(owner.clone(), &[]);
        let decision = ask(&policy, &caller, ActionKind::ReadSecret, &resource);
        assert_eq!(decision, expected, "{owner:?}");
    }
    assert_eq!(policy.errors(), 0, "a ring without a tenant is no error");
}

#[test]
fn pods_read_and_people_reveal_beside_a_permit_of_everything() {
    let policy = unvalidated(EVERYTHING, &[]);
    let ours = || tenant("east", "payments");
    let own = secret(Some(ours()), &[]);
    let account = || object("api", "1");
    let driver = Caller::CsiDriver(identity(ours(), account(), "token"));
    let check = |caller: &Caller, own_actions: &[ActionKind]| {
        for action in ActionKind::ALL.iter().copied() {
            let ring = Resource::Ring(application());
            let allowed = [&own, &key_in(application()), &ring, &Resource::Instance]
                .iter()
                .any(|resource| ask(&policy, caller, action, resource) == Decision::Allow);
            assert_eq!(allowed, own_actions.contains(&action), "{caller} {action}");
        }
    };
    check(&pod(ours(), account()), &[ActionKind::ReadSecret]);
    check(&driver, &[ActionKind::ServePods]);

    let decide = |caller: &Caller, action| ask(&policy, caller, action, &own);
    let (person, job) = (certificate("person"), Caller::System(Job::Revoke));
    assert_eq!(decide(&person, ActionKind::RevealSecret), Decision::Allow);
    assert_eq!(decide(&person, ActionKind::ReadSecret), Decision::Deny);
    assert_eq!(decide(&job, ActionKind::RevealSecret), Decision::Deny);
    assert_eq!(decide(&job, ActionKind::ReadSecret), Decision::Deny);
}

#[test]
fn system_rings_hold_no_secrets_beside_a_permit_of_everything() {
    let policy = unvalidated(EVERYTHING, &[]);
    let ours = || tenant("east", "payments");
    let inside = secret_in(system(), Some(ours()), &[object("api", "1")]);
    let administrator = certificate("administrator");
    for caller in [
        &administrator,
        &Caller::System(Job::Initialize),
        &pod(ours(), object("api", "1")),
    ] {
        for action in ActionKind::ALL.iter().copied() {
            let decision = ask(&policy, caller, action, &inside);
            assert_eq!(decision, Decision::Deny, "{caller} {action}");
        }
        for action in [ActionKind::CreateSecret, ActionKind::ListSecrets] {
            let decision = ask(&policy, caller, action, &Resource::Ring(system()));
            assert_eq!(decision, Decision::Deny, "{caller} {action}");
        }
    }
}

#[test]
fn a_ring_of_certificates_and_a_record_of_accounts_do_not_meet() {
    // The certificate is called as the account is written, and the account as the certificate.
    let text = "east/payments/api#1";
    let bindings = [bind(Role::SecretReader, text, application())];
    let policy = Policy::new(&administrators(), &bindings).unwrap();
    let ours = || tenant("east", "payments");
    let (person, reader) = (certificate(text), pod(ours(), object("api", "1")));
    let (unbound, bound) = (
        secret(Some(ours()), &[]),
        secret(Some(ours()), &[object("api", "1")]),
    );
    let check = |caller, action, resource, expected| {
        let decision = ask(&policy, caller, action, resource);
        assert_eq!(decision, expected, "{caller} {action}");
    };
    check(&person, ActionKind::RevealSecret, &unbound, Decision::Allow);
    check(&person, ActionKind::ReadSecret, &bound, Decision::Deny);
    check(&reader, ActionKind::ReadSecret, &unbound, Decision::Deny);
    check(&reader, ActionKind::ReadSecret, &bound, Decision::Allow);
    check(&reader, ActionKind::RevealSecret, &bound, Decision::Deny);
}
