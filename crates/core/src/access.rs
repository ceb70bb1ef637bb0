//! Who may use one object by its own record. Policies look at it beside the configuration's bindings.
//!
//! It is part of the `Resource` that a question is about, so that an answer that was remembered for one list is never
//! taken for another.

use std::collections::BTreeSet;

use crate::{ObjectId, ObjectName, ServiceAccount, Tenant};

/// How many bindings one object can have: each decision reads them all.
pub const BINDINGS_PER_OBJECT_MAX: usize = 64;

/// What a binding allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessRole {
    /// To encrypt with keys.
    KeyEncrypter,
    /// To decrypt with keys.
    KeyDecrypter,
    /// To have current and previous values of secrets in the volumes of one's pods.
    SecretReader,
}

impl AccessRole {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::KeyEncrypter, Self::KeyDecrypter, Self::SecretReader];

    /// Its name in records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::KeyEncrypter => "KeyEncrypter",
            Self::KeyDecrypter => "KeyDecrypter",
            Self::SecretReader => "SecretReader",
        }
    }
}

/// A role on one object, or on everything in one ring, for a service account in the namespace that owns the ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessBinding {
    /// What is allowed.
    pub role: AccessRole,
    /// The account in that namespace, by name and uid.
    pub account: ObjectId,
}

/// Why a list of bindings is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Each decision reads all of them, so that there is a bound.
    #[error("{count} bindings on one object, at most {BINDINGS_PER_OBJECT_MAX} are possible")]
    TooMany {
        /// How many different ones were given.
        count: usize,
    },
    /// There is no namespace in which the accounts could be.
    #[error("no namespace owns the ring, so that no service account can have a role on it")]
    NoOwner,
}

/// The tenant that an object belongs to, and the bindings in its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Access {
    tenant: Option<Tenant>,
    bindings: Vec<AccessBinding>,
}

impl Access {
    /// Takes the owner of the object's ring, where it is a tenant, and bindings in any order.
    ///
    /// # Errors
    /// See `AccessError`.
    pub fn new(
        tenant: Option<Tenant>,
        mut bindings: Vec<AccessBinding>,
    ) -> Result<Self, AccessError> {
        bindings.sort_unstable();
        bindings.dedup();
        let count = bindings.len();
        if count > BINDINGS_PER_OBJECT_MAX {
            return Err(AccessError::TooMany { count });
        }
        if tenant.is_none() && count > 0 {
            return Err(AccessError::NoOwner);
        }
        Ok(Self { tenant, bindings })
    }

    /// The tenant that owns the ring. None: the ring is the platform's, and no account has a role on anything in it.
    #[must_use]
    pub const fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The bindings, each once, in order.
    #[must_use]
    pub fn bindings(&self) -> &[AccessBinding] {
        &self.bindings
    }

    /// Each role with the account that has it.
    pub fn grants(&self) -> impl Iterator<Item = (AccessRole, ServiceAccount)> {
        let of_tenant = |tenant: &Tenant| {
            let tenant = tenant.clone();
            self.bindings.iter().map(move |binding| {
                let account = ServiceAccount {
                    tenant: tenant.clone(),
                    id: binding.account.clone(),
                };
                (binding.role, account)
            })
        };
        self.tenant.iter().flat_map(of_tenant)
    }

    /// The accounts that are bound here and were bound before under another uid: they were made anew. Each once, in order.
    #[must_use]
    pub fn rebound<'a>(&'a self, before: &Self) -> Vec<&'a ObjectName> {
        let was = |name: &ObjectName| before.bindings.iter().any(|it| it.account.name == *name);
        let was_same = |id: &ObjectId| before.bindings.iter().any(|it| it.account == *id);
        let anew = self.bindings.iter().map(|binding| &binding.account);
        let anew = anew.filter(|account| was(&account.name) && !was_same(account));
        let names: BTreeSet<_> = anew.map(|account| &account.name).collect();
        names.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> Tenant {
        Tenant {
            cluster: "east".parse().unwrap(),
            namespace: "payments".parse().unwrap(),
        }
    }

    fn binding(number: usize) -> AccessBinding {
        AccessBinding {
            role: AccessRole::SecretReader,
            account: ObjectId {
                name: "api".parse().unwrap(),
                uid: format!("uid-{number}").parse().unwrap(),
            },
        }
    }

    #[test]
    fn lists_that_say_the_same_are_equal() {
        let access = |numbers: &[usize]| {
            let bindings = numbers.iter().copied().map(binding).collect();
            Access::new(Some(tenant()), bindings).unwrap()
        };
        assert_eq!(access(&[2, 1, 2]), access(&[1, 2]));
        assert_ne!(access(&[1, 2]), access(&[1]));
    }

    #[test]
    fn an_object_takes_64_bindings_and_no_more() {
        let bindings: Vec<_> = (0..65).map(binding).collect();
        let doubled: Vec<_> = (0..64).chain(0..64).map(binding).collect();
        assert!(Access::new(Some(tenant()), doubled).is_ok());
        assert_eq!(
            Access::new(Some(tenant()), bindings),
            Err(AccessError::TooMany { count: 65 })
        );
    }

    #[test]
    fn without_a_tenant_there_is_no_account_to_bind() {
        let none = Access::new(None, Vec::new()).unwrap();
        assert_eq!(none.grants().count(), 0);
        assert_eq!(
            Access::new(None, vec![binding(1)]),
            Err(AccessError::NoOwner)
        );
    }

    #[test]
    fn accounts_that_were_made_anew_are_told_once() {
        let account = |name: &str, uid: &str| ObjectId {
            name: name.parse().unwrap(),
            uid: uid.parse().unwrap(),
        };
        let access = |bindings: &[(AccessRole, &str, &str)]| {
            let bindings = bindings.iter().map(|(role, name, uid)| AccessBinding {
                role: *role,
                account: account(name, uid),
            });
            Access::new(Some(tenant()), bindings.collect()).unwrap()
        };
        use AccessRole::{KeyDecrypter, KeyEncrypter};
        let before = access(&[(KeyEncrypter, "api", "1"), (KeyEncrypter, "web", "1")]);
        let after = access(&[
            (KeyEncrypter, "api", "2"),
            (KeyDecrypter, "api", "2"),
            (KeyDecrypter, "web", "1"),
            (KeyEncrypter, "new", "1"),
        ]);
        let names = |names: Vec<&ObjectName>| -> Vec<String> {
            names.into_iter().map(ToString::to_string).collect()
        };
        assert_eq!(names(after.rebound(&before)), ["api"]);
        assert_eq!(names(after.rebound(&after)), [""; 0]);
    }

    #[test]
    fn grants_name_the_account_in_the_owners_namespace() {
        let access = Access::new(Some(tenant()), vec![binding(1)]).unwrap();
        let grants: Vec<_> = access
            .grants()
            .map(|(role, account)| format!("{} {account}", role.as_str()))
            .collect();
        assert_eq!(grants, ["SecretReader east/payments/api#uid-1"]);
    }
}
