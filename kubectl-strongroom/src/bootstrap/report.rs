//! How a plan is shown: a table for people, everything for programs. Secrets are in neither.

use std::path::Path;

use serde::Serialize;

use super::{
    api_server::ApiServer,
    host::Host,
    layout::{Account, Act, Content, Entry, Once, PATCH, wait_container},
    plan::{Plan, Planned, State, Step},
    settings::{Program, Settings},
};
use crate::output::columns;

/// A plan with what is left to a person.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    steps: Vec<Line>,
    refusals: Vec<String>,
    api_server: ToAdd,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_fingerprint: Option<String>,
}

/// One step.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    state: &'static str,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
}

/// What kube-apiserver does not have yet.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ToAdd {
    flags: Vec<String>,
    folders: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    init_container: Option<InitContainer>,
}

/// What lets kube-apiserver start after the plugin. It serves without, only later.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct InitContainer {
    /// The image that it has instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead_of: Option<String>,
    manifest: String,
}

impl Report {
    pub(super) fn new(plan: &Plan, host: &Host, settings: &Settings) -> Self {
        let server = host.api_server.clone().unwrap_or_default();
        let identity = host.instance.clone();
        Self {
            steps: plan.steps.iter().map(Line::new).collect(),
            refusals: plan.refusals.iter().map(ToString::to_string).collect(),
            api_server: ToAdd::new(&server, settings),
            instance: identity.as_ref().map(|identity| identity.id.clone()),
            audit_fingerprint: identity.map(|identity| identity.audit_fingerprint),
        }
    }

    /// The table of all steps.
    pub(super) fn plan_text(&self) -> String {
        let heading = ["STATE", "WHAT", "OWNER", "MODE"].map(str::to_owned);
        let rows = self.steps.iter().map(Line::row);
        let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
        format!("{}\n{}", columns(&rows), self.sum())
    }

    /// How many steps are of which state.
    fn sum(&self) -> String {
        let count = |state: State| {
            let name: &'static str = state.into();
            self.steps.iter().filter(|line| line.state == name).count()
        };
        let (new, changed) = (count(State::New), count(State::Changed));
        let (same, edited) = (count(State::Same), count(State::Edited));
        let edited = match edited {
            0 => String::new(),
            edited => format!(", {edited} edited by hand and left alone"),
        };
        format!("{new} new, {changed} changed, {same} the same{edited}.\n")
    }

    /// What is known and left to do once everything is done.
    pub(super) fn end_text(&self) -> String {
        let mut text = String::new();
        if let (Some(instance), Some(fingerprint)) = (&self.instance, &self.audit_fingerprint) {
            text.push_str(&format!(
                "instance:          {instance}\n\
                 audit fingerprint: {fingerprint}\n\
                 Keep the fingerprint somewhere else than on this node: the audit log is verified with it.\n"
            ));
        }
        text + &self.api_server.text()
    }
}

impl ToAdd {
    fn new(server: &ApiServer, settings: &Settings) -> Self {
        let folders = server.missing_folders();
        Self {
            flags: server.missing_flags(),
            folders: folders.iter().map(|path| shown(path)).collect(),
            init_container: InitContainer::new(server, settings),
        }
    }

    fn text(&self) -> String {
        let Self {
            flags,
            folders,
            init_container,
        } = self;
        if flags.is_empty() && folders.is_empty() && init_container.is_none() {
            return "kube-apiserver has its flags, its folders and its init container.\n"
                .to_owned();
        }
        let mut text = format!(
            "Add to kube-apiserver on this node; folders and init container are in {PATCH}, as kubeadm takes them:\n"
        );
        for flag in flags {
            text.push_str(&format!("  flag    {flag}\n"));
        }
        for folder in folders {
            text.push_str(&format!(
                "  folder  {folder}, as a hostPath of type Directory at the same path\n"
            ));
        }
        text + &init_container
            .as_ref()
            .map_or_else(String::new, InitContainer::text)
    }
}

impl InitContainer {
    /// What is missing; nothing when it is there with the image that the plugin has.
    fn new(server: &ApiServer, settings: &Settings) -> Option<Self> {
        let found = server.waits_with.clone();
        let is_good = found.as_ref() == Some(&settings.image(Program::KmsPlugin));
        (!is_good).then(|| Self {
            instead_of: found,
            manifest: wait_container(settings),
        })
    }

    fn text(&self) -> String {
        let Self {
            instead_of,
            manifest,
        } = self;
        let why = instead_of.as_ref().map_or_else(
            || "without it a plugin that comes late is followed by an API server minutes later".to_owned(),
            |image| format!("instead of the one with {image}, which the node may remove since its plugin has another"),
        );
        format!("  init container, {why}:\n{manifest}")
    }
}

impl Line {
    fn new(planned: &Planned) -> Self {
        let line = match &planned.step {
            Step::Group(account) => Self::account("group", account),
            Step::User(account) => Self::account("user", account),
            Step::Put(entry) => Self::entry(entry),
            Step::Once(once) => Self::once(once),
            Step::Remove(path) => Self {
                what: "remove",
                path: Some(shown(path)),
                ..Self::default()
            },
        };
        Self {
            state: planned.state.into(),
            ..line
        }
    }

    fn once(once: &Once) -> Self {
        let (what, note) = match once.act {
            Act::Init => (
                "init",
                "a pod that makes token and instance, waited for and removed again",
            ),
            Act::Enrol => (
                "enrol",
                "a pod that gets the node's first certificate, waited for and removed again",
            ),
        };
        Self {
            what,
            note: Some(note),
            ..Self::entry(&once.pod)
        }
    }

    fn account(what: &'static str, account: &Account) -> Self {
        Self {
            what,
            name: Some(account.name),
            id: Some(account.id),
            ..Self::default()
        }
    }

    fn entry(entry: &Entry) -> Self {
        Self {
            what: match entry.content {
                Content::Folder => "folder",
                Content::Text(_) | Content::Secret(_) => "file",
            },
            path: Some(shown(&entry.path)),
            owner: Some(entry.owner),
            group: Some(entry.group),
            mode: Some(format!("{:04o}", entry.mode)),
            note: entry.note(),
            content: entry.shown().map(str::to_owned),
            ..Self::default()
        }
    }

    fn row(&self) -> [String; 4] {
        let name = || {
            format!(
                "{} {} ({})",
                self.what,
                self.name.unwrap_or(""),
                self.id.unwrap_or(0)
            )
        };
        let what = match (&self.path, self.what) {
            (None, _) => name(),
            (Some(path), "folder") => format!("{path}/"),
            (Some(path), "file") => path.clone(),
            (Some(path), other) => format!("{other} {path}"),
        };
        let owner = self.owner.zip(self.group);
        [
            self.state.to_owned(),
            what,
            owner.map_or_else(String::new, |(owner, group)| format!("{owner}:{group}")),
            self.mode.clone().unwrap_or_default(),
        ]
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
