//! The links between a volume and the HSM, and the rule that finds the one that is broken.

use serde::Serialize;

use crate::exit::Exit;

/// One link. What is broken has a sentence with what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Link {
    pub(super) part: Part,
    pub(super) object: String,
    pub(super) state: State,
    /// One word; empty for what is whole.
    pub(super) reason: String,
    pub(super) message: String,
}

/// Which part of the way, from the pod on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, strum::Display)]
pub(super) enum Part {
    Pod,
    Volume,
    Driver,
    Bundle,
    Secret,
    Access,
    KeyRing,
    KeyService,
    #[strum(serialize = "HSM")]
    #[serde(rename = "HSM")]
    Hsm,
    Kubelet,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum State {
    Whole,
    /// It is not known; taken for whole.
    NotSeen,
    /// It is not done yet, perhaps because of something further on.
    Waits,
    /// It is not there yet, and that has no cause further on.
    NotYet,
    Denied,
    Broken,
}

impl State {
    /// For people: what is not in order stands out.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Whole => "ok",
            Self::NotSeen => "not seen",
            Self::Waits => "waits",
            Self::NotYet => "NOT YET",
            Self::Denied => "DENIED",
            Self::Broken => "BROKEN",
        }
    }

    const fn exit(self) -> Exit {
        match self {
            Self::Whole | Self::NotSeen => Exit::Ok,
            Self::Waits | Self::NotYet => Exit::NotYet,
            Self::Denied => Exit::Denied,
            Self::Broken => Exit::Failed,
        }
    }

    const fn is_definite(self) -> bool {
        matches!(self, Self::NotYet | Self::Denied | Self::Broken)
    }
}

impl Link {
    pub(super) fn new(part: Part, object: impl Into<String>) -> Self {
        Self {
            part,
            object: object.into(),
            state: State::Whole,
            reason: String::new(),
            message: String::new(),
        }
    }

    pub(super) fn whole(self, message: impl Into<String>) -> Self {
        self.with(State::Whole, "", message)
    }

    pub(super) fn not_seen(self, message: impl Into<String>) -> Self {
        self.with(State::NotSeen, "NotSeen", message)
    }

    pub(super) fn waits(self, reason: &str, message: impl Into<String>) -> Self {
        self.with(State::Waits, reason, message)
    }

    pub(super) fn not_yet(self, reason: &str, message: impl Into<String>) -> Self {
        self.with(State::NotYet, reason, message)
    }

    pub(super) fn denied(self, reason: &str, message: impl Into<String>) -> Self {
        self.with(State::Denied, reason, message)
    }

    pub(super) fn broken(self, reason: &str, message: impl Into<String>) -> Self {
        self.with(State::Broken, reason, message)
    }

    fn with(self, state: State, reason: &str, message: impl Into<String>) -> Self {
        Self {
            state,
            reason: reason.to_owned(),
            message: message.into(),
            ..self
        }
    }
}

/// The index of the first broken link. What only waits counts when nothing definite does, and then the furthest of it, since
/// that is what the others wait for.
pub(super) fn broken(links: &[Link]) -> Option<usize> {
    let definite = links.iter().position(|link| link.state.is_definite());
    definite.or_else(|| links.iter().rposition(|link| link.state == State::Waits))
}

/// How the command ends.
pub(super) fn exit(links: &[Link]) -> Exit {
    broken(links).map_or(Exit::Ok, |index| links[index].state.exit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(states: &[State]) -> (Option<usize>, Exit) {
        let link = |state: &State| Link::new(Part::Pod, "").with(*state, "", "");
        let links: Vec<Link> = states.iter().map(link).collect();
        (broken(&links), exit(&links))
    }

    #[test]
    fn the_first_definite_link_counts_and_otherwise_the_furthest_that_waits() {
        use State::{Broken, Denied, NotSeen, NotYet, Waits, Whole};
        assert_eq!(chain(&[Whole, NotSeen]), (None, Exit::Ok));
        assert_eq!(chain(&[Whole, Denied, Broken]), (Some(1), Exit::Denied));
        assert_eq!(chain(&[Waits, Whole, Broken]), (Some(2), Exit::Failed));
        assert_eq!(chain(&[Waits, NotYet, Broken]), (Some(1), Exit::NotYet));
        assert_eq!(chain(&[Waits, Waits, Whole]), (Some(1), Exit::NotYet));
    }
}
