//! What the volumes of a pod ask for, read as the driver reads it.

use std::collections::BTreeSet;

use strongroom_core::Name;

use crate::cluster::objects::{CsiVolume, Pod, SecretBundle};

/// The name of the driver.
pub(super) const DRIVER: &str = "csi.strongroom.dev";
/// What kubelet writes into a volume's context begins so.
const KUBELET: &str = "csi.storage.k8s.io/";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// As many secrets as a volume may name.
const SECRETS_MAX: usize = 64;

/// A volume of ours, and what it asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) wanted: Result<Wanted, String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) what: What,
    /// The pod may start without.
    pub(super) optional: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Bundle(String),
    Secrets(Vec<String>),
}

/// A secret that files are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) secret: String,
    /// None: whatever fields it has.
    pub(super) field: Option<String>,
    pub(super) optional: bool,
}

/// The volumes of our driver, in their order.
pub(super) fn volumes(pod: &Pod) -> Vec<Volume> {
    let ours = |volume: &crate::cluster::objects::Volume| {
        let csi = volume.csi.as_ref().filter(|csi| csi.driver == DRIVER)?;
        Some(Volume {
            name: volume.name.clone(),
            wanted: wanted(csi),
        })
    };
    pod.spec.volumes.iter().filter_map(ours).collect()
}

fn wanted(csi: &CsiVolume) -> Result<Wanted, String> {
    if !csi.read_only {
        return Err(
            "the volume must be read-only: add `readOnly: true` under csi in the pod's volume"
                .to_owned(),
        );
    }
    let attributes = &csi.volume_attributes;
    if attributes.contains_key(TOKENS) {
        return Err(format!(
            "attribute {TOKENS:?} in the pod's volume is for kubelet alone to write: remove it"
        ));
    }
    // What else is kubelet's is written over by kubelet.
    let is_known =
        |name: &str| ["bundle", "secrets", "optional"].contains(&name) || name.starts_with(KUBELET);
    if let Some(unknown) = attributes.keys().find(|name| !is_known(name)) {
        return Err(format!(
            "unknown attribute {unknown:?} in the pod's volume: `bundle`, `secrets` and `optional` are known"
        ));
    }
    let optional = match attributes.get("optional").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => {
            return Err("`optional` in the pod's volume is \"true\" or \"false\"".to_owned());
        }
    };
    let what = match (attributes.get("bundle"), attributes.get("secrets")) {
        (Some(bundle), None) if is_name(bundle) => Some(What::Bundle(bundle.clone())),
        (None, Some(secrets)) => names(secrets).map(What::Secrets),
        _ => None,
    };
    let what = what.ok_or_else(|| {
        format!(
            "volumeAttributes in the pod's volume need either `bundle`, the name of a SecretBundle of the pod's \
             namespace, or `secrets`, 1 to {SECRETS_MAX} names of ManagedSecrets separated by commas, each once"
        )
    })?;
    Ok(Wanted { what, optional })
}

fn names(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    let fits = distinct.len() == names.len()
        && names.len() <= SECRETS_MAX
        && names.iter().all(|name| is_name(name));
    fits.then_some(names)
}

fn is_name(text: &str) -> bool {
    text.parse::<Name>().is_ok()
}

/// What a bundle's files are made of, each once.
pub(super) fn needs(bundle: &SecretBundle, optional: bool) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let mut add = |need: Need| {
        let same = |known: &&mut Need| known.secret == need.secret && known.field == need.field;
        match needs.iter_mut().find(same) {
            Some(known) => known.optional &= need.optional,
            None => needs.push(need),
        }
    };
    for file in &bundle.spec.files {
        if let Some(from) = &file.from {
            add(Need {
                secret: from.secret.clone(),
                field: Some(from.field.clone()),
                optional: optional || file.optional,
            });
        }
        for secret in file.template.iter().flat_map(|template| &template.secrets) {
            add(Need {
                secret: secret.clone(),
                field: None,
                optional,
            });
        }
    }
    needs
}
