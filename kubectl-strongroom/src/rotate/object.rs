//! `rotate msec/NAME` and `rotate ck/NAME`: a wish in the cluster, which the operator hands to the key service.

mod progress;

use std::{
    io::{self, Write},
    time::Duration,
};

use aws_lc_rs::rand;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::wait::Timeout;
use crate::{
    args::{ClusterArgs, RotateArgs},
    cluster::{
        Cluster, ClusterError, DryRun, Kind, Kubeconfig, Scope,
        objects::{CryptoKey, ManagedSecret, SecretRotation},
    },
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{plain, write_structured},
    reason::Reason,
    target::RotateTarget,
};
use progress::Progress;

/// A rotation takes about a second; `--wait` looks this often.
const PAUSE: Duration = Duration::from_millis(300);

/// Why a rotation of an object was not asked for, or is not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObjectError {
    #[error("--reason is for a ManagedSecret; a CryptoKey has no place for it")]
    NoReason,
    #[error("there is no ManagedSecret {namespace}/{name}, so nothing was asked for")]
    NoSecret { namespace: String, name: String },
    #[error(
        "ManagedSecret {namespace}/{name} is not generated, so nothing was asked for; set its value with `kubectl strongroom \
         secret set`"
    )]
    NotGenerated { namespace: String, name: String },
    #[error("there is no CryptoKey {namespace}/{name}, so nothing was asked for")]
    NoKey { namespace: String, name: String },
    #[error("no random number for the request's id")]
    Random,
    #[error("it was refused: {0}")]
    Refused(String),
    #[error("not yet: after {timeout} {why}; the wish stays, and is carried out once")]
    NotYet { timeout: Timeout, why: String },
}

impl ObjectError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoReason => Exit::Usage,
            Self::NotYet { .. } => Exit::NotYet,
            Self::NoSecret { .. }
            | Self::NotGenerated { .. }
            | Self::NoKey { .. }
            | Self::Random
            | Self::Refused(_) => Exit::Failed,
        }
    }
}

/// What `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    kind: &'static str,
    namespace: String,
    name: String,
    dry_run: bool,
    /// The SecretRotation that asks for it.
    rotation: Option<String>,
    #[serde(rename = "requestID")]
    request_id: Option<String>,
    /// Whether it is done; null without --wait.
    done: Option<bool>,
    /// The version that was made, once it is known.
    version: Option<String>,
}

/// Writes the wish, and waits when asked to.
pub(crate) async fn object(
    target: RotateTarget,
    args: RotateArgs,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let RotateArgs {
        command: _,
        target: _,
        namespace,
        reason,
        wait,
        timeout,
        dry_run,
        output,
        cluster,
    } = args;
    let wish = Wish::open(&cluster, environment, dry_run, |cluster| {
        cluster.namespace(namespace.namespace.map(|name| name.to_string()))
    })
    .await?;
    let mut report = match &target {
        RotateTarget::Secret(name) => wish.secret(name, reason.as_ref()).await?,
        RotateTarget::Key(_) if reason.is_some() => return Err(ObjectError::NoReason.into()),
        RotateTarget::Key(name) => wish.key(name, (environment.now)()).await?,
    };
    if output.structured().is_none() {
        writeln!(out, "{}", report.asked())?;
    }
    let mut waited = Ok(());
    if wait {
        let mut waiting = Waiting {
            wish: &wish,
            end: Instant::now() + timeout.duration(),
            pause: PAUSE.min(environment.poll_interval),
            told: String::new(),
            err,
        };
        waited = waiting.run(&mut report).await?;
    }
    match output.structured() {
        Some(form) => write_structured(out, form, &report)?,
        None if report.done == Some(true) => writeln!(out, "{}", report.finished())?,
        None => {}
    }
    match waited {
        Ok(()) => Ok(Exit::Ok),
        Err(Unfinished::Refused(why)) => Err(ObjectError::Refused(plain(&why)).into()),
        Err(Unfinished::Late(why)) => Err(ObjectError::NotYet {
            timeout,
            why: plain(&why),
        }
        .into()),
    }
}

struct Wish {
    cluster: Cluster,
    namespace: String,
    dry_run: DryRun,
}

impl Wish {
    async fn open(
        args: &ClusterArgs,
        environment: &Environment,
        dry_run: DryRun,
        namespace: impl FnOnce(&Cluster) -> String,
    ) -> Result<Self, ClusterError> {
        let kubeconfig = Kubeconfig::require(args, environment)?;
        let cluster = Cluster::open(kubeconfig).await?;
        Ok(Self {
            namespace: namespace(&cluster),
            cluster,
            dry_run,
        })
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Namespace(&self.namespace)
    }

    fn report(&self, kind: Kind, name: &str) -> Report {
        Report {
            kind: kind.kind(),
            namespace: self.namespace.clone(),
            name: name.to_owned(),
            dry_run: self.dry_run != DryRun::None,
            rotation: None,
            request_id: None,
            done: None,
            version: None,
        }
    }

    async fn secret(&self, name: &str, reason: Option<&Reason>) -> Result<Report, CommandError> {
        let place = || (self.namespace.clone(), name.to_owned());
        let found: Option<ManagedSecret> = self
            .cluster
            .get(Kind::ManagedSecret, self.scope(), name)
            .await?;
        let Some(found) = found else {
            let (namespace, name) = place();
            return Err(ObjectError::NoSecret { namespace, name }.into());
        };
        if found.spec.source.manual.is_some() {
            let (namespace, name) = place();
            return Err(ObjectError::NotGenerated { namespace, name }.into());
        }
        let object = rotation(name, reason);
        let made: SecretRotation = self
            .cluster
            .create(Kind::SecretRotation, self.scope(), &object, self.dry_run)
            .await?;
        Ok(Report {
            rotation: Some(made.metadata.name).filter(|_| self.dry_run == DryRun::None),
            ..self.report(Kind::ManagedSecret, name)
        })
    }

    async fn key(&self, name: &str, now: Timestamp) -> Result<Report, CommandError> {
        let found: Option<CryptoKey> = self
            .cluster
            .get(Kind::CryptoKey, self.scope(), name)
            .await?;
        if found.is_none() {
            let (namespace, name) = (self.namespace.clone(), name.to_owned());
            return Err(ObjectError::NoKey { namespace, name }.into());
        }
        let id = request_id(now)?;
        let fields = json!({"spec": {"rotation": {"requestID": id}}});
        let _: CryptoKey = self
            .cluster
            .patch(Kind::CryptoKey, self.scope(), name, &fields, self.dry_run)
            .await?;
        Ok(Report {
            request_id: Some(id),
            ..self.report(Kind::CryptoKey, name)
        })
    }

    /// How far the wish is.
    async fn look(&self, report: &mut Report) -> Result<Progress, ClusterError> {
        if let Some(id) = &report.request_id {
            let key = self
                .cluster
                .get(Kind::CryptoKey, self.scope(), &report.name)
                .await?;
            let progress = progress::of_key(key.as_ref(), id);
            report.version = key
                .filter(|_| progress == Progress::Done)
                .and_then(|key: CryptoKey| key.status.primary_version);
            return Ok(progress);
        }
        if report.version.is_none() {
            let name = report.rotation.as_deref().unwrap_or_default();
            let rotation = self
                .cluster
                .get(Kind::SecretRotation, self.scope(), name)
                .await?;
            let progress = progress::of_rotation(rotation.as_ref());
            if progress != Progress::Done {
                return Ok(progress);
            }
            report.version = rotation.and_then(|rotation: SecretRotation| rotation.status.version);
        }
        let secret = self
            .cluster
            .get(Kind::ManagedSecret, self.scope(), &report.name)
            .await?;
        let version = report.version.as_deref().unwrap_or_default();
        Ok(progress::of_volumes(secret.as_ref(), version))
    }
}

fn rotation(name: &str, reason: Option<&Reason>) -> Value {
    let mut spec = json!({"secretRef": {"name": name}});
    if let Some(reason) = reason {
        spec["reason"] = json!(reason.as_str());
    }
    json!({
        "apiVersion": "strongroom.dev/v1alpha1",
        "kind": "SecretRotation",
        "metadata": {"generateName": format!("{name}-")},
        "spec": spec,
    })
}

/// A value that nobody used before.
fn request_id(now: Timestamp) -> Result<String, ObjectError> {
    let mut random = [0; 4];
    rand::fill(&mut random).map_err(|_| ObjectError::Random)?;
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    Ok(format!("kubectl-{time}-{}", hex::encode(random)))
}

/// Why a wait ended without what was waited for.
enum Unfinished {
    Refused(String),
    Late(String),
}

struct Waiting<'a> {
    wish: &'a Wish,
    end: Instant,
    pause: Duration,
    told: String,
    err: &'a mut dyn Write,
}

impl Waiting<'_> {
    /// Looks until it is done, refused or late. A look that fails is told and tried again, but for one that is not allowed.
    async fn run(&mut self, report: &mut Report) -> Result<Result<(), Unfinished>, CommandError> {
        report.done = Some(false);
        loop {
            let look = tokio::time::timeout_at(self.end, self.wish.look(report)).await;
            let why = match look {
                Err(_) => return Ok(Err(Unfinished::Late(self.told.clone()))),
                Ok(Err(error @ ClusterError::Denied { .. })) => return Err(error.into()),
                Ok(Err(error)) => error.to_string(),
                Ok(Ok(Progress::Done)) => {
                    report.done = Some(true);
                    return Ok(Ok(()));
                }
                Ok(Ok(Progress::Refused(why))) => return Ok(Err(Unfinished::Refused(why))),
                Ok(Ok(Progress::Waiting(why))) => why,
            };
            self.tell(&why)?;
            if self.end.saturating_duration_since(Instant::now()) <= self.pause {
                return Ok(Err(Unfinished::Late(why)));
            }
            tokio::time::sleep(self.pause).await;
        }
    }

    fn tell(&mut self, why: &str) -> io::Result<()> {
        if self.told != why {
            writeln!(self.err, "waiting: {}", plain(why))?;
            why.clone_into(&mut self.told);
        }
        Ok(())
    }
}

impl Report {
    fn asked(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
            ..
        } = self;
        let object = format!("{kind} {namespace}/{name}");
        match (self.dry_run, &self.rotation, &self.request_id) {
            (true, ..) => format!("{object} would be rotated (server dry run)"),
            (false, Some(rotation), _) => {
                format!(
                    "asked for a rotation of {object} by SecretRotation {}",
                    plain(rotation)
                )
            }
            (false, None, id) => format!(
                "asked for a rotation of {object} by request {}",
                id.as_deref().unwrap_or("unknown")
            ),
        }
    }

    fn finished(&self) -> String {
        let Self {
            kind,
            namespace,
            name,
            version,
            ..
        } = self;
        let version = plain(version.as_deref().unwrap_or("unknown"));
        match self.request_id {
            Some(_) => format!("{kind} {namespace}/{name} has version {version}"),
            None => format!(
                "{kind} {namespace}/{name} has version {version}, and every volume that follows it"
            ),
        }
    }
}
