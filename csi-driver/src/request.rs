//! Requests of kubelet, parsed into what they mean. A sentence that refuses one is what the pod's author reads in the
//! event `FailedMount`, so it says what to change.

mod token;
mod wanted;

use std::{collections::HashMap, path::Path, sync::Arc};

use strongroom_api::csi::v1::{
    NodePublishVolumeRequest, VolumeCapability,
    volume_capability::{AccessType, access_mode::Mode},
};
use strongroom_core::SecretBytes;
use zeroize::Zeroize;

use crate::{
    config::{TokenSource, Tokens},
    volume::{InvalidTarget, Target},
};

pub use token::NoToken;
use wanted::SECRETS_MAX;
pub use wanted::Wanted;

/// What kubelet writes into a volume's context begins so.
const KUBELET: &str = "csi.storage.k8s.io/";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";
const POD_UID: &str = "csi.storage.k8s.io/pod.uid";
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// The interface's limit for a string.
const VOLUME_ID_BYTES_MAX: usize = 128;

/// Why a request is refused; the pod's author or kubelet is to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequest {
    /// There is no id of the volume.
    #[error("volume_id is missing or longer than {VOLUME_ID_BYTES_MAX} bytes")]
    VolumeId,
    /// There is no target path.
    #[error("target_path is missing")]
    NoTarget,
    /// The target path is not kubelet's.
    #[error(transparent)]
    Target(InvalidTarget),
    /// There is no capability, or not one of files.
    #[error("volume_capability must be a mount with an access mode and without mount flags")]
    Capability,
    /// The fsGroup is no number.
    #[error("volume_mount_group is not the number of a group")]
    Group,
    /// The pod may write into the volume.
    #[error("the volume must be read-only: add `readOnly: true` under csi in the pod's volume")]
    Writable,
    /// It is no inline volume of a pod.
    #[error("only inline volumes of pods are served, not persistent volumes")]
    Persistent,
    /// The context is of another pod than the path.
    #[error("the volume's context and its target_path name different pods")]
    Pod,
    /// There is an attribute that means nothing.
    #[error(
        "unknown attribute {0:?} in the pod's volume: `bundle`, `secrets` and `optional` are known"
    )]
    Attribute(String),
    /// Neither a bundle nor secrets are named, or not properly, or both.
    #[error(
        "volumeAttributes in the pod's volume need either `bundle`, the name of a SecretBundle of the pod's namespace, or \
         `secrets`, 1 to {SECRETS_MAX} names of ManagedSecrets separated by commas, each once"
    )]
    Wanted,
    /// It is not said whether the pod may start without.
    #[error("`optional` in the pod's volume is \"true\" or \"false\"")]
    Optional,
}

/// A volume to publish.
#[derive(Debug)]
pub struct Publish {
    /// As kubelet calls it.
    pub volume_id: String,
    /// Where.
    pub target: Target,
    /// What the pod asks for.
    pub wanted: Wanted,
    /// Whether the pod may start while that is not there.
    pub optional: bool,
    /// The pod's fsGroup, or root.
    pub group: u32,
    /// The pod's token, or why there is none.
    pub token: Result<Arc<SecretBytes>, NoToken>,
}

/// Parses a request, and wipes the tokens in it.
///
/// # Errors
///
/// See [`InvalidRequest`].
pub fn publish(
    mut request: NodePublishVolumeRequest,
    pods: &Path,
    tokens: &Tokens,
) -> Result<Publish, InvalidRequest> {
    let parsed = parse(&request, pods, tokens);
    wipe(&mut request.secrets);
    if let Some(tokens) = request.volume_context.get_mut(TOKENS) {
        tokens.zeroize();
    }
    parsed
}

fn wipe(secrets: &mut HashMap<String, String>) {
    secrets.values_mut().for_each(Zeroize::zeroize);
}

fn parse(
    request: &NodePublishVolumeRequest,
    pods: &Path,
    tokens: &Tokens,
) -> Result<Publish, InvalidRequest> {
    let volume_id = volume_id(&request.volume_id)?;
    let target = target(&request.target_path, pods)?;
    let group = group(request.volume_capability.as_ref())?;
    if !request.readonly {
        return Err(InvalidRequest::Writable);
    }
    let context = &request.volume_context;
    if context.get(EPHEMERAL).map(String::as_str) != Some("true") {
        return Err(InvalidRequest::Persistent);
    }
    if context.get(POD_UID).map(String::as_str) != Some(target.pod_uid()) {
        return Err(InvalidRequest::Pod);
    }
    let (wanted, optional) = wanted::parse(context)?;
    let token = match tokens.source {
        TokenSource::Secrets if is_forged(request) => Err(NoToken::Forged),
        TokenSource::Secrets => token::find(request.secrets.get(TOKENS), &tokens.audience),
        TokenSource::VolumeContext => token::find(context.get(TOKENS), &tokens.audience),
    };
    Ok(Publish {
        volume_id,
        target,
        wanted,
        optional,
        group,
        token: token.map(Arc::new),
    })
}

/// Whether the pod's author wrote tokens: kubelet writes them in one place, and they are in two.
fn is_forged(request: &NodePublishVolumeRequest) -> bool {
    request.secrets.contains_key(TOKENS) && request.volume_context.contains_key(TOKENS)
}

/// Checks the id of a volume.
///
/// # Errors
///
/// When there is none.
pub fn volume_id(id: &str) -> Result<String, InvalidRequest> {
    if (1..=VOLUME_ID_BYTES_MAX).contains(&id.len()) {
        Ok(id.to_owned())
    } else {
        Err(InvalidRequest::VolumeId)
    }
}

/// Reads a target path.
///
/// # Errors
///
/// When there is none, or not one of kubelet's.
pub fn target(path: &str, pods: &Path) -> Result<Target, InvalidRequest> {
    if path.is_empty() {
        return Err(InvalidRequest::NoTarget);
    }
    Target::parse(path, pods).map_err(InvalidRequest::Target)
}

fn group(capability: Option<&VolumeCapability>) -> Result<u32, InvalidRequest> {
    let capability = capability.ok_or(InvalidRequest::Capability)?;
    let mode = capability.access_mode.as_ref().map(|mode| mode.mode());
    let Some(AccessType::Mount(mount)) = &capability.access_type else {
        return Err(InvalidRequest::Capability);
    };
    if matches!(mode, None | Some(Mode::Unknown)) || !mount.mount_flags.is_empty() {
        return Err(InvalidRequest::Capability);
    }
    match mount.volume_mount_group.as_str() {
        "" => Ok(0),
        group => match group.parse() {
            // The kernel's "none".
            Ok(u32::MAX) | Err(_) => Err(InvalidRequest::Group),
            Ok(group) => Ok(group),
        },
    }
}

#[cfg(test)]
mod tests;
