//! Who calls on the port for workloads, before anything else: a call whose token does not count is answered from its headers,
//! takes no slot, and its message is never waited for. What one caller may have at a time is bounded by his name.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use strongroom_core::Caller;
use tonic::{
    Status,
    codegen::http::{HeaderMap, Request, Response},
};
use tower::{Layer, Service};

use super::shares::{Bounds, Calls, Shares};
use crate::{
    grpc::WorkloadPeer,
    service::{CallError, Shown},
};

/// How long a call may wait for another one of the same caller to end.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// A driver reads all volumes of its node, an account may have many pods: as many calls in work, and as many that wait.
const BOUNDS: Bounds = Bounds {
    connections: 256,
    calls: Calls::Together(64),
};

/// Says whose a token is.
pub(super) trait Verify: Send + Sync + 'static {
    fn shown(&self, token: Option<&str>) -> Result<Shown, CallError>;
}

impl Verify for crate::service::Service {
    fn shown(&self, token: Option<&str>) -> Result<Shown, CallError> {
        Self::shown(self, token)
    }
}

/// Lets calls in that show a token which counts, as a layer.
#[derive(Debug)]
pub(super) struct ByToken<V> {
    verify: Arc<V>,
    shares: Shares,
}

impl<V> ByToken<V> {
    pub(super) fn new(verify: Arc<V>) -> Self {
        Self {
            verify,
            shares: Shares::default(),
        }
    }
}

impl<V> Clone for ByToken<V> {
    fn clone(&self) -> Self {
        Self {
            verify: self.verify.clone(),
            shares: self.shares.clone(),
        }
    }
}

impl<S, V> Layer<S> for ByToken<V> {
    type Service = Known<S, V>;

    fn layer(&self, inner: S) -> Known<S, V> {
        Known {
            inner,
            door: self.clone(),
        }
    }
}

/// A service under `ByToken`.
#[derive(Debug)]
pub(super) struct Known<S, V> {
    inner: S,
    door: ByToken<V>,
}

impl<S: Clone, V> Clone for Known<S, V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            door: self.door.clone(),
        }
    }
}

impl<S, V, RequestBody, ResponseBody> Service<Request<RequestBody>> for Known<S, V>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    V: Verify,
    RequestBody: Send + 'static,
    ResponseBody: Default,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> Self::Future {
        // The service that was polled ready must take the request; its clone waits for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let door = self.door.clone();
        Box::pin(async move {
            let shown = match door.verify.shown(bearer(request.headers())) {
                Ok(shown) => shown,
                Err(error) => return Ok(error.into_status().into_http()),
            };
            if let Some(peer) = request.extensions().get::<WorkloadPeer>() {
                peer.until.extend(shown.expires);
            }
            let Some(share) = door.shares.admit(&name(&shown), BOUNDS) else {
                return Ok(too_many().into_http());
            };
            let slot = tokio::time::timeout(QUEUE_WAIT, share.slots().acquire_owned()).await;
            let Ok(Ok(_slot)) = slot else {
                return Ok(too_many().into_http());
            };
            request.extensions_mut().insert(shown);
            inner.call(request).await
        })
    }
}

fn too_many() -> Status {
    Status::resource_exhausted("too many requests of this caller at a time")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get("authorization")?.to_str().ok()?;
    value.strip_prefix("Bearer ")
}

/// Drivers of all nodes have one account; pods of one account are one caller, wherever they run.
fn name(shown: &Shown) -> String {
    let identity = &shown.identity;
    match shown.caller() {
        Caller::CsiDriver(_) => format!("{} on {}", identity.account, identity.node),
        _ => identity.account.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::pending,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use strongroom_core::{ObjectId, PodIdentity, ServiceAccount, Tenant, UnixMillis};

    use super::*;
    use crate::service::{PodError, WorkloadKind};

    /// Takes the token for the account's name.
    struct Names;

    impl Verify for Names {
        fn shown(&self, token: Option<&str>) -> Result<Shown, CallError> {
            let object = |name: &str| ObjectId {
                name: name.parse().unwrap(),
                uid: "uid".parse().unwrap(),
            };
            let account = token.ok_or(PodError::NoToken)?;
            let identity = PodIdentity {
                account: ServiceAccount {
                    tenant: Tenant {
                        cluster: "east".parse().unwrap(),
                        namespace: "payments".parse().unwrap(),
                    },
                    id: object(account),
                },
                pod: object("pod"),
                node: object("node"),
                token: "token".parse().unwrap(),
            };
            Ok(Shown {
                identity: Arc::new(identity),
                expires: UnixMillis::new(0),
                kind: WorkloadKind::Pod,
            })
        }
    }

    fn request(account: Option<&str>) -> Request<()> {
        let mut request = Request::new(());
        if let Some(account) = account {
            let value = format!("Bearer {account}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
        }
        request
    }

    fn code(response: &Response<String>) -> Option<&str> {
        response.headers().get("grpc-status")?.to_str().ok()
    }

    #[tokio::test(start_paused = true)]
    async fn calls_take_slots_of_who_showed_a_token_and_others_take_none() {
        let running = Arc::new(AtomicUsize::new(0));
        let counted = running.clone();
        let mut service =
            ByToken::new(Arc::new(Names)).layer(tower::service_fn(move |_: Request<()>| {
                counted.fetch_add(1, Ordering::Relaxed);
                pending::<Result<Response<String>, Infallible>>()
            }));
        let mut held = tokio::task::JoinSet::new();
        for _ in 0..64 {
            held.spawn(service.call(request(Some("ledger"))));
        }
        while running.load(Ordering::Relaxed) < 64 {
            tokio::task::yield_now().await;
        }
        let strangers = (0..100).map(|_| service.call(request(None)));
        for stranger in strangers.collect::<Vec<_>>() {
            assert_eq!(code(&stranger.await.unwrap()), Some("16"));
        }
        let more = service.call(request(Some("ledger")));
        let refused = tokio::time::timeout(Duration::from_secs(60), more).await;
        let refused = refused.expect("is refused").unwrap();
        assert_eq!(code(&refused), Some("8"));
        assert_eq!(running.load(Ordering::Relaxed), 64);
        held.spawn(service.call(request(Some("api"))));
        tokio::task::yield_now().await;
        assert_eq!(running.load(Ordering::Relaxed), 65, "another account");
    }
}
