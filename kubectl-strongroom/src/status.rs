//! `status`: how the installation is.

mod nodes;
mod report;

use std::io::Write;

use strongroom_api::strongroom::v1::{DescribeInstanceRequest, instance_client::InstanceClient};

use crate::{
    args::{StatusArgs, WideFormat},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{Structured, write_structured},
    rpc::CallError,
};
use report::Report;

/// Asks the key service and prints what it says.
pub(crate) async fn run(
    args: StatusArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let StatusArgs { connection, output } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let answer = InstanceClient::new(connect(&settings).await?)
        .describe(DescribeInstanceRequest {})
        .await
        .map_err(|status| CallError::new("read the status", status))?
        .into_inner();
    let report = Report::new(answer);
    let now = (environment.now)();
    match output {
        WideFormat::Table => write!(out, "{}", report.table(now)),
        WideFormat::Wide => write!(out, "{}", report.wide(now)),
        WideFormat::Json => write_structured(out, Structured::Json, &report),
        WideFormat::Yaml => write_structured(out, Structured::Yaml, &report),
    }?;
    Ok(if report.ok { Exit::Ok } else { Exit::Failed })
}
