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
    host::{LookError, Root},
    initialise::{Logs, Meaning},
    instance, kubeconfig,
    layout::{Content, Entry, Secret},
    plan::{Plan, Step},
    probe, processes,
    settings::{Program, Settings},
};
use crate::output::plain;

/// Time between two looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Why the node is not set up. What was done stays; the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error("the key service's kubeconfig cannot be made")]
    Kubeconfig(#[source] rcgen::Error),
    #[error("the cluster's certificate authority {} is not here", .0.display())]
    NoCa(PathBuf),
    #[error("the administrator's certificate is not issued")]
    Certificate(#[from] CertificateError),
    #[error("init was refused: {0}")]
    Init(String),
    #[error(
        "init has not finished in time; its pod is removed, and the next run goes on where it was. {0}"
    )]
    InitLate(String),
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
            Self::InitLate(_) | Self::Late { .. } | Self::NotAlone(_)
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
        for program in Program::ALL {
            self.wait_ready(program)?;
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
            Step::Initialise(pod) => self.initialise(pod),
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

    fn initialise(&mut self, pod: &Entry) -> Result<(), ApplyError> {
        // What an interrupted run left may still be there.
        files::remove(self.root, &pod.path)?;
        self.wait_alone()?;
        let content = self.content(pod)?;
        files::put(self.root, pod, &content)?;
        self.say("making the token and the instance")?;
        let outcome = self.wait_initialised();
        // Whatever came out, init does not run again by itself.
        files::remove(self.root, &pod.path)?;
        outcome?;
        self.wait_alone()
    }

    /// Two agents must not have the token at a time, nor two services the store; the users are ours alone.
    fn wait_alone(&self) -> Result<(), ApplyError> {
        let uids = Program::ALL.map(|program| self.settings.uid(program));
        let end = Instant::now() + self.timeout;
        while let Some(uid) = processes::one_of(self.root, &uids)? {
            if Instant::now() > end {
                return Err(ApplyError::NotAlone(uid));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn wait_initialised(&mut self) -> Result<(), ApplyError> {
        let end = Instant::now() + self.timeout;
        let mut logs = Logs::new(self.root, self.settings);
        let mut last = None;
        loop {
            if instance::look(self.root)?.identity.is_some() {
                return Ok(());
            }
            for line in logs.news() {
                let text = match line.meaning() {
                    Meaning::Failure(reason) => return Err(ApplyError::Init(plain(&reason))),
                    Meaning::Progress(text) => format!("{}: {text}", line.container),
                    Meaning::Detail => continue,
                };
                self.say(&text)?;
                last = Some(plain(&text));
            }
            if Instant::now() > end {
                return Err(ApplyError::InitLate(last.map_or_else(
                    || {
                        "no container of it has said anything: are the images on this node?"
                            .to_owned()
                    },
                    |line| format!("The last that was said: {line}"),
                )));
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
