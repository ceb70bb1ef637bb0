//! `/healthz`, `/readyz` and `/metrics` over plain HTTP/1.1, for the kubelet and Prometheus.
//!
//! Live and ready are apart: `/healthz` says that the process answers, so an outage elsewhere restarts nothing. A process that
//! can tell that it stands still says so there.

use std::{convert::Infallible, fmt::Write, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{Readiness, metrics::Metrics};

/// Kubelet, Prometheus and a person or two; anybody on the node can reach this port.
const MAX_CONNECTIONS: usize = 32;
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(30);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The least that hyper accepts.
const MAX_BUFFER_BYTES: usize = 8 * 1024;

/// What the probes show.
#[derive(Clone, Debug)]
pub(crate) struct Probes {
    pub(crate) readiness: Readiness,
    pub(crate) liveness: Readiness,
    pub(crate) metrics: Metrics,
}

/// Opens the port of the probes.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves probes until the shutdown resolves.
pub(crate) async fn serve(
    listener: std::net::TcpListener,
    probes: Probes,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accept = async {
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let probes = probes.clone();
                    #[allow(clippy::disallowed_methods, reason = "bounded by slots and by age")]
                    tokio::spawn(async move {
                        let _ =
                            tokio::time::timeout(MAX_CONNECTION_AGE, answer(stream, probes)).await;
                        drop(slot);
                    });
                }
                // Out of descriptors, most likely: those in use come back.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = shutdown => {}
    }
    Ok(())
}

async fn answer(stream: TcpStream, probes: Probes) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(request.method(), request.uri().path(), &probes);
        async move { Ok::<_, Infallible>(response) }
    });
    // An error here is the peer's: it went away or did not speak HTTP.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(method: &Method, path: &str, probes: &Probes) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
    }
    match path {
        "/healthz" => ready(&probes.liveness),
        "/readyz" => ready(&probes.readiness),
        "/metrics" => text(StatusCode::OK, probes.metrics.encode()),
        _ => text(StatusCode::NOT_FOUND, "not found\n"),
    }
}

fn ready(readiness: &Readiness) -> Response<Full<Bytes>> {
    let missing = readiness.missing();
    if missing.is_empty() {
        let said = readiness.awaiting().unwrap_or("ok");
        return text(StatusCode::OK, format!("{said}\n"));
    }
    let body = missing
        .iter()
        .fold(String::new(), |mut body, (name, reason)| {
            let _ = writeln!(body, "{name}: {reason}");
            body
        });
    text(StatusCode::SERVICE_UNAVAILABLE, body)
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn exchange(readiness: Readiness, request: &str) -> String {
        exchange_with(readiness, Readiness::default(), request).await
    }

    async fn exchange_with(readiness: Readiness, liveness: Readiness, request: &str) -> String {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let probes = Probes {
            liveness,
            readiness,
            metrics: Metrics::default(),
        };
        let client = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        tokio::select! {
            answer = client => answer,
            _ = serve(listener, probes, std::future::pending()) => unreachable!(),
        }
    }

    fn get(path: &str) -> String {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn readiness_names_each_missing_thing() {
        let readiness = Readiness::default();
        readiness.condition("hsm").missing("agent does not answer");
        let answer = exchange(readiness, &get("/readyz")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("hsm: agent does not answer\n"), "{answer}");
    }

    #[tokio::test]
    async fn readiness_says_what_a_ready_process_awaits() {
        let readiness = Readiness::default();
        readiness.condition("start").awaits("awaiting init");
        let answer = exchange(readiness, &get("/readyz")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nawaiting init\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_process_that_is_not_ready_is_alive() {
        let readiness = Readiness::default();
        let _missing = readiness.condition("hsm");
        let answer = exchange(readiness, &get("/healthz")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_process_that_stands_still_is_not_alive() {
        let liveness = Readiness::default();
        liveness.condition("progress").missing("nothing gets on");
        let answer = exchange_with(Readiness::default(), liveness, &get("/healthz")).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("progress: nothing gets on\n"), "{answer}");
    }

    #[tokio::test]
    async fn oversized_headers_are_refused() {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
            "x".repeat(MAX_BUFFER_BYTES)
        );
        let answer = exchange(Readiness::default(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[tokio::test]
    async fn only_get_is_answered() {
        let request = get("/metrics").replace("GET", "POST");
        let answer = exchange(Readiness::default(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    }
}
