//! What `why` prints: the links up to the broken one, and the sentence.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    chain::{self, Link, State},
    observed::{Observed, Subject},
    walk,
};
use crate::{
    exit::Exit,
    output::{columns, plain},
};

/// What `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    kind: &'static str,
    namespace: String,
    name: String,
    observed_at: Timestamp,
    /// Whether nothing is broken.
    ok: bool,
    broken: Option<Link>,
    links: Vec<Link>,
    #[serde(skip)]
    concerned: bool,
}

impl Report {
    pub(super) fn new(observed: &Observed, now: Timestamp) -> Self {
        let links = walk::walk(observed);
        let broken = chain::broken(&links).map(|index| links[index].clone());
        let (kind, name) = match &observed.subject {
            Subject::Pod(seen) => ("Pod", &seen.pod.metadata.name),
            Subject::Secret(name) => ("ManagedSecret", name),
            Subject::Bundle(name) => ("SecretBundle", name),
        };
        Self {
            kind,
            namespace: observed.namespace.clone(),
            name: name.clone(),
            observed_at: now,
            ok: broken.is_none(),
            broken,
            links,
            concerned: walk::is_concerned(observed),
        }
    }

    pub(super) fn exit(&self) -> Exit {
        chain::exit(&self.links)
    }

    pub(super) fn text(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
            ..
        } = self;
        let subject = format!("{kind} {}/{}", plain(namespace), plain(name));
        if !self.concerned {
            return format!(
                "{subject} has no volume of csi.strongroom.dev, so nothing of Strongroom holds it up.\n"
            );
        }
        let shown = chain::broken(&self.links).map_or(self.links.len(), |index| index + 1);
        let rows: Vec<_> = self.links[..shown].iter().map(row).collect();
        let end = match &self.broken {
            Some(link) => format!("{}: {}", verdict(link.state), plain(&link.message)),
            None => format!("Nothing that was seen is broken on the way of {subject}."),
        };
        format!("{}\n{end}\n", columns(&rows))
    }
}

/// A broken link's sentence stands below the table.
fn row(link: &Link) -> [String; 4] {
    let detail = match link.state {
        State::Whole | State::NotSeen => &link.message,
        State::Waits | State::NotYet | State::Denied | State::Broken => &link.reason,
    };
    [
        link.state.mark().to_owned(),
        link.part.to_string(),
        plain(&link.object),
        plain(detail),
    ]
}

const fn verdict(state: State) -> &'static str {
    match state {
        State::Whole | State::NotSeen => "Whole",
        State::Waits | State::NotYet => "Not yet",
        State::Denied => "Denied",
        State::Broken => "Broken",
    }
}
