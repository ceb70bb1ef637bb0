//! API servers, asked through the user's kubectl.
//!
//! Which ones there are is in the identity leases of kube-system. Each look reads the metrics of whichever API server
//! the kubeconfig leads to, so behind a load balancer several looks are needed, and what each reported is remembered.

mod identity;
mod key_ids;

use std::{collections::BTreeMap, io, path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::servers::{Kind, Server};
use crate::args::ClusterArgs;
use identity::Identity;
use key_ids::KeyIds;

const LEASES: [&str; 7] = [
    "get",
    "leases.coordination.k8s.io",
    "--namespace=kube-system",
    "--selector=apiserver.kubernetes.io/identity=kube-apiserver",
    "--output=json",
    "--request-timeout=15s",
    "--chunk-size=0",
];
const METRICS: [&str; 3] = ["get", "--raw=/metrics", "--request-timeout=15s"];

/// Why the API servers cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubectlError {
    #[error("cannot run {program:?}; install kubectl, or name the plugins with --plugin-metrics")]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("kubectl {what}: {stderr}")]
    Failed { what: &'static str, stderr: String },
    #[error("kubectl's answer is not a list of leases")]
    Leases(#[source] serde_json::Error),
    #[error(
        "the cluster has no identity leases of API servers in kube-system; name the plugins with \
         --plugin-metrics"
    )]
    NoIdentities,
}

/// The API servers of one cluster.
pub(super) struct ApiServers {
    program: PathBuf,
    args: ClusterArgs,
    /// What each reported last, by the hash of its identity.
    reported: BTreeMap<String, KeyIds>,
}

impl ApiServers {
    pub(super) const fn new(program: PathBuf, args: ClusterArgs) -> Self {
        Self {
            program,
            args,
            reported: BTreeMap::new(),
        }
    }

    /// Lists the API servers and reads the metrics of one of them.
    pub(super) async fn observe(&mut self) -> Result<Vec<Server>, KubectlError> {
        let leases = self.run("cannot list the API servers", &LEASES).await?;
        let identities = identity::live(&leases).map_err(KubectlError::Leases)?;
        if identities.is_empty() {
            return Err(KubectlError::NoIdentities);
        }
        let metrics = self.run("cannot read the metrics", &METRICS).await?;
        self.reported
            .extend(key_ids::by_identity(&String::from_utf8_lossy(&metrics)));
        Ok(identities
            .into_iter()
            .map(|identity| self.server(identity))
            .collect())
    }

    fn server(&self, identity: Identity) -> Server {
        let Identity { name, hash } = identity;
        let key_id_hashes = self
            .reported
            .get(&hash)
            .map(KeyIds::latest)
            .unwrap_or_default();
        Server {
            kind: Kind::ApiServer,
            name,
            key_id_hashes,
        }
    }

    async fn run(&self, what: &'static str, args: &[&str]) -> Result<Vec<u8>, KubectlError> {
        let ClusterArgs {
            kubeconfig,
            context,
        } = &self.args;
        let mut command = Command::new(&self.program);
        if let Some(kubeconfig) = kubeconfig {
            command.arg("--kubeconfig").arg(kubeconfig);
        }
        if let Some(context) = context {
            command.arg("--context").arg(context);
        }
        let output = command
            .args(args)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| KubectlError::Start {
                program: self.program.clone(),
                source,
            })?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let stderr = String::from_utf8_lossy(&output.stderr);
        // The last line is the reason; what stands before it are warnings.
        let stderr = stderr
            .trim()
            .lines()
            .last()
            .unwrap_or("it failed without a word")
            .to_owned();
        Err(KubectlError::Failed { what, stderr })
    }
}
