//! Refuses every call of a listener while the fence is closed, before anything looks at it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
    metadata::MetadataValue,
};
use tower::{Layer, Service};

use crate::fence::Fence;

/// The word for it beside the status, as other refusals have theirs.
const REASON: (&str, &str) = ("strongroom-reason", "Fenced");

/// Guards the calls of one listener.
#[derive(Clone, Debug)]
pub(super) struct Guard(pub(super) Fence);

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        let fence = self.0.clone();
        Guarded { inner, fence }
    }
}

/// A service under `Guard`.
#[derive(Clone, Debug)]
pub(super) struct Guarded<S> {
    inner: S,
    fence: Fence,
}

impl<S, RequestBody> Service<Request<RequestBody>> for Guarded<S>
where
    S: Service<Request<RequestBody>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        match self.fence.reason() {
            None => Box::pin(self.inner.call(request)),
            Some(reason) => Box::pin(std::future::ready(Ok(refusal(&reason)))),
        }
    }
}

fn refusal(reason: &str) -> Response<Body> {
    let mut status = Status::unavailable(format!("the key service is fenced: {reason}"));
    let (name, word) = REASON;
    status
        .metadata_mut()
        .insert(name, MetadataValue::from_static(word));
    status.into_http()
}
