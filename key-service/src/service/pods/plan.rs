//! What a volume shall hold by what there is now: its files, the versions that they are made of, and the etag of it all.
//! Nothing is opened for that, so that unchanged reads and the stream open nothing.

use std::{collections::BTreeSet, fmt, sync::Arc};

use strongroom_core::{
    BundleFile, FieldFile, FieldName, FileContent, FileMode, Name, PodIdentity, SecretSource,
    SecretStage, Tenant,
};
use strongroom_crypto::Subject;

use super::{PodError, consumers::Held, grant::Grant};
use crate::{
    registry::StoredBundle,
    service::{CallError, Service},
};

/// What a volume asks for, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every field of these secrets, as `SECRET/FIELD`.
    Secrets(BTreeSet<Name>),
    /// What a bundle says.
    Bundle(Name),
}

/// The form in audit records.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secrets(secrets) => {
                let names: Vec<&str> = secrets.iter().map(Name::as_str).collect();
                write!(f, "secrets:{}", names.join(","))
            }
            Self::Bundle(bundle) => write!(f, "bundle:{bundle}"),
        }
    }
}

/// What a volume shall hold.
pub(super) struct Plan {
    /// What is read for it, each version once.
    pub(super) grants: Vec<Grant>,
    pub(super) files: Vec<PlannedFile>,
    /// Every secret that it depends on, those that need not be there too.
    pub(super) names: BTreeSet<Name>,
    /// The bundle that says so.
    pub(super) bundle: Option<Arc<StoredBundle>>,
}

/// One file, before what it is made of is opened.
pub(super) struct PlannedFile {
    pub(super) path: String,
    pub(super) mode: FileMode,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) content: FileContent,
}

/// Something that is not given, and why.
pub(super) struct Refused {
    /// What was asked for, as the audit log shows it.
    pub(super) asked: String,
    pub(super) error: Box<CallError>,
}

impl Service {
    /// Finds out what the pod's volume shall hold, by what the pod may read.
    pub(super) fn plan(&self, pod: &Arc<PodIdentity>, wanted: &Wanted) -> Result<Plan, Refused> {
        match wanted {
            Wanted::Secrets(secrets) => self.plan_secrets(pod, secrets),
            Wanted::Bundle(name) => self.plan_bundle(pod, name),
        }
    }

    /// The secrets of which a change can be one of what is wanted.
    pub(super) fn names(&self, pod: &PodIdentity, wanted: &Wanted) -> BTreeSet<Name> {
        match wanted {
            Wanted::Secrets(secrets) => secrets.clone(),
            Wanted::Bundle(name) => {
                let stored = self.registry.bundle(&pod.account.tenant, name);
                let files = stored.iter().map(|stored| &stored.bundle.files);
                files.flat_map(|it| it.secrets()).cloned().collect()
            }
        }
    }

    fn plan_secrets(
        &self,
        pod: &Arc<PodIdentity>,
        secrets: &BTreeSet<Name>,
    ) -> Result<Plan, Refused> {
        let mut plan = Plan::new(secrets.clone(), None);
        for secret in secrets {
            self.add_grant(&mut plan, pod, secret, SecretStage::Current)?;
        }
        for grant in &plan.grants {
            let head = &grant.stored.head;
            let file = |field: &FieldName| PlannedFile {
                path: format!("{}/{field}", head.name),
                mode: FileMode::DEFAULT,
                uid: None,
                gid: None,
                content: FileContent::Field(FieldFile {
                    secret: head.name.clone(),
                    field: field.clone(),
                    stage: SecretStage::Current,
                    optional: false,
                }),
            };
            match &head.source {
                SecretSource::Generate(fields) => {
                    plan.files.extend(fields.iter().map(|it| file(&it.name)));
                }
                SecretSource::Manual(names) => plan.files.extend(names.iter().map(file)),
            }
        }
        plan.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(plan)
    }

    fn plan_bundle(&self, pod: &Arc<PodIdentity>, name: &Name) -> Result<Plan, Refused> {
        let tenant = &pod.account.tenant;
        let stored = self.registry.bundle(tenant, name).ok_or_else(|| Refused {
            asked: format!("bundles/{tenant}/name:{name}"),
            error: Box::new(CallError::from(self.not_there(PodError::NoBundle {
                tenant: tenant.clone(),
                bundle: name.clone(),
            }))),
        })?;
        let names = stored.bundle.files.secrets().into_iter().cloned();
        let mut plan = Plan::new(names.collect(), Some(stored.clone()));
        for file in stored.bundle.files.iter() {
            if self.add_sources(&mut plan, pod, file)? {
                plan.files.push(PlannedFile {
                    path: file.path.to_string(),
                    mode: file.mode,
                    uid: file.uid,
                    gid: file.gid,
                    content: file.content.clone(),
                });
            }
        }
        Ok(plan)
    }

    /// Adds what a file is made of; false when the file is not there because it need not be.
    fn add_sources(
        &self,
        plan: &mut Plan,
        pod: &Arc<PodIdentity>,
        file: &BundleFile,
    ) -> Result<bool, Refused> {
        match &file.content {
            FileContent::Field(field) => {
                let added = self.add_field(plan, pod, field);
                match added {
                    Err(refused) if field.optional && refused.error.is_absence() => Ok(false),
                    added => added.map(|()| true),
                }
            }
            FileContent::Template(template) => {
                for secret in template.secrets() {
                    self.add_grant(plan, pod, secret, SecretStage::Current)?;
                }
                Ok(true)
            }
        }
    }

    fn add_field(
        &self,
        plan: &mut Plan,
        pod: &Arc<PodIdentity>,
        wanted: &FieldFile,
    ) -> Result<(), Refused> {
        let FieldFile {
            secret,
            field,
            stage,
            ..
        } = wanted;
        let before = plan.grants.len();
        let grant = self.add_grant(plan, pod, secret, *stage)?;
        if grant.stored.head.source.has(field) {
            return Ok(());
        }
        // What gives no file is not read for it.
        plan.grants.truncate(before);
        let tenant = pod.account.tenant.clone();
        Err(Refused::secret(
            secret,
            &tenant.clone(),
            PodError::FieldMissing {
                tenant,
                secret: secret.clone(),
                field: field.clone(),
            }
            .into(),
        ))
    }

    fn add_grant<'a>(
        &self,
        plan: &'a mut Plan,
        pod: &Arc<PodIdentity>,
        secret: &Name,
        stage: SecretStage,
    ) -> Result<&'a Grant, Refused> {
        let found = plan.grants.iter().position(|it| it.is_for(secret, stage));
        let index = match found {
            Some(index) => index,
            None => {
                let grant = self.grant(pod, secret, stage);
                let refused = |error| Refused::secret(secret, &pod.account.tenant, error);
                plan.grants.push(grant.map_err(refused)?);
                plan.grants.len() - 1
            }
        };
        Ok(&plan.grants[index])
    }

    /// Changes whenever a file, its mode or its owner does. It is keyed and made of ids and of what the bundle says, so that
    /// it tells nothing of values.
    pub(super) fn etag(&self, plan: &Plan) -> String {
        let mut list = String::new();
        for file in &plan.files {
            plan.describe(file, &mut list)
                .expect("a String takes everything");
        }
        hex::encode(self.digests.digest(Subject::Volume, list.as_bytes()))
    }
}

impl Plan {
    /// What it depends on, with the current versions when a volume holds what there is.
    pub(super) fn held(&self, holds_it: bool) -> Held {
        let current = |name: &Name| {
            let grant = self.grants.iter();
            let mut grant = grant.filter(|it| it.is_for(name, SecretStage::Current));
            grant.next().filter(|_| holds_it).map(|it| it.version)
        };
        let names = self.names.iter();
        names.map(|name| (name.clone(), current(name))).collect()
    }

    fn new(names: BTreeSet<Name>, bundle: Option<Arc<StoredBundle>>) -> Self {
        Self {
            grants: Vec::new(),
            files: Vec::new(),
            names,
            bundle,
        }
    }

    /// What a file is made of. Only the last line can hold anything, and its length stands before it.
    fn describe(&self, file: &PlannedFile, list: &mut impl fmt::Write) -> fmt::Result {
        let shown = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
        let PlannedFile {
            path,
            mode,
            content,
            ..
        } = file;
        let (uid, gid) = (shown(file.uid), shown(file.gid));
        writeln!(list, "{path} {:o} {uid}:{gid}", mode.bits())?;
        match content {
            FileContent::Field(field) => {
                self.describe_version(&field.secret, field.stage, list)?;
                writeln!(list, "field {}", field.field)
            }
            FileContent::Template(template) => {
                for secret in template.secrets() {
                    self.describe_version(secret, SecretStage::Current, list)?;
                }
                writeln!(list, "template {}", template.text().len())?;
                writeln!(list, "{}", template.text())
            }
        }
    }

    /// The names of a template's secrets are among what it is made of.
    fn describe_version(
        &self,
        secret: &Name,
        stage: SecretStage,
        list: &mut impl fmt::Write,
    ) -> fmt::Result {
        let grant = self.grants.iter().find(|it| it.is_for(secret, stage));
        let version = grant.map(|it| format!("{} {}", it.stored.head.id, it.version));
        writeln!(list, "{secret} {}", version.unwrap_or_default())
    }
}

impl Refused {
    fn secret(secret: &Name, tenant: &Tenant, error: CallError) -> Self {
        Self {
            asked: format!("secrets/{tenant}/name:{secret}"),
            error: Box::new(error),
        }
    }
}
