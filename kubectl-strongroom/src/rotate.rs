//! `rotate`: a new version of a secret or a key, or of the key that encrypts etcd, and the wait until everybody uses it.

mod error;
mod etcd_key;
mod kubectl;
mod object;
mod plugins;
mod report;
mod servers;
mod wait;

use std::io::Write;

use crate::{
    args::{Format, RotateArgs, RotateCommand, RotateEtcdArgs},
    connect::{Settings, connect},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::{Structured, write_structured},
};
pub(crate) use error::RotateError;
use etcd_key::EtcdKey;
pub(crate) use object::ObjectError;
pub(crate) use plugins::PluginUrl;
use report::Report;
pub(crate) use wait::Timeout;
use wait::{Observer, Waiting};

/// Rotates what the command line names.
pub(crate) async fn run(
    mut args: RotateArgs,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    match (args.command.take(), args.target.take()) {
        (Some(RotateCommand::Etcd(args)), _) => etcd(args, environment, out, err).await,
        (None, Some(target)) => object::object(target, args, environment, out, err).await,
        (None, None) => unreachable!("the command line requires one of them"),
    }
}

async fn etcd(
    args: RotateEtcdArgs,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let RotateEtcdArgs {
        connection,
        from,
        wait,
        timeout,
        plugin_metrics,
        output,
    } = args;
    let settings = Settings::resolve(&connection, environment)?;
    let mut key = EtcdKey::find(connect(&settings).await?).await?;

    // What cannot be watched is found out before anything changes.
    let mut observer = wait.then(|| Observer::new(environment, connection.cluster, plugin_metrics));
    if let Some(observer) = &mut observer {
        key.require_hash()?;
        observer.observe().await.map_err(RotateError::Observe)?;
    }

    let rotation = key.rotate(from).await?;
    let mut report = Report::new(rotation);
    if output == Format::Table {
        write!(out, "{}", report.rotation_text())?;
    }
    let mut waited = Ok(());
    if let Some(observer) = observer {
        let pause = environment.poll_interval;
        let waiting = Waiting {
            observer,
            wanted: report.now.key_id_hash.clone(),
            timeout,
            pause,
        };
        let servers = waiting.run(err).await?;
        waited = servers
            .converged(&report.now.key_id_hash)
            .map_err(|missing| RotateError::NotYet {
                missing,
                timeout,
                from: report.before.version.clone(),
            });
        report.set_servers(servers);
    }
    match output {
        Format::Table => write!(out, "{}", report.wait_text())?,
        Format::Json => write_structured(out, Structured::Json, &report)?,
        Format::Yaml => write_structured(out, Structured::Yaml, &report)?,
    }
    waited?;
    Ok(Exit::Ok)
}
