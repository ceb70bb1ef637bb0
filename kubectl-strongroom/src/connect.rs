//! From flags and configuration to a connection with the key service, straight or through the cluster.

mod forward;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use rustls::AlertDescription;
use tokio::{io::AsyncBufReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{
    args::{ConnectionArgs, SystemArgs},
    cluster::{Cluster, ClusterError, Kind, Kubeconfig, Scope, objects},
    config::{Config, ConfigError},
    environment::Environment,
    exit::Exit,
    tls::{self, TlsError},
};
use forward::Forward;
pub(crate) use forward::{ForwardError, Kubectl};

/// A key service that does not shake hands within this time is taken for unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest call is a rotation, which waits for the HSM.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A host or address, and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    host: String,
    port: u16,
}

/// The text is not an address.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an address is HOST:PORT, such as 127.0.0.1:8443, [::1]:8443 or node-1:8443")]
pub(crate) struct ParseAddressError;

impl FromStr for Address {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        let (host, port) = text.rsplit_once(':').ok_or(ParseAddressError)?;
        let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(host) if host.parse::<IpAddr>().is_ok() => host,
            Some(_) => return Err(ParseAddressError),
            None => host,
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let is_name = !host.is_empty() && host.chars().all(allowed);
        if !is_name && (host.parse::<IpAddr>().is_err() || !text.starts_with('[')) {
            return Err(ParseAddressError);
        }
        match port.parse() {
            Ok(port) if port != 0 => Ok(Self {
                host: host.to_owned(),
                port,
            }),
            _ => Err(ParseAddressError),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Everything that a connection needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) server: Server,
    pub(crate) root: Root,
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Where the key service is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Server {
    At(Address),
    /// Through the API server.
    Forwarded(Kubectl),
}

/// Where the root comes from that the key service's certificate must lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    File(PathBuf),
    /// What the key service published in its namespace, which its own account alone may write.
    Published {
        kubeconfig: Kubeconfig,
        namespace: String,
    },
}

/// Why it is not known where to connect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("`server` in {path:?} is not an address")]
    Server {
        path: PathBuf,
        #[source]
        source: ParseAddressError,
    },
    #[error(
        "no {0} is given, and there is no kubeconfig to go by; give --{0}, or set `{0}` in \
         ~/.config/strongroom/config.yaml"
    )]
    Missing(&'static str),
    #[error(
        "no {0} is given; get one with `kubectl strongroom admin-certificate`, give --{0}, or set `{0}` in \
         ~/.config/strongroom/config.yaml"
    )]
    NoIdentity(&'static str),
}

impl Settings {
    /// Takes each setting from its flag, otherwise from the configuration file, otherwise from the cluster.
    pub(crate) fn resolve(
        args: &ConnectionArgs,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let ConnectionArgs {
            config,
            server,
            ca,
            certificate,
            key,
            system,
            cluster,
        } = args.clone();
        let all_given = server.is_some() && ca.is_some() && certificate.is_some() && key.is_some();
        let path = match config {
            Some(path) => Some(path),
            None if all_given => None,
            None => default_config(environment),
        };
        let file = path
            .as_deref()
            .map(Config::load)
            .transpose()?
            .unwrap_or_default();
        let kubeconfig = Kubeconfig::find(&cluster, environment);
        let server = match (server, file.server, &kubeconfig) {
            (Some(server), _, _) => Server::At(server),
            (None, Some(text), _) => {
                let parsed = text.parse().map_err(|source| SettingsError::Server {
                    path: path.unwrap_or_default(),
                    source,
                });
                Server::At(parsed?)
            }
            (None, None, Some(_)) => {
                Server::Forwarded(Kubectl::new(&cluster, &system, environment))
            }
            (None, None, None) => return Err(SettingsError::Missing("server")),
        };
        let root = match (ca.or(file.ca), kubeconfig) {
            (Some(path), _) => Root::File(path),
            (None, Some(kubeconfig)) => Root::Published {
                kubeconfig,
                namespace: system.system_namespace.to_string(),
            },
            (None, None) => return Err(SettingsError::Missing("ca")),
        };
        Ok(Self {
            server,
            root,
            certificate: certificate
                .or(file.certificate)
                .ok_or(SettingsError::NoIdentity("certificate"))?,
            key: key.or(file.key).ok_or(SettingsError::NoIdentity("key"))?,
        })
    }

    /// Whether flags or a configuration file say anything about a key service.
    pub(crate) fn are_given(args: &ConnectionArgs, environment: &Environment) -> bool {
        let ConnectionArgs {
            config,
            server,
            ca,
            certificate,
            key,
            system: SystemArgs { .. },
            cluster: _,
        } = args;
        config.is_some()
            || server.is_some()
            || [ca, certificate, key].into_iter().any(Option::is_some)
            || default_config(environment).is_some()
    }
}

/// The user's file, otherwise the machine's.
fn default_config(environment: &Environment) -> Option<PathBuf> {
    let users = environment
        .home
        .as_ref()
        .map(|home| home.join(".config/strongroom/config.yaml"));
    let machines = environment.system_config.clone();
    users
        .into_iter()
        .chain([machines])
        .find(|path| path.exists())
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    Prepare(#[from] TlsError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
    #[error("the root of the key service is not known (give --ca)")]
    Root(#[source] ClusterError),
    #[error(
        "the key service published no root in ConfigMap {namespace}/{CA_CONFIG_MAP}; it does so once it is initialised (give \
         --ca if you have it in a file)"
    )]
    NoRoot { namespace: String },
    #[error("cannot reach the key service at {server} (check the address and that it runs)")]
    Reach {
        server: Address,
        #[source]
        source: io::Error,
    },
    #[error("{server} does not answer as a key service within {} s", CONNECT_TIMEOUT.as_secs())]
    Silent { server: Address },
    #[error("no TLS 1.3 connection with {server} (check that the root is that of this instance)")]
    ShakeHands {
        server: Address,
        #[source]
        source: io::Error,
    },
    #[error(
        "the key service does not accept your certificate: {} (get a new one with \
         `kubectl strongroom admin-certificate`, or `key-service admin-certificate` on its node)", tls::refusal(*.alert)
    )]
    Certificate { alert: AlertDescription },
    #[error("{server} does not speak gRPC")]
    Protocol {
        server: Address,
        #[source]
        source: tonic::transport::Error,
    },
}

impl ConnectError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Prepare(_) => Exit::Usage,
            Self::Certificate { .. } => Exit::Denied,
            Self::Root(error) => error.exit(),
            Self::Forward(_)
            | Self::NoRoot { .. }
            | Self::Reach { .. }
            | Self::Silent { .. }
            | Self::ShakeHands { .. }
            | Self::Protocol { .. } => Exit::Failed,
        }
    }
}

/// Connects and shakes hands. A connection that ends is not made again: every command is short.
pub(crate) async fn connect(settings: &Settings) -> Result<Channel, ConnectError> {
    let root = match &settings.root {
        Root::File(path) => tls::TrustedRoot::File(path.clone()),
        Root::Published {
            kubeconfig,
            namespace,
        } => tls::TrustedRoot::Pem(published_root(kubeconfig.clone(), namespace).await?),
    };
    let config = tls::client_config(&root, &settings.certificate, &settings.key)?;
    let connector = TlsConnector::from(Arc::new(config));
    let (server, forward) = match &settings.server {
        Server::At(address) => (address.clone(), None),
        Server::Forwarded(kubectl) => {
            let forward = Forward::open(kubectl).await?;
            (Address::from(forward.address), Some(forward))
        }
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, shake_hands(connector, &server))
        .await
        .map_err(|_| ConnectError::Silent {
            server: server.clone(),
        })??;
    let mut stream = Some(TokioIo::new(stream));
    // TLS is ours, so tonic must see a scheme without it; requests carry the true one.
    Endpoint::from_static("http://key-service.strongroom.dev")
        .origin(Uri::from_static("https://key-service.strongroom.dev"))
        .timeout(CALL_TIMEOUT)
        .connect_with_connector(service_fn(move |_| {
            // The channel keeps this closure, and with it the way to the server.
            let _open = &forward;
            let stream = stream.take().ok_or(io::ErrorKind::NotConnected);
            async move { stream.map_err(io::Error::from) }
        }))
        .await
        .map_err(|source| ConnectError::Protocol { server, source })
}

const CA_CONFIG_MAP: &str = "strongroom-ca";

async fn published_root(kubeconfig: Kubeconfig, namespace: &str) -> Result<String, ConnectError> {
    let cluster = Cluster::open(kubeconfig)
        .await
        .map_err(ConnectError::Root)?;
    root_of(&cluster, namespace)
        .await
        .map_err(ConnectError::Root)?
        .ok_or_else(|| ConnectError::NoRoot {
            namespace: namespace.to_owned(),
        })
}

/// The root that the key service published, PEM.
pub(crate) async fn root_of(
    cluster: &Cluster,
    namespace: &str,
) -> Result<Option<String>, ClusterError> {
    let scope = Scope::Namespace(namespace);
    let found: Option<objects::ConfigMap> =
        cluster.get(Kind::ConfigMap, scope, CA_CONFIG_MAP).await?;
    Ok(found.and_then(|mut map| map.data.remove("ca.crt")))
}

/// With TLS 1.3 the server judges the client's certificate after the client is done. A gRPC server speaks first, so the
/// verdict, or its first bytes in place of one, is awaited here and not in the middle of the first call.
async fn shake_hands(
    connector: TlsConnector,
    server: &Address,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let reach = |source| ConnectError::Reach {
        server: server.clone(),
        source,
    };
    let stream = TcpStream::connect((server.host.as_str(), server.port))
        .await
        .map_err(reach)?;
    stream.set_nodelay(true).map_err(reach)?;
    let failed = |source| match tls::certificate_alert(&source) {
        Some(alert) => ConnectError::Certificate { alert },
        None => ConnectError::ShakeHands {
            server: server.clone(),
            source,
        },
    };
    let mut stream = connector
        .connect(tls::server_name(), stream)
        .await
        .map_err(failed)?;
    stream.fill_buf().await.map_err(failed)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let address = text
            .parse::<Address>()
            .ok()
            .map(|address| address.to_string());
        assert_eq!(address.as_deref(), expected, "{text}");
    }

    #[test]
    fn address_needs_host_and_port() {
        check("127.0.0.1:8443", Some("127.0.0.1:8443"));
        check("node-1.example:1", Some("node-1.example:1"));
        check("[::1]:8443", Some("[::1]:8443"));
        check("::1:8443", None);
        check("[node]:8443", None);
        check("127.0.0.1", None);
        check(":8443", None);
        check("node:0", None);
        check("node:65536", None);
        check("https://node:8443", None);
    }
}
