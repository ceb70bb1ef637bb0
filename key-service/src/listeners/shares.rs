//! What one caller may have of a port once it is known: connections, and calls in work. Without it whoever has some
//! certificate could hold everybody's slots with calls that it never finishes to send.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::{
    Status,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

/// How long a call may wait for another one of the same caller to end.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// What a caller gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at a time.
    pub(super) connections: usize,
    /// Calls in work.
    pub(super) calls: Calls,
}

/// How many calls, of what.
#[derive(Clone, Copy, Debug)]
pub(super) enum Calls {
    /// Of all connections together: they are one caller.
    Together(usize),
    /// Of each connection: behind one name are many.
    Each(usize),
}

/// The callers of one port, as long as they have connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares(Arc<Mutex<HashMap<String, Known>>>);

#[derive(Debug)]
struct Known {
    connections: usize,
    slots: Arc<Semaphore>,
}

/// The share of a connection's caller. The connection counts until the last clone is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Share(Arc<Held>);

#[derive(Debug)]
struct Held {
    shares: Shares,
    caller: String,
    slots: Arc<Semaphore>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut known = self.shares.known();
        if let Some(caller) = known.get_mut(&self.caller) {
            caller.connections -= 1;
            if caller.connections == 0 {
                known.remove(&self.caller);
            }
        }
    }
}

impl Share {
    /// The calls that its caller may have in work.
    pub(super) fn slots(&self) -> Arc<Semaphore> {
        self.0.slots.clone()
    }
}

impl Shares {
    /// Takes a place for one more connection of a caller; none when it has enough.
    pub(super) fn admit(&self, caller: &str, bounds: Bounds) -> Option<Share> {
        let (Calls::Together(calls) | Calls::Each(calls)) = bounds.calls;
        let mut known = self.known();
        let entry = known.entry(caller.to_owned()).or_insert_with(|| Known {
            connections: 0,
            slots: Arc::new(Semaphore::new(calls)),
        });
        if entry.connections >= bounds.connections {
            return None;
        }
        entry.connections += 1;
        let slots = match bounds.calls {
            Calls::Together(_) => entry.slots.clone(),
            Calls::Each(calls) => Arc::new(Semaphore::new(calls)),
        };
        Some(Share(Arc::new(Held {
            shares: self.clone(),
            caller: caller.to_owned(),
            slots,
        })))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Each step leaves whole numbers behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What calls know of their connection, with its caller's share in it.
pub(super) trait Sharing: Clone + Send + Sync + 'static {
    fn share(&self) -> &Share;
}

/// Lets each call take a slot of its caller before one of everybody's, as a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ByCaller<P>(std::marker::PhantomData<fn() -> P>);

impl<P> ByCaller<P> {
    pub(super) const fn new() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<S, P> Layer<S> for ByCaller<P> {
    type Service = Apart<S, P>;

    fn layer(&self, inner: S) -> Apart<S, P> {
        Apart {
            inner,
            layer: std::marker::PhantomData,
        }
    }
}

/// A service under `ByCaller`.
#[derive(Debug)]
pub(super) struct Apart<S, P> {
    inner: S,
    layer: std::marker::PhantomData<fn() -> P>,
}

impl<S: Clone, P> Clone for Apart<S, P> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer,
        }
    }
}

impl<S, P, RequestBody, ResponseBody> Service<Request<RequestBody>> for Apart<S, P>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    P: Sharing,
    RequestBody: Send + 'static,
    ResponseBody: Default,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        // The service that was polled ready must take the request; its clone waits for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let slots = request
            .extensions()
            .get::<P>()
            .map(|peer| peer.share().0.slots.clone());
        Box::pin(async move {
            let Some(slots) = slots else {
                let refusal = Status::unauthenticated("the peer is not known");
                return Ok(refusal.into_http());
            };
            let slot = tokio::time::timeout(QUEUE_WAIT, slots.acquire_owned()).await;
            let Ok(Ok(_slot)) = slot else {
                let refusal =
                    Status::resource_exhausted("too many requests of this caller at a time");
                return Ok(refusal.into_http());
            };
            inner.call(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 2,
        calls: Calls::Together(1),
    };

    #[derive(Clone)]
    struct Peer(Share);

    impl Sharing for Peer {
        fn share(&self) -> &Share {
            &self.0
        }
    }

    fn request(share: &Share, path: &str) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = path.parse().unwrap();
        request.extensions_mut().insert(Peer(share.clone()));
        request
    }

    fn code(response: &Response<String>) -> Option<&str> {
        response.headers().get("grpc-status")?.to_str().ok()
    }

    /// A service whose calls end only on one path.
    async fn answer(request: Request<()>) -> Result<Response<String>, Infallible> {
        if request.uri().path() != "/quick" {
            pending::<()>().await;
        }
        Ok(Response::new("done".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_ends_no_call_keeps_only_itself_waiting() {
        let shares = Shares::default();
        let one = shares.admit("one", BOUNDS).unwrap();
        let also_one = shares.admit("one", BOUNDS).unwrap();
        let other = shares.admit("other", BOUNDS).unwrap();
        let mut service = ByCaller::<Peer>::new().layer(tower::service_fn(answer));
        let held = service.call(request(&one, "/slow"));
        let refused = service.call(request(&also_one, "/quick"));
        let served = service.call(request(&other, "/quick"));
        let rest = async { (served.await.unwrap(), refused.await.unwrap()) };
        tokio::select! {
            biased;
            _ = held => unreachable!("it never ends"),
            (served, refused) = rest => {
                assert_eq!(served.body(), "done");
                assert_eq!(code(&refused), Some("8"));
            }
        }
    }

    #[test]
    fn each_connection_has_calls_of_its_own_where_many_share_a_name() {
        let shares = Shares::default();
        let bounds = Bounds {
            calls: Calls::Each(1),
            ..BOUNDS
        };
        let slots = |share: &Share| share.0.slots.clone();
        let (one, other) = (
            shares.admit("", bounds).unwrap(),
            shares.admit("", bounds).unwrap(),
        );
        let _held = slots(&one).try_acquire_owned().unwrap();
        assert!(slots(&other).try_acquire_owned().is_ok());
        assert!(shares.admit("", bounds).is_none());
    }

    #[test]
    fn a_caller_without_connections_is_forgotten() {
        let shares = Shares::default();
        let one = shares.admit("one", BOUNDS);
        let clone = one.clone();
        let two = shares.admit("one", BOUNDS);
        assert!(shares.admit("one", BOUNDS).is_none());
        drop((one, two));
        assert!(shares.admit("one", BOUNDS).is_some(), "a clone counts once");
        drop(clone);
        assert!(shares.known().is_empty());
    }
}
