//! `bootstrap`: sets a control-plane node up, from nothing to an encrypted etcd. Looks, decides, shows or does; needs no
//! API server, since there may be none yet, only a kubelet.

mod accounts;
mod api_server;
mod apply;
pub(crate) mod certificate;
mod files;
mod host;
mod instance;
mod join;
mod kubeconfig;
mod layout;
mod logs;
mod plan;
mod probe;
mod processes;
mod report;
mod settings;
mod template;
mod values;

#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    path::Path,
};

use serde_yaml_ng::Value;

use self::{
    api_server::ApiServer,
    apply::Apply,
    host::{Host, Root},
    layout::Layout,
    plan::Plan,
    report::Report,
    settings::Settings,
    values::Values,
};
use crate::{
    args::{BootstrapArgs, BootstrapCommand, Format},
    environment::Environment,
    exit::Exit,
    output::{Structured, write_structured},
};

pub(crate) use self::{
    apply::ApplyError, certificate::CertificateError, host::LookError, settings::SettingsError,
    values::ValuesError,
};

/// Kubeconfigs of kubeadm, the node's own API server first.
const KNOWN_KUBECONFIGS: [&str; 3] = [
    "/etc/kubernetes/controller-manager.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/kubelet.conf",
];

/// Why the node is not set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootstrapError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Values(#[from] ValuesError),
    #[error("cannot write the answer")]
    Write(#[from] io::Error),
}

impl BootstrapError {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Settings(_) => Exit::Usage,
            Self::Apply(error) if error.is_late() => Exit::NotYet,
            Self::Values(ValuesError::NoInstance) => Exit::NotYet,
            Self::Look(_)
            | Self::Apply(_)
            | Self::Certificate(_)
            | Self::Values(_)
            | Self::Write(_) => Exit::Failed,
        }
    }
}

/// Runs `bootstrap` or one of its subcommands.
pub(crate) async fn run(
    args: BootstrapArgs,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, BootstrapError> {
    let root = Root(environment.root.clone());
    match &args.command {
        None => set_up(&args, environment, &root, out, err),
        Some(BootstrapCommand::Values) => {
            write_structured(out, Structured::Yaml, &Values::look(&root)?)?;
            Ok(Exit::Ok)
        }
        Some(BootstrapCommand::RequestCertificate) => {
            certificate::hand_in(Path::new(layout::ADMIN_SOCKET), out).await?;
            Ok(Exit::Ok)
        }
    }
}

fn set_up(
    args: &BootstrapArgs,
    environment: &Environment,
    root: &Root,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, BootstrapError> {
    let settings = settings(args, environment, root)?;
    let (plan, host) = look(root, &settings)?;
    let report = Report::new(&plan, &host, &settings);
    if args.plan {
        match args.output {
            Format::Table => write!(out, "{}", report.plan_text())?,
            Format::Json => write_structured(out, Structured::Json, &report)?,
            Format::Yaml => write_structured(out, Structured::Yaml, &report)?,
        }
    }
    for refusal in &plan.refusals {
        writeln!(err, "refused: {refusal}")?;
    }
    if !plan.refusals.is_empty() {
        return Ok(Exit::Failed);
    }
    if args.plan {
        return Ok(Exit::Ok);
    }
    let is_work = plan.work().next().is_some();
    if is_work {
        let apply = Apply {
            root,
            settings: &settings,
            program: environment.program.clone(),
            timeout: args.timeout.duration(),
            err,
            issued: None,
        };
        apply.run(&plan)?;
    }
    // What is known now is more than before.
    let (after, host) = look(root, &settings)?;
    let report = Report::new(&after, &host, &settings);
    match args.output {
        Format::Table if is_work => write!(out, "Done.\n{}", report.end_text())?,
        Format::Table => write!(out, "Nothing to change.\n{}", report.end_text())?,
        Format::Json => write_structured(out, Structured::Json, &report)?,
        Format::Yaml => write_structured(out, Structured::Yaml, &report)?,
    }
    Ok(Exit::Ok)
}

fn settings(
    args: &BootstrapArgs,
    environment: &Environment,
    root: &Root,
) -> Result<Settings, BootstrapError> {
    let manifest = root.read(args.manifests.join("kube-apiserver.yaml"))?;
    let api_server = manifest.as_deref().and_then(ApiServer::parse);
    let known = known_server(root)?;
    Ok(Settings::new(args, api_server, known, (environment.now)())?)
}

fn look(root: &Root, settings: &Settings) -> Result<(Plan, Host), LookError> {
    let layout = Layout::new(settings);
    let host = Host::look(root, &layout, settings)?;
    Ok((Plan::new(settings, &layout, &host), host))
}

/// The API server that this node's own kubeconfigs name.
fn known_server(root: &Root) -> Result<Option<String>, LookError> {
    for path in KNOWN_KUBECONFIGS {
        let server = root.read(path)?.and_then(|text| {
            let value: Value = serde_yaml_ng::from_str(&text).ok()?;
            let cluster = value.get("clusters")?.get(0)?.get("cluster")?;
            Some(cluster.get("server")?.as_str()?.to_owned())
        });
        if server.is_some() {
            return Ok(server);
        }
    }
    Ok(None)
}
