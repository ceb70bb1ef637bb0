//! Whether the pod's service account may read a secret, as the key service has it on record.
//!
//! A binding holds the account's uid: an account that was made anew is another one.

use super::{
    chain::{Link, Part},
    observed::{Instance, SecretInService, Seen},
};
use crate::cluster::objects::{AccessRule, Bound, Conditions, KeyRing, ManagedSecret, Named};

const READER: &str = "SecretReader";

/// Who wants to read what.
pub(super) struct Question<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) seen: &'a Seen<Named>,
    pub(super) secret: &'a ManagedSecret,
    /// None where it is not seen.
    pub(super) ring: Option<&'a KeyRing>,
    pub(super) instance: Option<&'a Instance>,
}

pub(super) fn link(question: &Question<'_>) -> Link {
    let Question {
        namespace,
        account,
        seen,
        secret,
        ring,
        instance,
    } = question;
    let name = &secret.metadata.name;
    let link = Link::new(Part::Access, format!("sa/{account} on msec/{name}"));
    let who = format!("ServiceAccount {namespace}/{account}");
    let uid = match seen {
        Seen::There(account) => Some(account.metadata.uid.as_str()),
        Seen::Hidden(_) => None,
        Seen::Missing => {
            return link.broken("NoServiceAccount", format!("there is no {who}"));
        }
    };
    let bound = match bound(question.account, uid, secret, *ring, *instance) {
        Ok(place) => return link.whole(format!("has {READER} by spec.access of {place}")),
        Err(bound) => bound,
    };
    let asked = names(&secret.spec.access, account)
        || ring.is_some_and(|ring| names(&ring.spec.access, account));
    if bound {
        return link.not_yet(
            "AccountMadeAnew",
            format!("{who} was made anew, and is bound again when the operator sees it"),
        );
    }
    if asked {
        let cause = unapplied(&secret.status)
            .or_else(|| ring.and_then(|ring| unapplied(&ring.status)))
            .unwrap_or_else(|| {
                format!("{who} stands under spec.access, and is bound when the operator has told the key service")
            });
        return link.not_yet("NotBoundYet", cause);
    }
    if ring.is_none() && instance.is_none() {
        return link.not_seen(format!(
            "ManagedSecret {namespace}/{name} does not name the account; the KeyRing, which you may not see, can"
        ));
    }
    link.denied(
        "RoleMissing",
        format!(
            "{who} has no role {READER} on ManagedSecret {namespace}/{name}; add it under spec.access"
        ),
    )
}

/// What binds the account; otherwise, whether another account of that name is bound.
fn bound(
    account: &str,
    uid: Option<&str>,
    secret: &ManagedSecret,
    ring: Option<&KeyRing>,
    instance: Option<&Instance>,
) -> Result<String, bool> {
    let name = &secret.metadata.name;
    // The key service's word is newer than a status.
    let of_secret = match instance.and_then(|instance| instance.secrets.get(name)) {
        Some(SecretInService::There { access, .. }) => access,
        Some(SecretInService::Missing) | None => &secret.status.access,
    };
    let places = [
        (of_secret, format!("ManagedSecret {name}")),
        (
            ring.map_or(const { &Vec::new() }, |ring| &ring.status.access),
            ring.map(|ring| format!("KeyRing {}", ring.metadata.name))
                .unwrap_or_default(),
        ),
    ];
    let mut former = false;
    for (access, place) in places {
        let mine = |bound: &&Bound| bound.role == READER && bound.service_account == account;
        for bound in access.iter().filter(mine) {
            if uid.is_none_or(|uid| bound.uid == uid) {
                return Ok(place);
            }
            former = true;
        }
    }
    Err(former)
}

fn names(access: &[AccessRule], account: &str) -> bool {
    access
        .iter()
        .filter(|rule| rule.role == READER)
        .flat_map(|rule| &rule.subjects)
        .any(|subject| subject.kind == "ServiceAccount" && subject.name == account)
}

/// The operator's sentence when it holds bindings back.
fn unapplied(status: &impl Conditions) -> Option<String> {
    status
        .condition("AccessApplied")
        .filter(|condition| condition.status != "True")
        .map(|condition| condition.message.clone())
}
