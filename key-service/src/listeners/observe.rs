//! Count, outcome and duration of every call, as a layer around the services.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use strongroom_runtime::metrics::{Metrics, Requests};
use tonic::{
    Code, Status,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

use super::methods::Services;

const UNKNOWN: &str = "unknown";

/// Outcomes that we answer with, and one for whatever a library adds.
const OUTCOMES: &[&str] = &[
    "ok",
    "invalid_argument",
    "not_found",
    "already_exists",
    "permission_denied",
    "unauthenticated",
    "failed_precondition",
    "aborted",
    "resource_exhausted",
    "unavailable",
    "data_loss",
    "other",
];

/// Observes the calls of one listener.
#[derive(Clone, Debug)]
pub(super) struct Observe {
    requests: Requests,
    services: Services,
}

impl Observe {
    /// Registers the metrics of a listener: `strongroom_<listener>_requests_total` and its like.
    pub(super) fn new(metrics: &Metrics, listener: &'static str, services: Services) -> Self {
        let methods: Vec<&'static str> = services.iter().copied().flatten().copied().collect();
        let methods = [&methods[..], &[UNKNOWN]].concat();
        Self {
            requests: metrics.component(listener).requests(&methods, OUTCOMES),
            services,
        }
    }
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed {
            inner,
            requests: self.requests.clone(),
            services: self.services,
        }
    }
}

/// A service under `Observe`.
#[derive(Clone, Debug)]
pub(super) struct Observed<S> {
    inner: S,
    requests: Requests,
    services: Services,
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for Observed<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
    S::Future: Send + 'static,
    S::Error: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let mut observation = self
            .requests
            .observe(method(request.uri().path(), self.services));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            // A refusal is in the headers; a unary success has its status in the trailers.
            let refusal = Status::from_header_map(answer.headers());
            observation.outcome(refusal.map_or("ok", |status| outcome(status.code())));
            Ok(answer)
        })
    }
}

fn method(path: &str, services: Services) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut methods = services.iter().copied().flatten().copied();
    methods.find(|method| *method == name).unwrap_or(UNKNOWN)
}

fn outcome(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::InvalidArgument => "invalid_argument",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::Unauthenticated => "unauthenticated",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::ResourceExhausted => "resource_exhausted",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::{super::methods, *};

    #[test]
    fn only_our_methods_become_labels() {
        let of = |path: &str| method(path, methods::NATIVE);
        assert_eq!(of("/strongroom.v1.Keys/RotateKey"), "RotateKey");
        assert_eq!(of("/strongroom.v1.Pods/ReadForPod"), UNKNOWN);
        assert_eq!(of("/x/../../etc"), UNKNOWN);
        assert_eq!(of(""), UNKNOWN);
    }

    #[test]
    fn every_outcome_is_registered() {
        for code in 0..17 {
            assert!(OUTCOMES.contains(&outcome(Code::from_i32(code))), "{code}");
        }
    }
}
