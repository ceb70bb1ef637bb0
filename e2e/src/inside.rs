//! gRPC with the key service of a node, whose network the machine cannot reach: a program on the node carries the bytes.

use std::{fs, io, process::Stdio, sync::Arc};

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use strongroom_hack::cluster::Node;
use strongroom_runtime::SystemClock;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Where `bootstrap` puts the first administrator's credentials.
const ADMINISTRATOR: &str = "/etc/strongroom/administrator";

/// Copies both ways between its standard streams and an address.
const CARRY: &str = "exec 3<>/dev/tcp/$0/$1; cat <&3 & exec cat >&3";

/// A connection of the first administrator with the native port of a node; it is not made again.
///
/// # Errors
/// When the credentials are not there, or the key service does not take them.
pub async fn administrator(node: Node<'_>) -> Result<Channel> {
    let read = |name: &str| fs::read(node.on_disk(&format!("{ADMINISTRATOR}/{name}")));
    let root = CertificateDer::from_pem_slice(&read("ca.pem")?)?;
    let chain =
        CertificateDer::pem_slice_iter(&read("certificate.pem")?).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(&read("key.pem")?)?;
    let config = strongroom_auth::client_tls(&root, chain, key, Arc::new(SystemClock))?;
    let (carrier, streams) = carry(node, 8443)?;
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector
        .connect(strongroom_auth::server_name(), streams)
        .await?;
    let mut stream = Some((TokioIo::new(stream), carrier));
    let connector = service_fn(move |_| {
        let taken = stream.take().ok_or(io::ErrorKind::NotConnected);
        async move {
            let (stream, mut carrier) = taken.map_err(io::Error::from)?;
            // It ends with the connection, whose other end it holds.
            #[allow(clippy::disallowed_methods, reason = "ends with the connection")]
            tokio::spawn(async move { carrier.wait().await });
            Ok::<_, io::Error>(stream)
        }
    });
    let endpoint = Endpoint::from_static("http://key-service.strongroom.dev");
    Ok(endpoint.connect_with_connector(connector).await?)
}

type Streams = tokio::io::Join<ChildStdout, ChildStdin>;

fn carry(node: Node<'_>, port: u16) -> Result<(Child, Streams)> {
    let mut command = node.command("bash")?;
    command.args(["-c", CARRY, &node.address().to_string(), &port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut carrier = Command::from(command).kill_on_drop(true).spawn()?;
    let stdout = carrier.stdout.take().context("stdout is a pipe")?;
    let stdin = carrier.stdin.take().context("stdin is a pipe")?;
    Ok((carrier, tokio::io::join(stdout, stdin)))
}
