//! Whose objects are: a namespace of a cluster owns a ring with all that lies in it, and one custom resource holds each.
//!
//! Names say nothing of this. A namespace that was made again is another owner, which gets nothing until an administrator
//! says so; a custom resource that was made again in the same namespace takes up what the former one let go of.

use crate::{Tenant, Uid};

/// A namespace of a registered cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RingOwner {
    /// The cluster and the namespace, by name.
    pub tenant: Tenant,
    /// The namespace's uid: a namespace that was made again owns nothing of the old one.
    pub namespace_uid: Uid,
}

/// The form in records: `CLUSTER/NAMESPACE#UID`.
impl std::fmt::Display for RingOwner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}#{}", self.tenant, self.namespace_uid)
    }
}

/// What a custom resource is to an object of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It holds it already.
    Holds,
    /// It takes it up: nobody holds it, or a custom resource that is no more, since there is one of a name at a time.
    Adopts,
}

/// Why a custom resource does not get an object of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// Another tenant's, or the installation's. Nothing of it is told.
    Foreign,
    /// It was made in a namespace of this name that is no more.
    FormerNamespace,
}

/// Says what a custom resource with the uid `object` in the namespace `by` is to an object of `owner` that `holder` holds.
///
/// # Errors
/// See `Unclaimed`.
pub fn claim(
    owner: Option<&RingOwner>,
    holder: Option<&Uid>,
    by: &RingOwner,
    object: &Uid,
) -> Result<Claim, Unclaimed> {
    let owner = owner.filter(|owner| owner.tenant == by.tenant);
    let owner = owner.ok_or(Unclaimed::Foreign)?;
    if owner.namespace_uid != by.namespace_uid {
        return Err(Unclaimed::FormerNamespace);
    }
    Ok(match holder {
        Some(holder) if holder == object => Claim::Holds,
        Some(_) | None => Claim::Adopts,
    })
}

/// Why a ring is not given to a namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdoptError {
    /// The installation's own ring is nobody else's.
    #[error("the ring belongs to the installation and not to a namespace")]
    NoOwner,
    /// Names of accounts and secrets would mean others there.
    #[error("the ring belongs to {0}; only a namespace of that name can have it")]
    OtherNamespace(Tenant),
    /// It is its own.
    #[error("the ring belongs to this namespace already")]
    Same,
}

/// Whether a ring of `owner` can be given to `to`, a namespace that was made again.
///
/// # Errors
/// See `AdoptError`.
pub fn check_adoption(owner: Option<&RingOwner>, to: &RingOwner) -> Result<(), AdoptError> {
    let owner = owner.ok_or(AdoptError::NoOwner)?;
    if owner.tenant != to.tenant {
        return Err(AdoptError::OtherNamespace(owner.tenant.clone()));
    }
    if owner == to {
        return Err(AdoptError::Same);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(cluster: &str, namespace: &str, uid: &str) -> RingOwner {
        RingOwner {
            tenant: Tenant {
                cluster: cluster.parse().unwrap(),
                namespace: namespace.parse().unwrap(),
            },
            namespace_uid: uid.parse().unwrap(),
        }
    }

    #[test]
    fn only_the_same_namespace_of_the_same_cluster_claims_anything() {
        let by = owner("east", "payments", "1");
        let (object, other): (Uid, Uid) = ("a".parse().unwrap(), "b".parse().unwrap());
        for (of, expected) in [
            (Some(by.clone()), Ok(Claim::Holds)),
            (
                Some(owner("east", "payments", "2")),
                Err(Unclaimed::FormerNamespace),
            ),
            (
                Some(owner("west", "payments", "1")),
                Err(Unclaimed::Foreign),
            ),
            (Some(owner("east", "ledger", "1")), Err(Unclaimed::Foreign)),
            (None, Err(Unclaimed::Foreign)),
        ] {
            let claimed = claim(of.as_ref(), Some(&object), &by, &object);
            assert_eq!(claimed, expected, "{of:?}");
        }
        for free in [None, Some(&other)] {
            let claimed = claim(Some(&by), free, &by, &object);
            assert_eq!(claimed, Ok(Claim::Adopts), "{free:?}");
        }
    }

    #[test]
    fn a_ring_moves_to_the_same_namespace_made_again_and_nowhere_else() {
        let former = owner("east", "payments", "1");
        let check = |to: &RingOwner| check_adoption(Some(&former), to);
        assert_eq!(check(&owner("east", "payments", "2")), Ok(()));
        assert_eq!(check(&former), Err(AdoptError::Same));
        let tenant = former.tenant.clone();
        for to in [owner("west", "payments", "2"), owner("east", "ledger", "2")] {
            assert_eq!(check(&to), Err(AdoptError::OtherNamespace(tenant.clone())));
        }
        assert_eq!(check_adoption(None, &former), Err(AdoptError::NoOwner));
    }
}
