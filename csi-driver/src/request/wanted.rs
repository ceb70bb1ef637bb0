//! What a pod's volume asks for, as its author writes it under `volumeAttributes`.

use std::collections::{BTreeSet, HashMap};

use super::{InvalidRequest, KUBELET};

/// Names of secrets, separated by commas.
pub(super) const SECRETS: &str = "secrets";
/// The name of a bundle.
pub(super) const BUNDLE: &str = "bundle";
/// Whether the pod may start without.
pub(super) const OPTIONAL: &str = "optional";
/// What a volume may name.
pub(super) const SECRETS_MAX: usize = 64;
const NAME_BYTES_MAX: usize = 63;

/// What a volume asks for, in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Every field of these secrets.
    Secrets(Vec<String>),
    /// What a bundle says.
    Bundle(String),
}

/// Reads the attributes of a volume.
pub(super) fn parse(context: &HashMap<String, String>) -> Result<(Wanted, bool), InvalidRequest> {
    let is_ours = |key: &&String| {
        !key.starts_with(KUBELET) && ![SECRETS, BUNDLE, OPTIONAL].contains(&key.as_str())
    };
    if let Some(unknown) = context.keys().filter(is_ours).min() {
        return Err(InvalidRequest::Attribute(unknown.clone()));
    }
    let optional = match context.get(OPTIONAL).map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(InvalidRequest::Optional),
    };
    let wanted = match (context.get(SECRETS), context.get(BUNDLE)) {
        (Some(names), None) => secrets(names).map(Wanted::Secrets),
        (None, Some(name)) if is_label(name) => Some(Wanted::Bundle(name.clone())),
        _ => None,
    };
    Ok((wanted.ok_or(InvalidRequest::Wanted)?, optional))
}

fn secrets(text: &str) -> Option<Vec<String>> {
    let names: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let distinct: BTreeSet<&String> = names.iter().collect();
    let is_valid = distinct.len() == names.len()
        && names.len() <= SECRETS_MAX
        && names.iter().all(|name| is_label(name));
    is_valid.then_some(names)
}

fn is_label(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| is_plain(byte) || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}
