//! Who may use one object by its own record. Policies look at it beside the configuration's bindings.
//!
//! It is part of the `Resource` that a question is about, so that an answer that was remembered for one list is never
//! taken for another.

use crate::{ObjectId, ServiceAccount, Tenant};

/// How many bindings one object can have: each decision reads them all.
pub const BINDINGS_PER_OBJECT_MAX: usize = 64;

/// What a binding on a secret allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SecretRole {
    /// To have current and previous values in the volumes of one's pods.
    SecretReader,
}

impl SecretRole {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::SecretReader];

    /// Its name in records and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretReader => "SecretReader",
        }
    }
}

/// A role on one secret for a service account in the namespace that owns the secret's ring.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretBinding {
    /// What is allowed.
    pub role: SecretRole,
    /// The account in that namespace, by name and uid.
    pub account: ObjectId,
}

/// Why a list of bindings is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Each decision reads all of them, so that there is a bound.
    #[error("{count} bindings on one secret, at most {BINDINGS_PER_OBJECT_MAX} are possible")]
    TooMany {
        /// How many different ones were given.
        count: usize,
    },
    /// There is no namespace in which the accounts could be.
    #[error(
        "no namespace owns the ring of this secret, so that no service account can have a role on it"
    )]
    NoOwner,
}

/// The tenant that a secret belongs to, and the bindings in its record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SecretAccess {
    tenant: Option<Tenant>,
    bindings: Vec<SecretBinding>,
}

impl SecretAccess {
    /// Takes the owner of the secret's ring, where it is a tenant, and bindings in any order.
    ///
    /// # Errors
    /// See `AccessError`.
    pub fn new(
        tenant: Option<Tenant>,
        mut bindings: Vec<SecretBinding>,
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

    /// The tenant that owns the secret's ring. None: the ring is the platform's, and no pod reads from it.
    #[must_use]
    pub const fn tenant(&self) -> Option<&Tenant> {
        self.tenant.as_ref()
    }

    /// The bindings, each once, in order.
    #[must_use]
    pub fn bindings(&self) -> &[SecretBinding] {
        &self.bindings
    }

    /// Each role with the account that has it.
    pub fn grants(&self) -> impl Iterator<Item = (SecretRole, ServiceAccount)> {
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

    fn binding(number: usize) -> SecretBinding {
        SecretBinding {
            role: SecretRole::SecretReader,
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
            SecretAccess::new(Some(tenant()), bindings).unwrap()
        };
        assert_eq!(access(&[2, 1, 2]), access(&[1, 2]));
        assert_ne!(access(&[1, 2]), access(&[1]));
    }

    #[test]
    fn a_secret_takes_64_bindings_and_no_more() {
        let bindings: Vec<_> = (0..65).map(binding).collect();
        let doubled: Vec<_> = (0..64).chain(0..64).map(binding).collect();
        assert!(SecretAccess::new(Some(tenant()), doubled).is_ok());
        assert_eq!(
            SecretAccess::new(Some(tenant()), bindings),
            Err(AccessError::TooMany { count: 65 })
        );
    }

    #[test]
    fn without_a_tenant_there_is_no_account_to_bind() {
        let none = SecretAccess::new(None, Vec::new()).unwrap();
        assert_eq!(none.grants().count(), 0);
        assert_eq!(
            SecretAccess::new(None, vec![binding(1)]),
            Err(AccessError::NoOwner)
        );
    }

    #[test]
    fn grants_name_the_account_in_the_owners_namespace() {
        let access = SecretAccess::new(Some(tenant()), vec![binding(1)]).unwrap();
        let grants: Vec<_> = access
            .grants()
            .map(|(role, account)| format!("{} {account}", role.as_str()))
            .collect();
        assert_eq!(grants, ["SecretReader east/payments/api#uid-1"]);
    }
}
