//! Which other objects an object means.

use std::collections::BTreeSet;

use super::{Blocked, Reason};
use crate::crds::RingReference;

/// Finds the ring: the one that is named, the one of `before`, or the only one there is.
///
/// An object stays in the ring that it was in: a second ring of the namespace does not make it ambiguous.
///
/// # Errors
///
/// When there is none, or no telling which.
pub fn ring(
    namespace: &str,
    named: Option<&RingReference>,
    before: Option<&str>,
    rings: &[String],
) -> Result<String, Blocked> {
    if let Some(RingReference { name }) = named {
        return if rings.contains(name) {
            Ok(name.clone())
        } else {
            Err(Blocked {
                reason: Reason::RingNotFound,
                message: format!(
                    "there is no KeyRing {namespace}/{name}; the platform makes it, or name another under spec.keyRingRef"
                ),
            })
        };
    }
    if let Some(ring) = before.filter(|before| rings.iter().any(|ring| ring == before)) {
        return Ok(ring.to_owned());
    }
    match rings {
        [ring] => Ok(ring.clone()),
        [] => Err(Blocked {
            reason: Reason::RingNotFound,
            message: format!("there is no KeyRing in namespace {namespace}; the platform makes it"),
        }),
        _ => Err(Blocked {
            reason: Reason::RingAmbiguous,
            message: format!(
                "namespace {namespace} has {} KeyRings; name one under spec.keyRingRef",
                rings.len()
            ),
        }),
    }
}

/// Says whether a secret that is named is there.
///
/// # Errors
///
/// When it is not.
pub fn secret(namespace: &str, name: &str, secrets: &BTreeSet<String>) -> Result<(), Blocked> {
    if secrets.contains(name) {
        return Ok(());
    }
    Err(Blocked {
        reason: Reason::SecretNotFound,
        message: format!("there is no ManagedSecret {namespace}/{name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        named: Option<&str>,
        before: Option<&str>,
        rings: &[&str],
        expected: Result<&str, Reason>,
    ) {
        let named = named.map(|name| RingReference {
            name: name.to_owned(),
        });
        let rings: Vec<String> = rings.iter().map(|&ring| ring.to_owned()).collect();
        let found = ring("ns", named.as_ref(), before, &rings);
        assert_eq!(
            found.as_deref().map_err(|blocked| blocked.reason),
            expected,
            "{named:?} {before:?} {rings:?}"
        );
    }

    #[test]
    fn ring_that_is_named_must_be_there() {
        check(Some("a"), None, &["a", "b"], Ok("a"));
        check(Some("a"), Some("b"), &["b"], Err(Reason::RingNotFound));
    }

    #[test]
    fn only_ring_need_not_be_named() {
        check(None, None, &["a"], Ok("a"));
        check(None, None, &[], Err(Reason::RingNotFound));
        check(None, None, &["a", "b"], Err(Reason::RingAmbiguous));
    }

    #[test]
    fn object_stays_in_the_ring_that_it_was_in() {
        check(None, Some("b"), &["a", "b"], Ok("b"));
        check(None, Some("c"), &["a", "b"], Err(Reason::RingAmbiguous));
    }

    #[test]
    fn sentence_names_the_ring_and_the_field() {
        let named = RingReference {
            name: "a".to_owned(),
        };
        let blocked = ring("ns", Some(&named), None, &[]).unwrap_err();
        assert!(blocked.message.contains("ns/a"), "{}", blocked.message);
        assert!(blocked.message.contains("spec.keyRingRef"));
    }
}
