//! What Cedar would get wrong by itself, and what no configuration may reach. Who may do what is in `tests/matrix.txt`.

mod keys;
mod operator;
mod secrets;

use std::sync::Arc;

use strongroom_core::{
    ActionKind, Caller, CertificateIdentity, Decide, Decision, Job, KeyId, Question, Resource,
    RingId, RingKind, RingRef,
};

use super::{platform::Platform, *};

fn application() -> RingRef {
    RingRef {
        id: RingId::from_bytes([1; 16]),
        kind: RingKind::Application,
        access: Arc::default(),
    }
}

fn system() -> RingRef {
    RingRef {
        id: RingId::from_bytes([2; 16]),
        kind: RingKind::System,
        access: Arc::default(),
    }
}

fn key_in(ring: RingRef) -> Resource {
    Resource::Key {
        ring,
        key: KeyId::from_bytes([9; 16]),
        access: Arc::default(),
    }
}

fn certificate(name: &str) -> Caller {
    Caller::Certificate(CertificateIdentity {
        name: name.into(),
        serial: "01".into(),
    })
}

fn administrators() -> Vec<String> {
    vec!["administrator".to_owned()]
}

fn bind(role: Role, certificate: &str, ring: RingRef) -> Binding {
    Binding {
        role,
        certificate: certificate.to_owned(),
        ring: ring.id,
    }
}

fn ask(policy: &Policy, caller: &Caller, action: ActionKind, resource: &Resource) -> Decision {
    policy.decide(Question {
        caller,
        action,
        resource,
    })
}

/// A policy whose platform was never validated.
fn unvalidated(more: &str, bindings: &[Binding]) -> Policy {
    Policy::compile(Platform::with(more), &administrators(), bindings).unwrap()
}

#[test]
fn every_action_is_in_the_schema_and_the_schema_has_no_other() {
    let platform = Platform::load().unwrap();
    let groups: BTreeSet<_> = platform.schema().action_groups().cloned().collect();
    let known: BTreeSet<_> = platform
        .schema()
        .actions()
        .filter(|action| !groups.contains(*action))
        .cloned()
        .collect();
    let expected: BTreeSet<_> = ActionKind::ALL
        .iter()
        .copied()
        .map(entities::action)
        .collect();
    assert_eq!(known, expected);
}

#[test]
fn forbid_that_reads_a_missing_attribute_denies_and_is_counted() {
    let forbid = r#"forbid (principal, action, resource) when { principal.clearance == "none" };"#;
    let policy = unvalidated(forbid, &[]);
    let administrator = certificate("administrator");
    for count in 1..=3 {
        let decision = ask(
            &policy,
            &administrator,
            ActionKind::DescribeInstance,
            &Resource::Instance,
        );
        assert_eq!(decision, Decision::Deny);
        assert_eq!(policy.errors(), count, "an error is counted each time");
    }
}

#[test]
fn policy_that_reads_a_missing_attribute_does_not_load() {
    let forbid = r#"forbid (principal, action, resource) when { principal.clearance == "none" };"#;
    let fault = Platform::with(forbid).validated().unwrap_err();
    assert!(fault.to_string().contains("clearance"), "{fault}");
}

#[test]
fn question_on_the_wrong_type_of_resource_is_denied_and_counted() {
    let policy = Policy::new(&administrators(), &[]).unwrap();
    let administrator = certificate("administrator");
    let decision = ask(
        &policy,
        &administrator,
        ActionKind::RotateKey,
        &Resource::Instance,
    );
    assert_eq!((decision, policy.errors()), (Decision::Deny, 1));
}

#[test]
fn forbids_hold_against_a_permit_of_everything() {
    let policy = unvalidated("permit (principal, action, resource);", &[]);
    let initialize = Caller::System(Job::Initialize);
    let administrator = certificate("administrator");
    let check = |caller, action, resource, expected| {
        let decision = ask(&policy, caller, action, &resource);
        assert_eq!(decision, expected, "{caller} {action} {resource}");
    };
    for caller in [&administrator, &initialize] {
        check(
            caller,
            ActionKind::Decrypt,
            key_in(application()),
            Decision::Allow,
        );
        check(
            caller,
            ActionKind::Decrypt,
            key_in(system()),
            Decision::Deny,
        );
        check(
            caller,
            ActionKind::Encrypt,
            key_in(system()),
            Decision::Deny,
        );
        check(
            caller,
            ActionKind::DecryptSeed,
            key_in(system()),
            Decision::Deny,
        );
        check(
            caller,
            ActionKind::EncryptSeed,
            key_in(system()),
            Decision::Deny,
        );
        check(
            caller,
            ActionKind::ProbeEtcdKey,
            key_in(system()),
            Decision::Deny,
        );
    }
    check(
        &administrator,
        ActionKind::IssueCertificate,
        Resource::Instance,
        Decision::Deny,
    );
}

#[test]
fn sockets_do_their_own_work_beside_a_permit_of_everything() {
    use ActionKind::{DecryptSeed, EncryptSeed, IssueCertificate, ProbeEtcdKey};
    let policy = unvalidated("permit (principal, action, resource);", &[]);
    let check = |caller: &Caller, own: &[ActionKind]| {
        for action in ActionKind::ALL.iter().copied() {
            let allowed = [
                key_in(system()),
                Resource::Ring(application()),
                Resource::Instance,
            ]
            .iter()
            .any(|resource| ask(&policy, caller, action, resource) == Decision::Allow);
            assert_eq!(allowed, own.contains(&action), "{caller} {action}");
        }
    };
    check(
        &Caller::KmsSocket { uid: 101 },
        &[ProbeEtcdKey, EncryptSeed, DecryptSeed],
    );
    check(&Caller::AdminSocket { uid: 101 }, &[IssueCertificate]);
}

#[test]
fn name_with_quotes_backslash_or_newline_is_only_a_name() {
    let tail = r#" == principal, action, resource); permit (principal, action, resource"#;
    for name in [
        format!("a\"{tail}"),
        format!("a\\\"{tail}"),
        format!("a\n\"{tail}"),
        r#"x"::"y"#.to_owned(),
        r#"administrator""#.to_owned(),
        "administrator\n".to_owned(),
        "administrator\\".to_owned(),
    ] {
        // Past the check of names, which refuses some of these already.
        let bindings = [bind(Role::KeyDecrypter, &name, application())];
        let platform = Platform::load().unwrap();
        let policy = Policy::compile(platform, &administrators(), &bindings).unwrap();
        let (named, other) = (certificate(&name), certificate("other"));
        let check = |caller, action, expected| {
            assert_eq!(
                ask(&policy, caller, action, &key_in(application())),
                expected,
                "{name:?} {action}"
            );
        };
        check(&named, ActionKind::Decrypt, Decision::Allow);
        check(&named, ActionKind::Encrypt, Decision::Deny);
        check(&named, ActionKind::RotateKey, Decision::Deny);
        check(&other, ActionKind::Decrypt, Decision::Deny);
        assert_eq!(policy.errors(), 0);
    }
}

#[test]
fn names_that_no_certificate_carries_are_refused() {
    let bad = "a\nb".to_owned();
    let administrator = Policy::new(std::slice::from_ref(&bad), &[]).unwrap_err();
    let bindings = [bind(Role::KeyEncrypter, &bad, application())];
    let bound = Policy::new(&administrators(), &bindings).unwrap_err();
    for error in [administrator, bound] {
        assert!(
            matches!(&error, PolicyError::Name { name, .. } if *name == bad),
            "{error}"
        );
    }
}

#[test]
fn no_administrator_is_refused() {
    let error = Policy::new(&[], &[]).unwrap_err();
    assert!(matches!(error, PolicyError::NoAdministrator), "{error}");
}

#[test]
fn a_ring_takes_64_bindings_and_no_more() {
    let bindings: Vec<_> = (0..65)
        .map(|index| {
            bind(
                Role::KeyEncrypter,
                &format!("application {index}"),
                application(),
            )
        })
        .collect();
    let policy = Policy::new(&administrators(), &bindings[..64]).unwrap();
    let last = certificate("application 63");
    assert_eq!(
        ask(&policy, &last, ActionKind::Encrypt, &key_in(application())),
        Decision::Allow
    );

    let error = Policy::new(&administrators(), &bindings).unwrap_err();
    assert!(
        matches!(error, PolicyError::TooManyBindings { count: 65, .. }),
        "{error}"
    );
}

#[test]
fn binding_on_a_system_ring_gives_nothing() {
    let bindings = Role::ALL.map(|role| bind(role, "application", system()));
    let policy = Policy::new(&administrators(), &bindings).unwrap();
    let application = certificate("application");
    for action in [
        ActionKind::Encrypt,
        ActionKind::Decrypt,
        ActionKind::DescribeKey,
    ] {
        let decision = ask(&policy, &application, action, &key_in(system()));
        assert_eq!(decision, Decision::Deny, "{action}");
    }
}

#[test]
fn revision_names_the_content_and_not_the_order() {
    let (first, second) = (
        bind(Role::KeyEncrypter, "a", application()),
        bind(Role::KeyDecrypter, "b", application()),
    );
    let revision = |administrators: &[&str], bindings: &[&Binding]| {
        let administrators: Vec<_> = administrators.iter().map(|&name| name.to_owned()).collect();
        let bindings: Vec<_> = bindings.iter().copied().cloned().collect();
        Policy::new(&administrators, &bindings).unwrap().revision()
    };
    let of = revision(&["x", "y"], &[&first, &second]);
    assert_eq!(of, revision(&["y", "x", "x"], &[&second, &first]));
    for other in [
        revision(&["x"], &[&first, &second]),
        revision(&["x", "yz"], &[&first, &second]),
        revision(&["x", "y"], &[&first]),
        revision(
            &["x", "y"],
            &[&bind(Role::KeyEncrypter, "c", application()), &second],
        ),
        revision(&["x", "y"], &[]),
    ] {
        assert_ne!(of, other);
    }
}

#[test]
fn decision_that_one_policy_remembers_is_not_another_ones() {
    let caller = certificate("app");
    let key = key_in(application());
    let bound = [bind(Role::KeyEncrypter, "app", application())];
    let before = Policy::new(&administrators(), &bound).unwrap();
    let after = Policy::new(&administrators(), &[]).unwrap();
    assert_ne!(before.revision(), after.revision());
    for _ in 0..2 {
        let asked = |policy| ask(policy, &caller, ActionKind::Encrypt, &key);
        assert_eq!(asked(&before), Decision::Allow);
        assert_eq!(asked(&after), Decision::Deny);
    }
}
