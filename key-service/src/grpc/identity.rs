//! Who is at the other end of a connection: from the verified certificate, or from the kernel for a socket.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use strongroom_core::{Caller, CertificateIdentity, Clock, NodeCredential, UnixMillis};
use strongroom_runtime::socket::Peer;
use tonic::{Request, Status};

use crate::{
    listeners::Share,
    service::{CallContext, CallError, CredentialError, PodError, Shown},
    trail::Origin,
};

/// The metadata in which a caller may give a request id, and in which answers carry it.
const REQUEST_ID: &str = "x-request-id";
/// Longest request id that is taken over.
const REQUEST_ID_MAX: usize = 128;

/// Until when a connection may be used: a handshake looks at a certificate once, a connection can last longer.
#[derive(Clone)]
pub(crate) struct Until {
    clock: Arc<dyn Clock>,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    NotAfter(UnixMillis),
    Elapsed(Duration),
    /// By the boot clock at first, then up to the latest moment that a call showed (milliseconds since 1970).
    Extendable(Duration, Arc<AtomicI64>),
}

impl Until {
    /// Up to the end of a certificate.
    pub(crate) fn not_after(clock: Arc<dyn Clock>, not_after: UnixMillis) -> Self {
        let end = End::NotAfter(not_after);
        Self { clock, end }
    }

    /// For so long from now, whatever becomes of the wall clock.
    pub(crate) fn elapsed(clock: Arc<dyn Clock>, lifetime: Duration) -> Self {
        let end = End::Elapsed(clock.elapsed() + lifetime);
        Self { clock, end }
    }

    /// For so long from now, and then for as long as calls show that it may.
    pub(crate) fn extendable(clock: Arc<dyn Clock>, lifetime: Duration) -> Self {
        let first = clock.elapsed() + lifetime;
        let end = End::Extendable(first, Arc::new(AtomicI64::new(i64::MIN)));
        Self { clock, end }
    }

    /// Puts the end of what is extendable off to this moment, never nearer.
    pub(crate) fn extend(&self, until: UnixMillis) {
        if let End::Extendable(_, extended) = &self.end {
            extended.fetch_max(until.as_i64(), Ordering::Relaxed);
        }
    }

    /// Whether that moment has passed.
    pub(crate) fn has_passed(&self) -> bool {
        match &self.end {
            End::NotAfter(end) => self.clock.now() > *end,
            End::Elapsed(end) => self.clock.elapsed() > *end,
            End::Extendable(first, extended) => {
                let extended = UnixMillis::new(extended.load(Ordering::Relaxed));
                self.clock.elapsed() > *first && self.clock.now() >= extended
            }
        }
    }

    fn check(&self) -> Result<(), Status> {
        if self.has_passed() {
            Err(CallError::Credential(CredentialError::Expired).into_status())
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Until {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.end.fmt(f)
    }
}

/// The identity of a TLS connection, as its handshake verified it.
#[derive(Clone, Debug)]
pub(crate) struct TlsIdentity {
    /// Who.
    pub identity: CertificateIdentity,
    /// For how long.
    pub until: Until,
    /// With how much of the port.
    pub share: Share,
}

/// Who is at the other end of the port for plugins.
#[derive(Clone, Debug)]
pub(crate) struct PluginPeer {
    /// The node of the certificate; none for somebody who is about to get his first.
    pub credential: Option<NodeCredential>,
    /// For how long.
    pub until: Until,
    /// With how much of the port.
    pub share: Share,
}

/// Until when a connection of the port for workloads may be used. Who calls is said by the token of each call.
#[derive(Clone, Debug)]
pub(crate) struct WorkloadPeer {
    pub until: Until,
}

/// Whose token a call over the port for workloads showed; it was verified before anything else.
pub(super) fn shown<T>(request: &Request<T>) -> Result<&Shown, Status> {
    let none = || CallError::from(PodError::NoToken).into_status();
    request.extensions().get::<Shown>().ok_or_else(none)
}

/// The context of a call by a certificate or a token, whichever its port asks for.
pub(super) fn by_either<T>(request: &Request<T>) -> Result<CallContext, Status> {
    match request.extensions().get::<Shown>() {
        None => by_certificate(request),
        Some(shown) => Ok(CallContext {
            caller: shown.caller(),
            origin: origin(request),
        }),
    }
}

/// The node that a call over the port for plugins comes from. What its certificate is worth is another question.
pub(super) fn node_of<T>(request: &Request<T>) -> Result<NodeCredential, Status> {
    let none = || CallError::Credential(CredentialError::NoCertificate).into_status();
    let PluginPeer {
        credential, until, ..
    } = request
        .extensions()
        .get::<PluginPeer>()
        .cloned()
        .ok_or_else(none)?;
    let credential = credential.ok_or_else(none)?;
    until.check()?;
    Ok(credential)
}

/// The context of a call over TLS.
pub(super) fn by_certificate<T>(request: &Request<T>) -> Result<CallContext, Status> {
    let TlsIdentity {
        identity, until, ..
    } = request
        .extensions()
        .get::<TlsIdentity>()
        .cloned()
        .ok_or_else(|| {
            Status::unauthenticated("a client certificate of this instance is required")
        })?;
    until.check()?;
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
pub(super) fn origin<T>(request: &Request<T>) -> Origin {
    let given = request
        .metadata()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let request_id = given
        .filter(|given| is_plain(given))
        .map_or_else(new_request_id, str::to_owned);
    Origin {
        request_id,
        fence: None,
    }
}

pub(super) fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    !text.is_empty() && text.len() <= REQUEST_ID_MAX && text.bytes().all(plain)
}

fn new_request_id() -> String {
    let number = u128::from_be_bytes(strongroom_crypto::random::public_bytes());
    format!("{number:032x}")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Seconds since 1970 and since the start.
    #[derive(Debug, Default)]
    struct Turned(Mutex<(i64, u64)>);

    impl Clock for Turned {
        fn now(&self) -> UnixMillis {
            UnixMillis::new(self.0.lock().unwrap().0 * 1000)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_secs(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_connection_that_shows_nothing_ends_soon_and_another_with_what_it_showed() {
        let clock = Arc::new(Turned::default());
        let at = |seconds: u64| *clock.0.lock().unwrap() = (1_000 + seconds as i64, seconds);
        at(0);
        let until = Until::extendable(clock.clone(), Duration::from_secs(10));
        let shown = Until::extendable(clock.clone(), Duration::from_secs(10));
        let seen_by_a_call = shown.clone();
        seen_by_a_call.extend(UnixMillis::new(1_060_000));
        seen_by_a_call.extend(UnixMillis::new(1_030_000));
        at(10);
        assert!(!until.has_passed());
        at(11);
        assert!(until.has_passed());
        assert!(!shown.has_passed());
        at(60);
        assert!(shown.has_passed());
    }
}
