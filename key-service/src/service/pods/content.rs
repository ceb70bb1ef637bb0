//! Makes the files of a volume of the values that they name: all of them, or none.

use std::{collections::BTreeMap, sync::Arc};

use strongroom_core::{
    FieldFile, FileContent, Name, SecretBytes, SecretStage, SecretValue, Template, Tenant,
    VOLUME_BYTES_MAX,
};

use super::{
    File, PodError,
    plan::{Plan, PlannedFile},
};
use crate::{
    service::{CallError, Service},
    templates,
};

/// Opened values, by secret and stage.
struct Values(Vec<(Name, SecretStage, Arc<SecretValue>)>);

impl Service {
    pub(super) async fn make_files(
        &self,
        plan: &Plan,
        tenant: &Tenant,
    ) -> Result<Vec<File>, CallError> {
        let mut values = Values(Vec::new());
        for grant in &plan.grants {
            let value = self
                .open_value(&grant.permit, &grant.stored, grant.version)
                .await?;
            let name = grant.stored.head.name.clone();
            values.0.push((name, grant.stage, Arc::new(value)));
        }
        let bundle = plan.bundle.as_ref().map(|stored| &stored.bundle.name);
        let mut fuel = templates::FUEL;
        let mut room = VOLUME_BYTES_MAX;
        let mut files = Vec::with_capacity(plan.files.len());
        for file in &plan.files {
            let content = match &file.content {
                FileContent::Field(field) => values.field(field)?,
                FileContent::Template(template) => {
                    let made = values.render(template, &mut fuel);
                    made.map_err(|error| PodError::Template {
                        tenant: tenant.clone(),
                        bundle: bundle.cloned(),
                        path: file.path.clone(),
                        error,
                    })?
                }
            };
            let left = room.checked_sub(content.len());
            room = left.ok_or_else(|| PodError::TooLarge {
                tenant: tenant.clone(),
                bundle: bundle.cloned(),
            })?;
            files.push(file.with(content));
        }
        Ok(files)
    }
}

impl Values {
    fn find(&self, secret: &Name, stage: SecretStage) -> Option<&Arc<SecretValue>> {
        let mut values = self.0.iter();
        let found = values.find(|(name, of, _)| name == secret && *of == stage);
        found.map(|(.., value)| value)
    }

    /// The plan has found the field in the secret's source, and each version has all of them.
    fn field(&self, wanted: &FieldFile) -> Result<SecretBytes, CallError> {
        let value = self.find(&wanted.secret, wanted.stage);
        let bytes = value.and_then(|value| value.field(&wanted.field));
        let bytes = bytes.ok_or_else(|| CallError::missing("field of a value"))?;
        Ok(SecretBytes::copy_from(bytes.expose()))
    }

    fn render(
        &self,
        template: &Template,
        fuel: &mut u64,
    ) -> Result<SecretBytes, templates::TemplateError> {
        let of_template = template.secrets().iter().filter_map(|secret| {
            let value = self.find(secret, SecretStage::Current)?;
            Some((secret.clone(), value.clone()))
        });
        let values: BTreeMap<Name, Arc<SecretValue>> = of_template.collect();
        templates::render(template, &values, fuel)
    }
}

impl PlannedFile {
    fn with(&self, content: SecretBytes) -> File {
        File {
            path: self.path.clone(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            content,
        }
    }
}
