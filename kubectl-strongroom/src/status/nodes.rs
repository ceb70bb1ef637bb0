//! The nodes of `status`: who was invited or enrolled, and what became of it.

use jiff::Timestamp;
use serde::Serialize;
use strongroom_api::strongroom::v1::{NodeIdentity, NodeState};

use crate::output::{columns, plain};

/// One identity, as `-o json` prints it. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NodeReport {
    node: String,
    role: String,
    state: &'static str,
    serial: String,
    not_after: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    revocation_cause: String,
}

impl NodeReport {
    pub(super) fn new(identity: NodeIdentity) -> Self {
        let state = state(identity.state());
        let NodeIdentity {
            node,
            role,
            state: _,
            serial,
            not_after,
            revoked_at,
            revocation_cause,
        } = identity;
        let seconds = |at: prost_types::Timestamp| Timestamp::new(at.seconds, 0).ok();
        Self {
            node,
            role,
            state,
            serial,
            not_after: not_after.and_then(seconds),
            revoked_at: revoked_at.and_then(seconds),
            revocation_cause,
        }
    }

    fn row(&self) -> [String; 4] {
        let time = |at: Option<Timestamp>| at.map(|at| at.to_string()).unwrap_or_default();
        let (state, at) = match self.revoked_at {
            Some(at) => (
                format!("{} ({})", self.state, self.revocation_cause),
                Some(at),
            ),
            None => (self.state.to_owned(), self.not_after),
        };
        [
            plain(&self.node),
            plain(&self.role),
            plain(&state),
            time(at),
        ]
    }
}

/// One line for each node; nothing when there is none.
pub(super) fn table(nodes: &[NodeReport]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let heading = ["NODE", "ROLE", "STATE", "UNTIL"].map(str::to_owned);
    let rows: Vec<_> = [heading]
        .into_iter()
        .chain(nodes.iter().map(NodeReport::row))
        .collect();
    format!("\n{}", columns(&rows))
}

const fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Unspecified => "Unknown",
        NodeState::Invited => "Invited",
        NodeState::Enrolled => "Enrolled",
        NodeState::Expired => "Expired",
        NodeState::Revoked => "Revoked",
    }
}
