//! kms-plugins, by the metrics that each publishes on its node: for a machine without a kubeconfig.

use std::{io, str::FromStr, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::servers::{Kind, Server};
use crate::metrics_text::samples;

/// Set to 1 for the key id that Status reports.
const METRIC: &str = "strongroom_kms_plugin_key_id_info";
const LABEL: &str = "key_id_hash";

/// A plugin answers from memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// All metrics of a plugin are a few kilobytes.
const ANSWER_LIMIT: usize = 1 << 20;

/// Where a plugin publishes its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PluginUrl(Uri);

/// The text is not such a place.
#[derive(Debug, thiserror::Error)]
#[error("a plugin's metrics are at http://HOST:PORT/PATH")]
pub(crate) struct ParsePluginUrlError;

impl FromStr for PluginUrl {
    type Err = ParsePluginUrlError;

    fn from_str(text: &str) -> Result<Self, ParsePluginUrlError> {
        let uri: Uri = text.parse().map_err(|_| ParsePluginUrlError)?;
        if uri.scheme_str() == Some("http") && uri.host().is_some() {
            Ok(Self(uri))
        } else {
            Err(ParsePluginUrlError)
        }
    }
}

/// Why a plugin does not tell its key id.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PluginError {
    #[error("cannot connect to {url}")]
    Connect {
        url: Uri,
        #[source]
        source: io::Error,
    },
    #[error("{url} does not answer")]
    Silent { url: Uri },
    #[error("{url} ended the connection")]
    Http {
        url: Uri,
        #[source]
        source: hyper::Error,
    },
    #[error("{url} answers {status}")]
    Refused { url: Uri, status: StatusCode },
    #[error("{url} answers more than {ANSWER_LIMIT} bytes or breaks off")]
    Body { url: Uri },
    #[error("{url} has no metric {METRIC}; is it a kms-plugin that has started?")]
    NoMetric { url: Uri },
}

/// The plugins that the user named.
pub(super) struct Plugins(Vec<PluginUrl>);

impl Plugins {
    pub(super) const fn new(urls: Vec<PluginUrl>) -> Self {
        Self(urls)
    }

    /// Asks each once.
    pub(super) async fn observe(&self) -> Result<Vec<Server>, PluginError> {
        let mut servers = Vec::new();
        for PluginUrl(url) in &self.0 {
            let text = tokio::time::timeout(ANSWER_TIMEOUT, fetch(url))
                .await
                .map_err(|_| PluginError::Silent { url: url.clone() })??;
            let key_id_hashes = key_id_hashes(&text);
            if key_id_hashes.is_empty() {
                return Err(PluginError::NoMetric { url: url.clone() });
            }
            servers.push(Server {
                kind: Kind::Plugin,
                name: url.to_string(),
                key_id_hashes,
            });
        }
        Ok(servers)
    }
}

fn key_id_hashes(text: &str) -> Vec<String> {
    samples(text, METRIC)
        .filter(|sample| sample.value == 1.0)
        .filter_map(|mut sample| sample.labels.remove(LABEL))
        .collect()
}

async fn fetch(url: &Uri) -> Result<String, PluginError> {
    let host = url.host().unwrap_or_default();
    let address = (host.trim_matches(['[', ']']), url.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| PluginError::Connect {
            url: url.clone(),
            source,
        })?;
    let http = |source| PluginError::Http {
        url: url.clone(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(http)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().unwrap_or_default();
    if let Ok(host) = host.parse() {
        request.headers_mut().insert(hyper::header::HOST, host);
    }
    let answer = async move {
        let response = sender.send_request(request).await.map_err(http)?;
        if response.status() != StatusCode::OK {
            return Err(PluginError::Refused {
                url: url.clone(),
                status: response.status(),
            });
        }
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await;
        let body = body.map_err(|_| PluginError::Body { url: url.clone() })?;
        String::from_utf8(body.to_bytes().into())
            .map_err(|_| PluginError::Body { url: url.clone() })
    };
    // The connection ends when the sender is dropped; its error comes out of the sender too.
    tokio::join!(answer, connection).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_id_in_force_counts() {
        let text = format!("{METRIC}{{{LABEL}=\"old\"}} 0\n{METRIC}{{{LABEL}=\"new\"}} 1\n");
        assert_eq!(key_id_hashes(&text), ["new"]);
    }

    #[test]
    fn urls_are_plain_http() {
        assert!("http://127.0.0.1:8081/metrics".parse::<PluginUrl>().is_ok());
        assert!(
            "https://127.0.0.1:8081/metrics"
                .parse::<PluginUrl>()
                .is_err()
        );
        assert!("/metrics".parse::<PluginUrl>().is_err());
        assert!("127.0.0.1:8081".parse::<PluginUrl>().is_err());
    }
}
