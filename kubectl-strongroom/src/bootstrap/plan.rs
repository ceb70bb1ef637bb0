//! The decision: what is made, changed or left, and what stands in the way. Nothing is touched here, and nothing is done
//! later that is not in the plan.

use std::path::{Path, PathBuf};

use super::{
    accounts::{Database, Taken},
    api_server,
    host::{Host, Kind, Seen},
    layout::{Account, Act, Content, ENCRYPTION, Entry, Layout, Once, PLUGIN_CONFIG, Secret},
    settings::{Program, Settings},
    template::{Writer, writer},
};

const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How what is there compares with what is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub(super) enum State {
    /// Nothing is there yet.
    New,
    /// Something else of ours is there.
    Changed,
    /// It is as it is wanted.
    Same,
    /// Somebody changed what we wrote, and it is left as it is.
    Edited,
}

impl State {
    pub(super) const fn is_work(self) -> bool {
        matches!(self, Self::New | Self::Changed)
    }
}

/// One thing to have or to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Group(Account),
    User(Account),
    Put(Entry),
    /// Write this pod, wait for its end, remove it.
    Once(Once),
    /// Remove what an interrupted run left.
    Remove(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) state: State,
    pub(super) step: Step,
}

/// Why nothing is done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("only root can give files to other users; run it as root")]
    NotRoot,
    #[error(
        "id {id} belongs to {by}; choose others with --key-service-uid, --kms-plugin-uid and --hsm-agent-uid"
    )]
    IdTaken { id: u32, by: String },
    #[error("the name {name} has id {id} already; give it with the flag of its user id")]
    NameTaken { name: &'static str, id: String },
    #[error("there is no folder {}: is a kubelet with static pods set up here? --manifests names another folder", .0.display())]
    NoManifests(PathBuf),
    #[error("{} {why}", path.display())]
    Unsafe { path: PathBuf, why: &'static str },
    #[error("{} was not written by bootstrap; move it away", .0.display())]
    Foreign(PathBuf),
    #[error(
        "the API server of this node already has the EncryptionConfiguration {}; two cannot be in force: take the \
         provider of {ENCRYPTION} over by hand, as docs/how-to/bootstrap.md says, and remove the flag first", .0.display()
    )]
    ForeignEncryption(PathBuf),
    #[error("in {ENCRYPTION} `identity` stands first, so nothing would be encrypted; put it last")]
    IdentityFirst,
    #[error(
        "this node's plugin asks a key service on another node; a second key service would be a second instance with \
         other keys. There is exactly one: a single point; data loss at most since the last backup"
    )]
    SecondKeyService,
    #[error(
        "the API server of this node already encrypts with Strongroom, but the instance is not here: mount its volume, \
         or leave the key service on the node where it is. There is exactly one: a single point; data loss at most \
         since the last backup"
    )]
    InstanceElsewhere,
    #[error(
        "this node was set up before, but the instance is not here: mount its volume or restore it; a new one could \
         not read what is encrypted"
    )]
    InstanceLost,
    #[error("the API server of this node is {0}; Strongroom needs Kubernetes 1.32 or later")]
    TooOld(String),
    #[error("this node has the key service itself; --join is for the others")]
    HasKeyService,
    #[error(
        "{} is not here, so the key service's kubeconfig cannot be signed; give --cluster-pki, or --no-kubeconfig", .0.display()
    )]
    NoCaKey(PathBuf),
    #[error(
        "port {0} of this node is taken; end what listens there, or give --port or --probes-port"
    )]
    PortTaken(u16),
}

/// What is done, in this order, unless something stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Planned>,
    pub(super) refusals: Vec<Refusal>,
}

impl Plan {
    pub(super) fn new(settings: &Settings, layout: &Layout, host: &Host) -> Self {
        let mut planner = Planner {
            settings,
            layout,
            host,
            plan: Self {
                steps: Vec::new(),
                refusals: Vec::new(),
            },
        };
        planner.refuse_situations();
        planner.check_way();
        planner.accounts();
        for entry in &layout.entries {
            planner.put(entry);
        }
        planner.once();
        for entry in layout.pods.iter().chain(&layout.administrator) {
            planner.put(entry);
        }
        planner.plan
    }

    /// The steps that change something.
    pub(super) fn work(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().filter(|planned| planned.state.is_work())
    }
}

struct Planner<'a> {
    settings: &'a Settings,
    layout: &'a Layout,
    host: &'a Host,
    plan: Plan,
}

impl Planner<'_> {
    fn refuse(&mut self, refusal: Refusal) {
        if !self.plan.refusals.contains(&refusal) {
            self.plan.refusals.push(refusal);
        }
    }

    fn add(&mut self, state: State, step: Step) {
        self.plan.steps.push(Planned { state, step });
    }

    /// The administrator and the pod of the key service come after init.
    fn was_initialised(&self) -> bool {
        let service = self.layout.pods.iter().filter(|pod| {
            let name = pod.path.file_stem();
            name.is_some_and(|name| name == Program::KeyService.full_name())
        });
        service
            .chain(&self.layout.administrator)
            .any(|entry| self.host.paths.contains_key(&entry.path))
    }

    fn refuse_situations(&mut self) {
        let host = self.host;
        let server = host.api_server.as_ref();
        let encryption = server.and_then(|server| server.encryption.as_deref());
        let is_ours = encryption == Some(Path::new(ENCRYPTION));
        let is_here = host.instance.is_some();
        let joins = self.settings.join.is_some();
        let is_lost = !is_here && !joins;
        let situations = [
            (host.euid != 0, Refusal::NotRoot),
            (joins && is_here, Refusal::HasKeyService),
            (
                !joins && host.text(PLUGIN_CONFIG).is_some_and(api_server::is_remote),
                Refusal::SecondKeyService,
            ),
            (is_lost && self.was_initialised(), Refusal::InstanceLost),
            (
                is_lost && !self.was_initialised() && is_ours,
                Refusal::InstanceElsewhere,
            ),
            (
                host.text(ENCRYPTION)
                    .is_some_and(api_server::identity_is_first),
                Refusal::IdentityFirst,
            ),
            (
                !host.paths.contains_key(&self.settings.manifests),
                Refusal::NoManifests(self.settings.manifests.clone()),
            ),
        ];
        for (holds, refusal) in situations {
            if holds {
                self.refuse(refusal);
            }
        }
        if let Some(path) = encryption.filter(|_| !is_ours) {
            self.refuse(Refusal::ForeignEncryption(path.to_owned()));
        }
        if let Some(server) = server.filter(|server| server.is_too_old()) {
            self.refuse(Refusal::TooOld(server.version.clone().unwrap_or_default()));
        }
        if let Some(access) = &self.settings.access
            && !host.has_ca_key
            && !host.kubeconfig_is_good
        {
            self.refuse(Refusal::NoCaKey(access.ca_key.clone()));
        }
        for port in &host.taken_ports {
            self.refuse(Refusal::PortTaken(*port));
        }
    }

    /// Folders that lead to ours must be such that nobody but root can exchange what they hold.
    fn check_way(&mut self) {
        let is_ours = |path: &Path| self.layout.paths().any(|own| own == path);
        let unsafe_folders: Vec<Refusal> = self
            .host
            .paths
            .iter()
            .filter(|(path, _)| !is_ours(path))
            .filter_map(|(path, seen)| {
                let why = self.fault(seen, 0)?;
                let path = path.clone();
                Some(Refusal::Unsafe { path, why })
            })
            .collect();
        for refusal in unsafe_folders {
            self.refuse(refusal);
        }
    }

    /// What is wrong with a folder that `owner` may own beside root.
    fn fault(&self, seen: &Seen, owner: u32) -> Option<&'static str> {
        match seen.kind {
            Kind::Link => Some("is a symbolic link"),
            Kind::File(_) | Kind::Other => Some("is not a folder"),
            Kind::Folder if ![0, owner].contains(&seen.owner) => Some("belongs to another user"),
            Kind::Folder if seen.mode & WRITABLE_BY_OTHERS != 0 => {
                Some("can be written by others than its owner")
            }
            Kind::Folder => None,
        }
    }

    fn accounts(&mut self) {
        for account in &self.layout.accounts {
            let (group, user) = (Database(&self.host.group), Database(&self.host.passwd));
            self.account(group.has(account), Step::Group(account.clone()));
            self.account(user.has(account), Step::User(account.clone()));
        }
    }

    fn account(&mut self, found: Result<bool, Taken>, step: Step) {
        match found {
            Ok(true) => self.add(State::Same, step),
            Ok(false) => self.add(State::New, step),
            Err(Taken::Id { id, by }) => self.refuse(Refusal::IdTaken { id, by }),
            Err(Taken::Name { name, id }) => self.refuse(Refusal::NameTaken { name, id }),
        }
    }

    fn put(&mut self, entry: &Entry) {
        match self.state(entry) {
            Ok(state) => self.add(state, Step::Put(entry.clone())),
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn state(&self, entry: &Entry) -> Result<State, Refusal> {
        let Some(seen) = self.host.paths.get(&entry.path) else {
            return Ok(State::New);
        };
        let fits = (seen.owner, seen.group, seen.mode) == (entry.owner, entry.group, entry.mode);
        let same = |content: bool| match fits && content {
            true => State::Same,
            false => State::Changed,
        };
        match &entry.content {
            Content::Folder => match self.fault(seen, entry.owner) {
                Some(why) => Err(Refusal::Unsafe {
                    path: entry.path.clone(),
                    why,
                }),
                None => Ok(same(true)),
            },
            Content::Text(wanted) => {
                let found = file(entry, seen)?;
                match writer(&String::from_utf8_lossy(found)) {
                    Writer::Other => Err(Refusal::Foreign(entry.path.clone())),
                    Writer::Edited if !self.settings.overwrite => Ok(State::Edited),
                    Writer::Edited | Writer::Ourselves => Ok(same(found == wanted.as_bytes())),
                }
            }
            Content::Secret(secret) => file(entry, seen).map(|_| same(self.is_good(*secret))),
        }
    }

    fn is_good(&self, secret: Secret) -> bool {
        match secret {
            Secret::Kubeconfig => self.host.kubeconfig_is_good,
            // It is there only while it is used.
            Secret::Enrolment => false,
            Secret::AdministratorKey | Secret::AdministratorCertificate | Secret::Root => {
                self.host.administrator_is_good
            }
        }
    }

    fn once(&mut self) {
        let once = &self.layout.once;
        let is_done = match once.act {
            Act::Init => self.host.instance.is_some(),
            Act::Enrol => self.host.is_enrolled && !self.settings.overwrite,
        };
        let left = [&once.pod].into_iter().chain(&once.secret);
        for entry in left.clone() {
            if let Err(refusal) = self.state(entry) {
                self.refuse(refusal);
            }
        }
        if !is_done {
            self.add(State::New, Step::Once(once.clone()));
            return;
        }
        for entry in left {
            if self.host.paths.contains_key(&entry.path) {
                self.add(State::Changed, Step::Remove(entry.path.clone()));
            }
        }
    }
}

/// The content of what must be a file.
fn file<'a>(entry: &Entry, seen: &'a Seen) -> Result<&'a [u8], Refusal> {
    match &seen.kind {
        Kind::File(bytes) => Ok(bytes),
        Kind::Folder | Kind::Link | Kind::Other => Err(Refusal::Unsafe {
            path: entry.path.clone(),
            why: "is not a file",
        }),
    }
}

impl Entry {
    /// Tells whether it may be shown.
    pub(super) fn shown(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Folder | Content::Secret(_) => None,
        }
    }

    /// What stands for it where its content does not.
    pub(super) fn note(&self) -> Option<&'static str> {
        match &self.content {
            Content::Folder | Content::Text(_) => None,
            Content::Secret(Secret::Kubeconfig) => {
                Some("made on the node: a client certificate signed by the cluster, and its key")
            }
            Content::Secret(Secret::AdministratorKey) => Some("made on the node"),
            Content::Secret(Secret::AdministratorCertificate) => {
                Some("issued by the key service for 24 hours")
            }
            Content::Secret(Secret::Root) => Some("given by the key service"),
            Content::Secret(Secret::Enrolment) => Some("a copy of the enrolment file"),
        }
    }
}
