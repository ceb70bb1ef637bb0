//! Who is bound: rules name accounts, the key service wants uids, and an account that is not there yet is not an error.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_api::strongroom::v1 as wire;

use super::{Facts, Guard, Reason};
use crate::{
    cluster::GUARD,
    crds::{AccessRule, Bound, Role, Truth},
};

/// What is asked for, and what is said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Roles of accounts that are there.
    pub bindings: Vec<Bound>,
    /// Whether the key service leaves bindings as they are.
    pub keep: bool,
    /// What is said.
    pub verdict: AccessVerdict,
}

/// What is said about bindings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessVerdict {
    /// Whether they are as they are written.
    pub status: Truth,
    /// Why.
    pub reason: Reason,
    /// In a sentence.
    pub message: String,
}

impl Access {
    /// Decides about the rules of an object.
    pub fn plan<R: Copy + Into<Role>>(
        namespace: &str,
        rules: &[AccessRule<R>],
        facts: &Facts,
    ) -> Self {
        let (status, why) = match facts.guard {
            Guard::InPlace => return Self::guarded(namespace, rules, &facts.accounts),
            Guard::Missing(why) => (Truth::False, why),
            Guard::Unknown => (Truth::Unknown, "the API server has not said so yet"),
        };
        Self {
            bindings: Vec::new(),
            keep: true,
            verdict: AccessVerdict {
                status,
                reason: Reason::AccessUnguarded,
                message: format!(
                    "access is left as it is, since ValidatingAdmissionPolicy {GUARD} must guard who may change it: {why}"
                ),
            },
        }
    }

    fn guarded<R: Copy + Into<Role>>(
        namespace: &str,
        rules: &[AccessRule<R>],
        accounts: &BTreeMap<String, String>,
    ) -> Self {
        let mut bindings = BTreeSet::new();
        let mut missing = BTreeSet::new();
        for rule in rules {
            for subject in &rule.subjects {
                match accounts.get(&subject.name) {
                    Some(uid) => {
                        bindings.insert(Bound {
                            role: rule.role.into(),
                            service_account: subject.name.clone(),
                            uid: uid.clone(),
                        });
                    }
                    None => {
                        missing.insert(format!("{namespace}/{}", subject.name));
                    }
                }
            }
        }
        Self {
            bindings: bindings.into_iter().collect(),
            keep: false,
            verdict: verdict(rules.is_empty(), &missing),
        }
    }

    /// As the key service reads it.
    pub fn wire(&self) -> Vec<wire::Binding> {
        let binding = |bound: &Bound| wire::Binding {
            role: match bound.role {
                Role::KeyEncrypter => wire::AccessRole::KeyEncrypter,
                Role::KeyDecrypter => wire::AccessRole::KeyDecrypter,
                Role::SecretReader => wire::AccessRole::SecretReader,
            }
            .into(),
            service_account: bound.service_account.clone(),
            service_account_uid: bound.uid.clone(),
        };
        self.bindings.iter().map(binding).collect()
    }
}

fn verdict(nobody: bool, missing: &BTreeSet<String>) -> AccessVerdict {
    if missing.is_empty() {
        let sentence = if nobody {
            "spec.access gives no account a role"
        } else {
            "every account under spec.access has its role"
        };
        return AccessVerdict {
            status: Truth::True,
            reason: Reason::Bound,
            message: sentence.to_owned(),
        };
    }
    // A message has a bound, and who misses one account looks at it before the next.
    let named: Vec<&str> = missing.iter().take(4).map(String::as_str).collect();
    AccessVerdict {
        status: Truth::False,
        reason: Reason::AccountNotFound,
        message: format!(
            "{} of the service accounts under spec.access {} not there, and will be bound once made: {}{}",
            missing.len(),
            if missing.len() == 1 { "is" } else { "are" },
            named.join(", "),
            if missing.len() > named.len() {
                " and others"
            } else {
                ""
            }
        ),
    }
}

/// What the key service has bound after an Apply: what was asked for, or what was there before.
pub fn bound(access: &Access, before: &[Bound]) -> Vec<Bound> {
    if access.keep {
        before.to_vec()
    } else {
        access.bindings.clone()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crds::{RingRole, Subject, SubjectKind};

    fn rule(role: RingRole, names: &[&str]) -> AccessRule<RingRole> {
        let subject = |name: &&str| Subject {
            kind: SubjectKind::ServiceAccount,
            name: (*name).to_owned(),
        };
        AccessRule {
            role,
            subjects: names.iter().map(subject).collect(),
        }
    }

    fn facts(guard: Guard, accounts: &[&str]) -> Facts {
        Facts {
            guard,
            accounts: accounts
                .iter()
                .map(|name| ((*name).to_owned(), format!("uid-of-{name}")))
                .collect(),
            ..Facts::default()
        }
    }

    fn plan(guard: Guard, rules: &[AccessRule<RingRole>], accounts: &[&str]) -> Access {
        Access::plan("ns", rules, &facts(guard, accounts))
    }

    #[test]
    fn accounts_that_are_there_are_bound_by_their_uids_and_the_others_are_named() {
        let access = plan(
            Guard::InPlace,
            &[rule(RingRole::SecretReader, &["api", "late"])],
            &["api"],
        );
        let bound: Vec<_> = access.bindings.iter().map(|it| it.uid.as_str()).collect();
        assert_eq!(bound, ["uid-of-api"]);
        assert_eq!(access.verdict.reason, Reason::AccountNotFound);
        assert!(access.verdict.message.contains("ns/late"));
    }

    #[test]
    fn without_the_guard_nothing_is_bound_and_nothing_is_taken_away() {
        for guard in [Guard::Unknown, Guard::Missing("there is no")] {
            let access = plan(guard, &[rule(RingRole::SecretReader, &["api"])], &["api"]);
            assert!(access.keep && access.bindings.is_empty(), "{guard:?}");
            assert_eq!(access.verdict.reason, Reason::AccessUnguarded);
            let before = [Bound {
                role: Role::SecretReader,
                service_account: "old".to_owned(),
                uid: "u".to_owned(),
            }];
            assert_eq!(bound(&access, &before), before);
        }
    }

    #[test]
    fn no_rules_are_a_wish_for_no_bindings() {
        let access = plan(Guard::InPlace, &[], &["api"]);
        assert!(!access.keep && access.bindings.is_empty());
        assert_eq!(access.verdict.reason, Reason::Bound);
    }

    proptest! {
        #[test]
        fn only_accounts_that_are_named_and_there_are_bound_each_once(
            named in proptest::collection::vec((0_u8..3, 0_u8..6), 0..12),
            there in proptest::collection::btree_set(0_u8..6, 0..6),
        ) {
            let roles = [RingRole::KeyEncrypter, RingRole::KeyDecrypter, RingRole::SecretReader];
            let rules: Vec<_> = named
                .iter()
                .map(|(role, name)| rule(roles[usize::from(*role)], &[&format!("a{name}")]))
                .collect();
            let accounts: Vec<String> = there.iter().map(|name| format!("a{name}")).collect();
            let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
            let access = plan(Guard::InPlace, &rules, &accounts);
            let expected: BTreeSet<_> = named
                .iter()
                .filter(|(_, name)| there.contains(name))
                .map(|(role, name)| (Role::from(roles[usize::from(*role)]), format!("a{name}")))
                .collect();
            let got: Vec<_> = access
                .bindings
                .iter()
                .map(|it| (it.role, it.service_account.clone()))
                .collect();
            prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
