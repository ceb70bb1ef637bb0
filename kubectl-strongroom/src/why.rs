//! `why`: why a pod does not start, or a secret or bundle is not ready.
//!
//! `observe` reads everything once; `walk` decides from what was read and nothing else; `report` prints.

mod access;
mod ask;
mod chain;
mod observe;
mod observed;
mod report;
mod volume;
mod walk;

#[cfg(test)]
mod tests;

use std::io::Write;

use crate::{
    args::WhyArgs,
    cluster::{Cluster, Kubeconfig},
    environment::Environment,
    error::CommandError,
    exit::Exit,
    output::write_structured,
};
use observe::Observer;
use report::Report;

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WhyError {
    #[error("there is no {kind} {name} in namespace {namespace}")]
    NoSubject {
        kind: &'static str,
        namespace: String,
        name: String,
    },
}

/// Looks, decides and prints.
pub(crate) async fn run(
    args: WhyArgs,
    environment: &Environment,
    out: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let WhyArgs {
        target,
        namespace,
        output,
        connection,
    } = args;
    let kubeconfig = Kubeconfig::require(&connection.cluster, environment)?;
    let cluster = Cluster::open(kubeconfig).await?;
    let namespace = cluster.namespace(namespace.namespace.map(|name| name.to_string()));
    let observer = Observer::new(&cluster, &namespace);
    let mut observed = observer.observe(&target).await?;
    observed.instance = ask::key_service(&connection, environment, &observed).await;
    let report = Report::new(&observed, (environment.now)());
    match output.structured() {
        Some(form) => write_structured(out, form, &report)?,
        None => write!(out, "{}", report.text())?,
    }
    Ok(report.exit())
}
