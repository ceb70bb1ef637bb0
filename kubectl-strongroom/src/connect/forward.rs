//! The way to a key service that has no address outside the cluster: kubectl forwards a port of this machine to its Service.
//!
//! TLS goes through it from end to end, so neither kubectl nor the API server is believed about anything.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    args::{ClusterArgs, SystemArgs},
    environment::Environment,
    output::plain,
};

const SERVICE: &str = "service/strongroom-key-service";
/// Any port here, to the port of that name there.
const PORTS: &str = ":native";
const LIMIT: Duration = Duration::from_secs(20);
const STDERR_MAX: u64 = 4096;

/// kubectl, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kubectl {
    program: PathBuf,
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    namespace: String,
}

impl Kubectl {
    pub(crate) fn new(
        cluster: &ClusterArgs,
        system: &SystemArgs,
        environment: &Environment,
    ) -> Self {
        let ClusterArgs {
            kubeconfig,
            context,
        } = cluster.clone();
        Self {
            program: environment.kubectl.clone(),
            kubeconfig,
            context,
            namespace: system.system_namespace.to_string(),
        }
    }

    /// A command that ends with whoever waits for it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(kubeconfig) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = &self.context {
            command.arg("--context").arg(context);
        }
        command.arg("--namespace").arg(&self.namespace);
        command.kill_on_drop(true);
        command
    }

    pub(crate) const fn program(&self) -> &PathBuf {
        &self.program
    }
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("cannot run {program:?} to reach the key service; install kubectl, or give --server")]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "kubectl does not forward a port to {SERVICE} (give --server if it is reached in another way): {0}"
    )]
    Ended(String),
    #[error("kubectl does not forward a port to {SERVICE} within {} s", LIMIT.as_secs())]
    Silent,
}

/// An open way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) address: SocketAddr,
    _child: Child,
}

impl Forward {
    pub(super) async fn open(kubectl: &Kubectl) -> Result<Self, ForwardError> {
        let mut child = kubectl
            .command()
            .args(["port-forward", "--address=127.0.0.1", SERVICE, PORTS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| ForwardError::Start {
                program: kubectl.program.clone(),
                source,
            })?;
        match tokio::time::timeout(LIMIT, forwarded(&mut child)).await {
            Err(_) => Err(ForwardError::Silent),
            Ok(Some(address)) => Ok(Self {
                address,
                _child: child,
            }),
            Ok(None) => Err(ForwardError::Ended(last_words(&mut child).await)),
        }
    }
}

/// The address that kubectl says it listens on; none if it ends before.
async fn forwarded(child: &mut Child) -> Option<SocketAddr> {
    let mut lines = BufReader::new(child.stdout.as_mut()?).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = parse(&line) {
            return Some(address);
        }
    }
    None
}

fn parse(line: &str) -> Option<SocketAddr> {
    let (address, _) = line.strip_prefix("Forwarding from ")?.split_once(" -> ")?;
    let address: SocketAddr = address.parse().ok()?;
    (address.ip() == Ipv4Addr::LOCALHOST).then_some(address)
}

async fn last_words(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(stderr) = child.stderr.as_mut() {
        let mut stderr = stderr.take(STDERR_MAX);
        let _ = tokio::time::timeout(LIMIT, stderr.read_to_string(&mut text)).await;
    }
    let last = text.trim().lines().last();
    plain(last.unwrap_or("it ended without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_the_one_that_kubectl_names() {
        let address = parse("Forwarding from 127.0.0.1:41021 -> 8443");
        assert_eq!(address, Some(SocketAddr::from(([127, 0, 0, 1], 41021))));
        assert_eq!(parse("Forwarding from [::1]:41021 -> 8443"), None);
        assert_eq!(parse("Handling connection for 41021"), None);
    }
}
