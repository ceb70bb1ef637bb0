//! Who is at the other end of a connection: from the verified certificate, or from the kernel for a socket.

use strongroom_core::{Caller, CertificateIdentity};
use strongroom_runtime::socket::Peer;
use tonic::{Request, Status};

use crate::{service::CallContext, trail::Origin};

/// The metadata in which a caller may give a request id, and in which answers carry it.
const REQUEST_ID: &str = "x-request-id";
/// Longest request id that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// The identity of a TLS connection, as its handshake verified it.
#[derive(Clone, Debug)]
pub(crate) struct TlsIdentity(pub CertificateIdentity);

/// The context of a call over TLS.
pub(super) fn by_certificate<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let TlsIdentity(identity) = request
        .extensions()
        .get::<TlsIdentity>()
        .cloned()
        .ok_or_else(|| {
            Status::unauthenticated("a client certificate of this instance is required")
        })?;
    Ok(CallContext {
        caller: Caller::Certificate(identity),
        origin: origin(request),
    })
}

/// The context of a call over the plugin's socket.
pub(super) fn by_kms_socket<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let uid = peer_uid(request)?;
    Ok(CallContext {
        caller: Caller::KmsSocket { uid },
        origin: origin(request),
    })
}

/// The context of a call over the socket for certificates.
pub(super) fn by_admin_socket<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let uid = peer_uid(request)?;
    Ok(CallContext {
        caller: Caller::AdminSocket { uid },
        origin: origin(request),
    })
}

fn peer_uid<T>(request: &Request<T>) -> Result<u32, Status> {
    let peer = request
        .extensions()
        .get::<Peer>()
        .ok_or_else(|| Status::unauthenticated("the peer is not known"))?;
    Ok(peer.uid)
}

/// A request id that the caller gave, if it is short and plain, or a new one.
fn origin<T>(request: &Request<T>) -> Origin {
    let given = request
        .metadata()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let request_id = given
        .filter(|given| is_plain(given))
        .map_or_else(new_request_id, str::to_owned);
    Origin { request_id }
}

pub(super) fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    !text.is_empty() && text.len() <= REQUEST_ID_MAX && text.bytes().all(plain)
}

fn new_request_id() -> String {
    let number = u128::from_be_bytes(strongroom_crypto::random::public_bytes());
    format!("{number:032x}")
}
