//! Bindings in records, from and to the bytes of the store. The tenant of an object is that of its ring, in no second place.

use std::sync::Arc;

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{Access, AccessBinding, AccessRole, ObjectId, Tenant};

use super::codec::{DecodeError, Decoded};

pub(super) fn encode(access: &Access) -> Vec<wire::Binding> {
    access.bindings().iter().map(encode_binding).collect()
}

fn encode_binding(binding: &AccessBinding) -> wire::Binding {
    wire::Binding {
        role: match binding.role {
            AccessRole::SecretReader => 1,
            AccessRole::KeyEncrypter => 2,
            AccessRole::KeyDecrypter => 3,
        },
        account: binding.account.name.to_string(),
        account_uid: binding.account.uid.to_string(),
    }
}

/// Takes the bindings of a kind of object that has these roles.
pub(super) fn decode(
    tenant: Option<Tenant>,
    access: &[wire::Binding],
    roles: &[AccessRole],
) -> Decoded<Arc<Access>> {
    let bindings = access.iter().map(decode_binding);
    let bindings = bindings.collect::<Decoded<Vec<_>>>()?;
    if bindings.iter().any(|it| !roles.contains(&it.role)) {
        return Err(DecodeError("role"));
    }
    let access = Access::new(tenant, bindings);
    access.map(Arc::new).map_err(|_| DecodeError("access"))
}

fn decode_binding(binding: &wire::Binding) -> Decoded<AccessBinding> {
    Ok(AccessBinding {
        role: match binding.role {
            1 => AccessRole::SecretReader,
            2 => AccessRole::KeyEncrypter,
            3 => AccessRole::KeyDecrypter,
            _ => return Err(DecodeError("role")),
        },
        account: ObjectId {
            name: binding
                .account
                .parse()
                .map_err(|_| DecodeError("account"))?,
            uid: binding
                .account_uid
                .parse()
                .map_err(|_| DecodeError("account_uid"))?,
        },
    })
}
