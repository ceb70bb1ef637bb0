//! Certificates of nodes: one URI as subject alternative name says instance, role and node. The common name says nothing.

use strongroom_core::{InstanceId, NodeCredential, NodeIdentity, NodeRole};
use x509_parser::{extensions::GeneralName, prelude::X509Certificate};

use super::{IdentityError, check_not_authority, check_usage, parse, serial};

/// The name that a certificate of a node carries: `strongroom://INSTANCE/ROLE/NODE`.
#[must_use]
pub fn node_uri(instance: InstanceId, identity: &NodeIdentity) -> String {
    format!("strongroom://{instance}/{identity}")
}

/// Reads which node of this instance the holder of a verified client certificate (DER) is.
///
/// # Errors
/// See `IdentityError`; a certificate of a person or an application is `NotOfNode`.
pub fn node_credential(leaf: &[u8], instance: InstanceId) -> Result<NodeCredential, IdentityError> {
    let certificate = parse(leaf)?;
    check_not_authority(&certificate)?;
    check_usage(&certificate)?;
    let identity = only_uri(&certificate)?
        .and_then(|uri| node_of(uri, instance))
        .ok_or(IdentityError::NotOfNode)?;
    Ok(NodeCredential {
        identity,
        serial: serial(&certificate),
    })
}

fn only_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<Option<&'a str>, IdentityError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| IdentityError::Malformed)?;
    Ok(
        names.and_then(|names| match names.value.general_names.as_slice() {
            [GeneralName::URI(uri)] => Some(*uri),
            _ => None,
        }),
    )
}

fn node_of(uri: &str, instance: InstanceId) -> Option<NodeIdentity> {
    let (of, rest) = uri.strip_prefix("strongroom://")?.split_once('/')?;
    let (role, node) = rest.split_once('/')?;
    let identity = NodeIdentity {
        role: (role == NodeRole::KmsPlugin.as_str()).then_some(NodeRole::KmsPlugin)?,
        node: node.parse().ok()?,
    };
    (of == instance.to_string()).then_some(identity)
}
