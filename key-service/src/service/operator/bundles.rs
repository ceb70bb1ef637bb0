//! Bundles of namespaces. They name secrets and open none: who reads through one is asked for his own role on each.

use std::sync::Arc;

use strongroom_core::{
    Bundle, BundleFile, BundleFiles, ContextDigest, FileContent, Name, Permit, Resource, action,
};

use super::{ATTEMPTS, Applied, ObjectRef, Operator, came_second, claimed};
use crate::{
    registry::{Change, Ring, SecretName, StoredBundle},
    service::{CallError, Detail, Service, detail},
    templates,
};

/// What a SecretBundle wants.
#[derive(Clone, Debug)]
pub struct WantedBundle {
    /// The ring under which it is kept, of the same namespace.
    pub ring: Name,
    /// Its files.
    pub files: BundleFiles,
}

/// A bundle, and what pods that read through it wait for.
pub struct BundleView {
    /// The bundle.
    pub stored: Arc<StoredBundle>,
    /// Secrets that it names and that are not there.
    pub missing: Vec<Name>,
}

impl Service {
    /// Makes a bundle, or brings it to what is wanted.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn apply_bundle(
        &self,
        operator: &Operator,
        object: &ObjectRef,
        wanted: &WantedBundle,
    ) -> Result<Applied<BundleView>, CallError> {
        let ring = self.ring_of(&object.owner, &wanted.ring)?;
        let asked = format!("bundle/{}/name:{}", ring.id, object.name);
        let resource = Resource::Ring(ring.reference());
        let permit = self
            .admit::<action::ApplyBundle>(
                &operator.context,
                &asked,
                Some(resource),
                ContextDigest::default(),
            )
            .await?;
        let mut outcome = Err(CallError::Stale);
        for _ in 0..ATTEMPTS {
            outcome = self
                .apply_bundle_with(&permit, operator, object, &ring, wanted)
                .await;
            if !outcome.as_ref().is_err_and(came_second) {
                break;
            }
        }
        let applied = self.conclude_change(&operator.context, &permit, outcome);
        let Applied {
            outcome,
            object: stored,
            rebound,
        } = applied.await?;
        let missing = self.missing(object, &stored.bundle);
        Ok(Applied {
            outcome,
            object: BundleView { stored, missing },
            rebound,
        })
    }

    async fn apply_bundle_with(
        &self,
        permit: &Permit<action::ApplyBundle>,
        operator: &Operator,
        object: &ObjectRef,
        ring: &Ring,
        wanted: &WantedBundle,
    ) -> Result<Applied<Arc<StoredBundle>>, CallError> {
        let tenant = &object.owner.tenant;
        let (before, claim) = match self.registry.find_bundle(tenant, &object.name) {
            None => (None, None),
            Some((before, of)) => {
                let claim = claimed(&of, Some(&before.bundle.object), object)?;
                (Some(before), Some(claim))
            }
        };
        let created = before.as_ref().map(|before| before.bundle.created);
        let after = Bundle {
            ring: ring.id,
            name: object.name.clone(),
            object: object.uid.clone(),
            created: created.unwrap_or_else(|| self.clock.now()),
            files: wanted.files.clone(),
        };
        if let (Some(claim), Some(before)) = (claim, &before)
            && before.bundle == after
        {
            return Ok(Applied::found(claim, false, before.clone(), Vec::new()));
        }
        check_templates(&after.files)?;
        let change = Change::default().bundle(tenant, &after, before.as_deref());
        let committed = self
            .registry
            .commit(
                permit,
                change,
                &operator.context.origin,
                named(object, &after),
            )
            .await?;
        let stored = Arc::new(StoredBundle {
            bundle: after,
            seq: committed.position.seq,
        });
        Ok(match claim {
            None => Applied::created(stored),
            Some(claim) => Applied::found(claim, true, stored, Vec::new()),
        })
    }

    fn missing(&self, object: &ObjectRef, bundle: &Bundle) -> Vec<Name> {
        let is_missing = |secret: &Name| {
            let name = SecretName {
                tenant: Some(object.owner.tenant.clone()),
                name: secret.clone(),
            };
            self.registry.find_secret_by_name(&name).is_none()
        };
        let names = bundle.files.secrets().into_iter().cloned();
        names.filter(is_missing).collect()
    }

    /// Deletes the bundle that a custom resource made. What it names stays. The sentence is empty when there was nothing.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn release_bundle(
        &self,
        operator: &Operator,
        object: &ObjectRef,
    ) -> Result<String, CallError> {
        let tenant = &object.owner.tenant;
        let Some((before, ring)) = self.registry.find_bundle(tenant, &object.name) else {
            return Ok(String::new());
        };
        if ring.owner.as_ref() != Some(&object.owner) || before.bundle.object != object.uid {
            // A former namespace's, or already that of a custom resource that was made again.
            return Ok(String::new());
        }
        let asked = format!("bundle/{}/name:{}", ring.id, object.name);
        let permit = self
            .admit::<action::ReleaseObject>(
                &operator.context,
                &asked,
                Some(Resource::Ring(ring.reference())),
                ContextDigest::default(),
            )
            .await?;
        let change = Change::default().without_bundle(tenant, &before);
        let released = self.registry.commit(
            &permit,
            change,
            &operator.context.origin,
            named(object, &before.bundle),
        );
        let released = released.await.map_err(CallError::from);
        self.conclude_change(&operator.context, &permit, released)
            .await?;
        Ok(format!(
            "SecretBundle {object} was deleted; the secrets that it names are as they were"
        ))
    }
}

/// What cannot be written is not accepted: its author is told now, and not each pod later.
fn check_templates(files: &BundleFiles) -> Result<(), CallError> {
    for BundleFile { path, content, .. } in files.iter() {
        if let FileContent::Template(template) = content {
            templates::check(template).map_err(|error| match error {
                templates::TemplateError::NoThread => CallError::Unavailable {
                    what: "the machine of the key service",
                    source: Box::new(error),
                },
                error => CallError::Invalid(format!("spec.files: template of {path}: {error}")),
            })?;
        }
    }
    Ok(())
}

/// What the audit log says of a bundle: whose it is and which secrets it names.
fn named(object: &ObjectRef, bundle: &Bundle) -> Detail {
    let secrets = bundle.files.secrets();
    let names: Vec<&str> = secrets.into_iter().map(Name::as_str).collect();
    detail([
        ("object", format!("{object}#{}", object.uid)),
        ("bundle", bundle.name.to_string()),
        ("secrets", names.join(",")),
    ])
}
