//! Bounds of a gRPC server: how much one connection and all of them together may ask. What is too much is refused at
//! once with a typed code, never queued without end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Semaphore;
use tonic::{
    Status,
    codegen::http::{Request, Response},
    transport::Server,
};
use tower::{Layer, Service};

/// Bounds of one server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that one connection may have open.
    pub streams_per_connection: u32,
    /// Requests in work over all connections; see [`Limits::concurrency`].
    pub concurrent_requests: usize,
    /// How long a request may wait for one of the others to end.
    pub queue_wait: Duration,
    /// After this a request is cancelled.
    pub request_timeout: Duration,
    /// Largest message that is decoded or sent; for `max_decoding_message_size` of a generated server.
    pub message_bytes: usize,
}

/// What a peer may send ahead on one request, and on all of a connection: so much of a request that waits for its turn is held.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;
const HEADER_LIST_BYTES: u32 = 16 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams reset before they are accepted ("rapid reset") end the connection after this many.
const PENDING_RESETS: usize = 32;

impl Limits {
    /// Returns a builder with the bounds of one connection.
    pub fn server(&self) -> Server {
        Server::builder()
            .max_concurrent_streams(self.streams_per_connection)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_max_header_list_size(HEADER_LIST_BYTES)
            .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS))
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .timeout(self.request_timeout)
    }

    /// Returns the layer that bounds all connections together.
    pub fn concurrency(&self) -> Concurrency {
        Concurrency {
            slots: Arc::new(Semaphore::new(self.concurrent_requests)),
            queue_wait: self.queue_wait,
        }
    }
}

/// Bounds the requests in work; one that finds no slot in time gets RESOURCE_EXHAUSTED.
#[derive(Clone, Debug)]
pub struct Concurrency {
    slots: Arc<Semaphore>,
    queue_wait: Duration,
}

impl<S> Layer<S> for Concurrency {
    type Service = Bounded<S>;

    fn layer(&self, inner: S) -> Bounded<S> {
        Bounded {
            inner,
            limit: self.clone(),
        }
    }
}

/// A service under [`Concurrency`].
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    limit: Concurrency,
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for Bounded<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
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
        let Concurrency { slots, queue_wait } = self.limit.clone();
        Box::pin(async move {
            let slot = tokio::time::timeout(queue_wait, slots.acquire_owned()).await;
            let Ok(Ok(_slot)) = slot else {
                let refusal = Status::resource_exhausted("too many requests at a time");
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

    fn limits() -> Limits {
        Limits {
            streams_per_connection: 8,
            concurrent_requests: 1,
            queue_wait: Duration::from_millis(10),
            request_timeout: Duration::from_secs(1),
            message_bytes: 1024,
        }
    }

    fn code(response: &Response<String>) -> Option<&str> {
        response.headers().get("grpc-status")?.to_str().ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_limit_is_refused_by_code() {
        let mut service = limits()
            .concurrency()
            .layer(tower::service_fn(|_: Request<()>| {
                pending::<Result<Response<String>, Infallible>>()
            }));
        let first = service.call(Request::new(()));
        let second = service.call(Request::new(()));
        tokio::select! {
            biased;
            _ = first => unreachable!("it never ends"),
            answer = second => assert_eq!(code(&answer.unwrap()), Some("8")),
        }
    }

    #[tokio::test]
    async fn a_slot_is_given_back() {
        let mut service = limits()
            .concurrency()
            .layer(tower::service_fn(|_: Request<()>| async {
                Ok::<_, Infallible>(Response::new("done".to_owned()))
            }));
        for _ in 0..3 {
            assert_eq!(service.call(Request::new(())).await.unwrap().body(), "done");
        }
    }
}
