//! What follows from what was seen. An instance is made only where nothing of one is: no store, no audit log, a token without
//! our objects, a witness that names nobody, and somebody who asks. What was begun is finished.

use strongroom_core::InstanceId;

use crate::kubernetes::request::Request;

/// The folder of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StoreSeen {
    /// It is not there yet; why.
    Late(String),
    /// Nothing of an instance.
    Empty,
    /// An init that was begun for this instance.
    Begun(InstanceId),
    /// A store, or what was pinned beside it: a start decides on both.
    There,
}

/// The folder of the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogSeen {
    /// It cannot be looked at; why.
    Late(String),
    /// No log.
    None,
    /// A log of some instance.
    There,
}

/// The token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TokenSeen {
    /// Nobody can say what it holds; why.
    Late(String),
    /// Nothing of a token; the agent makes it when it is asked.
    NotMade,
    /// None of our objects.
    Empty,
    /// Objects of this instance, all or some.
    Instance(InstanceId),
}

/// ConfigMap `strongroom-witness`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WitnessSeen {
    /// The API server did not say; why.
    Unknown(String),
    /// It names nobody.
    Nobody,
    /// It names this instance.
    Instance(InstanceId),
    /// It names something else.
    Unreadable(String),
}

/// All that the decision depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) store: StoreSeen,
    pub(super) log: LogSeen,
    pub(super) token: TokenSeen,
    pub(super) witness: WitnessSeen,
    pub(super) request: Request,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// There is an instance: start.
    GoOn,
    /// Wait for a request; everything is as it should be.
    Await,
    /// Wait for something that is late, and say it.
    Wait(String),
    /// Something of an instance is here or known, and the rest is not: say it, and make nothing.
    Refuse(String),
    /// Make the instance, or finish making it.
    Make,
}

/// Decides.
pub(super) fn decide(seen: &Seen) -> Step {
    match &seen.store {
        StoreSeen::There => Step::GoOn,
        StoreSeen::Late(why) => Step::Wait(why.clone()),
        StoreSeen::Begun(instance) => finish(*instance, seen),
        StoreSeen::Empty => begin(seen),
    }
}

fn finish(instance: InstanceId, seen: &Seen) -> Step {
    match &seen.witness {
        WitnessSeen::Unknown(why) => return Step::Wait(unknown(why)),
        WitnessSeen::Instance(named) if *named != instance => {
            return Step::Refuse(format!(
                "strongroom-witness names instance {named}, but init was begun here for {instance}: mount the volumes of \
                 {named}"
            ));
        }
        WitnessSeen::Unreadable(text) => return Step::Refuse(unreadable(text)),
        WitnessSeen::Nobody | WitnessSeen::Instance(_) => {}
    }
    match &seen.token {
        TokenSeen::Late(why) => Step::Wait(why.clone()),
        TokenSeen::Instance(other) if *other != instance => Step::Refuse(format!(
            "the token has objects of instance {other}, but init was begun here for {instance}: mount the volume of its \
             token"
        )),
        TokenSeen::NotMade | TokenSeen::Empty | TokenSeen::Instance(_) => Step::Make,
    }
}

fn begin(seen: &Seen) -> Step {
    match &seen.witness {
        WitnessSeen::Unknown(why) => return Step::Wait(unknown(why)),
        WitnessSeen::Instance(named) => {
            return Step::Refuse(format!(
                "strongroom-witness names instance {named}, but its store is not here: mount its volumes; only if they are \
                 lost for ever, remove the ConfigMap and ask for init again"
            ));
        }
        WitnessSeen::Unreadable(text) => return Step::Refuse(unreadable(text)),
        WitnessSeen::Nobody => {}
    }
    match (&seen.token, &seen.log) {
        (TokenSeen::Instance(instance), _) => Step::Refuse(format!(
            "the token has objects of instance {instance}, but its store is not here: mount its volume, or an empty one \
             for the token"
        )),
        (_, LogSeen::There) => Step::Refuse(
            "there is an audit log, but the store of its instance is not here: mount its volume, or an empty one for the \
             log"
            .to_owned(),
        ),
        (TokenSeen::Late(why), _) | (_, LogSeen::Late(why)) => Step::Wait(why.clone()),
        (TokenSeen::NotMade | TokenSeen::Empty, LogSeen::None) => match seen.request {
            Request::Fresh(_) => Step::Make,
            Request::None | Request::Stale => Step::Await,
        },
    }
}

fn unknown(why: &str) -> String {
    format!("the API server did not say yet whether there is an instance: {why}")
}

fn unreadable(text: &str) -> String {
    format!(
        "strongroom-witness names {text:?}, which is no instance: correct the ConfigMap; nothing is made beside it"
    )
}

#[cfg(test)]
mod tests;
