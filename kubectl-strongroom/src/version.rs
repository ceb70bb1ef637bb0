//! `version`: of this command, and of the key service if one is configured.

use std::io::Write;

use serde::Serialize;
use strongroom_api::strongroom::v1::{DescribeInstanceRequest, instance_client::InstanceClient};

use crate::{
    args::{ConnectionArgs, Format, VersionArgs},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{Structured, plain, write_structured},
    rpc::CallError,
};

const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// What `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
struct Report {
    client: Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    version: String,
}

/// Prints the client's version also when the key service does not answer.
pub(crate) async fn run(
    args: VersionArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let VersionArgs {
        connection,
        client,
        output,
    } = args;
    let server = if client || !Settings::are_given(&connection, environment) {
        Ok(None)
    } else {
        server(&connection, environment).await.map(Some)
    };
    let (server, failure) = match server {
        Ok(server) => (server, None),
        Err(error) => (None, Some(error)),
    };
    let report = Report {
        client: Version {
            version: CLIENT.to_owned(),
        },
        server,
    };
    write(&report, output, out)?;
    failure.map_or(Ok(Exit::Ok), Err)
}

fn write(report: &Report, output: Format, out: &mut dyn Write) -> std::io::Result<()> {
    match output {
        Format::Json => write_structured(out, Structured::Json, report),
        Format::Yaml => write_structured(out, Structured::Yaml, report),
        Format::Table => {
            writeln!(out, "Client: {}", report.client.version)?;
            let Some(server) = &report.server else {
                return Ok(());
            };
            writeln!(out, "Server: {}", plain(&server.version))
        }
    }
}

async fn server(
    connection: &ConnectionArgs,
    environment: &Environment,
) -> Result<Version, CommandError> {
    let settings = Settings::resolve(connection, environment)?;
    let answer = InstanceClient::new(connect(&settings).await?)
        .describe(DescribeInstanceRequest {})
        .await
        .map_err(|status| CallError::new("read the server's version", status))?;
    Ok(Version {
        version: answer.into_inner().version,
    })
}
