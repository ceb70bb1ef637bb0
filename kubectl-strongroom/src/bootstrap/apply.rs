//! Does what the plan says, step by step, and waits where something else has to happen first.

use std::{
    io::{self, Write},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use super::{
    accounts::{group_line, user_line},
    certificate::{self, CertificateError, Issued},
    files::{self, WriteError},
    host::{self, LookError, Root},
    instance,
    join::{self, JoinError},
    kubeconfig,
    layout::{Act, Content, Entry, Once, Secret},
    logs::{Logs, Meaning},
    plan::{Plan, Step},
    probe, processes,
    settings::{Program, Settings},
};
use crate::output::plain;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// For how long nobody must be seen to be gone.
const QUIET: Duration = Duration::from_secs(2);

/// Why the node is not set up. What was done stays; the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Join(#[from] JoinError),
    #[error("the key service's kubeconfig cannot be made")]
    Kubeconfig(#[source] rcgen::Error),
    #[error("the cluster's certificate authority {} is not here", .0.display())]
    NoCa(PathBuf),
    #[error("the administrator's certificate is not issued")]
    Certificate(#[from] CertificateError),
    #[error("{act} was refused: {reason}")]
    Refused { act: &'static str, reason: String },
    #[error(
        "{act} has not finished in time; its pod is removed, and the next run goes on where it was. {last}"
    )]
    ActLate { act: &'static str, last: String },
    #[error("{program} is not ready in time: {missing}; run it again to go on")]
    Late {
        program: &'static str,
        missing: String,
    },
    #[error(
        "a process with user id {0} runs on this node, and init must be alone; end it, or wait for its end"
    )]
    NotAlone(u32),
    #[error("cannot write progress")]
    Progress(#[from] io::Error),
}

impl ApplyError {
    /// Nothing is wrong yet, as far as it is known.
    pub(crate) const fn is_late(&self) -> bool {
        matches!(
            self,
            Self::ActLate { .. } | Self::Late { .. } | Self::NotAlone(_)
        )
    }
}

/// One run.
pub(super) struct Apply<'a> {
    pub(super) root: &'a Root,
    pub(super) settings: &'a Settings,
    /// Ourselves, to be run as another user.
    pub(super) program: PathBuf,
    pub(super) timeout: Duration,
    pub(super) err: &'a mut dyn Write,
    /// Issued when the first of its files is written.
    pub(super) issued: Option<Issued>,
}

impl Apply<'_> {
    /// Does all steps in order.
    pub(super) fn run(mut self, plan: &Plan) -> Result<(), ApplyError> {
        for planned in plan.work() {
            self.step(&planned.step)?;
        }
        for program in self.settings.programs() {
            self.wait_ready(*program)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), ApplyError> {
        match step {
            Step::Group(account) => {
                files::add_line(self.root, "/etc/group", &group_line(account))?;
                self.say(&format!("group {} ({})", account.name, account.id))
            }
            Step::User(account) => {
                files::add_line(self.root, "/etc/passwd", &user_line(account))?;
                self.say(&format!("user {} ({})", account.name, account.id))
            }
            Step::Put(entry) => {
                let content = self.content(entry)?;
                files::put(self.root, entry, &content)?;
                self.say(&format!("{}", entry.path.display()))
            }
            Step::Once(once) => self.once(once),
            Step::Remove(path) => {
                files::remove(self.root, path)?;
                self.say(&format!("removed {}", path.display()))
            }
        }
    }

    fn say(&mut self, text: &str) -> Result<(), ApplyError> {
        writeln!(self.err, "{}", plain(text)).map_err(ApplyError::Progress)
    }

    fn content(&mut self, entry: &Entry) -> Result<String, ApplyError> {
        match &entry.content {
            Content::Folder => Ok(String::new()),
            Content::Text(text) => Ok(text.clone()),
            Content::Secret(Secret::Kubeconfig) => self.kubeconfig(),
            Content::Secret(Secret::AdministratorKey) => Ok(self.issued()?.key.clone()),
            Content::Secret(Secret::AdministratorCertificate) => Ok(self.issued()?.chain.clone()),
            Content::Secret(Secret::Root) => Ok(self.issued()?.root.clone()),
            Content::Secret(Secret::Enrolment) => match &self.settings.join {
                Some(join) => Ok(join::read(&join.file)?),
                None => Ok(String::new()),
            },
        }
    }

    fn kubeconfig(&self) -> Result<String, ApplyError> {
        let Some(access) = &self.settings.access else {
            return Ok(String::new());
        };
        let read = |path: &PathBuf| {
            let text = self.root.read(path)?;
            text.ok_or_else(|| ApplyError::NoCa(path.clone()))
        };
        let (ca, ca_key) = (read(&access.ca)?, read(&access.ca_key)?);
        kubeconfig::make(&ca, &ca_key, &access.server, self.settings.started)
            .map_err(ApplyError::Kubeconfig)
    }

    fn issued(&mut self) -> Result<&Issued, ApplyError> {
        if self.issued.is_none() {
            self.wait_ready(Program::KeyService)?;
            let uid = self.settings.users.key_service;
            self.issued = Some(certificate::obtain(&self.program, uid)?);
        }
        Ok(self.issued.as_ref().expect("was issued just now"))
    }

    fn once(&mut self, once: &Once) -> Result<(), ApplyError> {
        // What an interrupted run left may still be there.
        self.take_away(once)?;
        if once.act == Act::Init {
            self.wait_alone()?;
        }
        for entry in once.secret.iter().chain([&once.pod]) {
            let content = self.content(entry)?;
            files::put(self.root, entry, &content)?;
        }
        self.say(match once.act {
            Act::Init => "making the token and the instance",
            Act::Enrol => "enrolling the node",
        })?;
        let outcome = self.wait_done(once.act);
        // Whatever came out, it does not run again by itself.
        self.take_away(once)?;
        outcome?;
        match once.act {
            Act::Init => self.wait_alone(),
            Act::Enrol => Ok(()),
        }
    }

    fn take_away(&self, once: &Once) -> Result<(), ApplyError> {
        for entry in [&once.pod].into_iter().chain(&once.secret) {
            files::remove(self.root, &entry.path)?;
        }
        Ok(())
    }

    fn is_done(&self, act: Act) -> Result<bool, ApplyError> {
        match act {
            Act::Init => Ok(instance::look(self.root)?.is_some()),
            Act::Enrol => Ok(host::identity_is_newer(self.root, self.settings.started)?),
        }
    }

    /// Two agents must not have the token at a time, nor two services the store; the users are ours alone. Between two
    /// containers of a pod that is ending there may be nobody for a moment.
    fn wait_alone(&self) -> Result<(), ApplyError> {
        let uids = Program::ALL.map(|program| self.settings.uid(program));
        let start = Instant::now();
        let mut since = start;
        while since.elapsed() < QUIET {
            if let Some(uid) = processes::one_of(self.root, &uids)? {
                since = Instant::now();
                if start.elapsed() > self.timeout {
                    return Err(ApplyError::NotAlone(uid));
                }
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn wait_done(&mut self, act: Act) -> Result<(), ApplyError> {
        let end = Instant::now() + self.timeout;
        let mut logs = Logs::new(self.root, self.settings.started, act);
        let mut last = None;
        loop {
            if self.is_done(act)? {
                return Ok(());
            }
            for line in logs.news() {
                let text = match line.meaning() {
                    Meaning::Failure(reason) => {
                        let (act, reason) = (act.name(), plain(&reason));
                        return Err(ApplyError::Refused { act, reason });
                    }
                    Meaning::Progress(text) => format!("{}: {text}", line.container),
                    Meaning::Detail => continue,
                };
                self.say(&text)?;
                last = Some(plain(&text));
            }
            if Instant::now() > end {
                let act = act.name();
                let last = last.map_or_else(
                    || {
                        "No container of it has said anything: are the images on this node?"
                            .to_owned()
                    },
                    |line| format!("The last that was said: {line}"),
                );
                return Err(ApplyError::ActLate { act, last });
            }
            thread::sleep(PAUSE);
        }
    }

    fn wait_ready(&mut self, program: Program) -> Result<(), ApplyError> {
        let port = self.settings.probes(program);
        let end = Instant::now() + self.timeout;
        let mut told = String::new();
        while let Err(missing) = probe::ready(port) {
            if Instant::now() > end {
                let (program, missing) = (program.name(), plain(&missing));
                return Err(ApplyError::Late { program, missing });
            }
            if missing != told {
                self.say(&format!("waiting for {}: {missing}", program.name()))?;
                told = missing;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }
}
