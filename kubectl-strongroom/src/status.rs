//! `status`: how the installation is: what the key service says of itself, and what runs in the cluster.

mod cluster;
mod nodes;
mod report;

use std::io::{self, Write};

use serde::Serialize;
use strongroom_api::strongroom::v1::{DescribeInstanceRequest, instance_client::InstanceClient};

use crate::{
    args::{ConnectionArgs, StatusArgs, WideFormat},
    cluster::{Cluster, ClusterError, Kubeconfig},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{Structured, write_structured},
    rpc::CallError,
};
use cluster::ClusterReport;
use report::Report;

/// What `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Document {
    /// Whether everything holds that was looked at.
    ok: bool,
    #[serde(flatten)]
    instance: Option<Report>,
    /// Only where there is a kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterReport>,
}

/// Asks the key service and the cluster, and prints what they say. One that does not answer does not hide the other.
pub(crate) async fn run(
    args: StatusArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let StatusArgs { connection, output } = args;
    let kubeconfig = Kubeconfig::find(&connection.cluster, environment);
    let mut failure = None;
    let mut instance = None;
    if kubeconfig.is_none() || Settings::are_given(&connection, environment) {
        match ask(&connection, environment).await {
            Ok(report) => instance = Some(report),
            Err(error) => failure = Some(error),
        }
    }
    let mut cluster = None;
    if let Some(kubeconfig) = kubeconfig {
        match look(kubeconfig).await {
            Ok(report) => cluster = Some(report),
            // The first failure is told: what is farther on is rarely the cause.
            Err(error) => failure = failure.or(Some(error.into())),
        }
    }
    let document = Document {
        ok: failure.is_none()
            && instance.as_ref().is_none_or(|report| report.ok)
            && cluster.as_ref().is_none_or(ClusterReport::ok),
        instance,
        cluster,
    };
    if document.instance.is_some() || document.cluster.is_some() {
        document.write(output, environment, out)?;
    }
    match failure {
        Some(error) => Err(error),
        None if document.ok => Ok(Exit::Ok),
        None => Ok(Exit::Failed),
    }
}

async fn ask(
    connection: &ConnectionArgs,
    environment: &Environment,
) -> Result<Report, CommandError> {
    let settings = Settings::resolve(connection, environment)?;
    let answer = InstanceClient::new(connect(&settings).await?)
        .describe(DescribeInstanceRequest {})
        .await
        .map_err(|status| CallError::new("read the status", status))?;
    Ok(Report::new(answer.into_inner()))
}

async fn look(kubeconfig: Kubeconfig) -> Result<ClusterReport, ClusterError> {
    let cluster = Cluster::open(kubeconfig).await?;
    ClusterReport::observe(&cluster).await
}

impl Document {
    fn write(
        &self,
        output: WideFormat,
        environment: &Environment,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let now = (environment.now)();
        let table = match output {
            WideFormat::Json => return write_structured(out, Structured::Json, self),
            WideFormat::Yaml => return write_structured(out, Structured::Yaml, self),
            WideFormat::Table => Report::table,
            WideFormat::Wide => Report::wide,
        };
        let parts = [
            self.instance.as_ref().map(|report| table(report, now)),
            self.cluster.as_ref().map(ClusterReport::text),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(out, "{}", parts.join("\n"))
    }
}
