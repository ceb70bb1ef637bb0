//! Parses the command line, runs the command, and turns its end into text and a code.

use std::{ffi::OsString, io::Write};

use clap::Parser;

use crate::{
    admin_certificate,
    args::{Args, AuditCommand, ClockCommand, Command, EnrolCommand, RingCommand, SecretCommand},
    audit, bootstrap, clock, enrol,
    environment::Environment,
    error::CommandError,
    exit::Exit,
    ring, rotate, secret, status, version, why,
};

/// Runs one command line, the program's name included.
///
/// What was asked for goes to `out`; progress, warnings and errors to `err`.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(answer) => return print_usage(&answer, out, err),
    };
    match dispatch(args, environment, out, err) {
        Ok(exit) => exit,
        Err(error) => {
            // Nothing is left to be told when stderr is closed too.
            let _ = writeln!(err, "error: {}", error.sentence());
            error.exit()
        }
    }
}

/// Help and versions were asked for; everything else is a mistake.
fn print_usage(answer: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let text = answer.render();
    let written = if answer.use_stderr() {
        write!(err, "{text}")
    } else {
        write!(out, "{text}")
    };
    match written {
        Ok(()) if !answer.use_stderr() => Exit::Ok,
        Ok(()) => Exit::Usage,
        Err(_) => Exit::Failed,
    }
}

fn dispatch(
    args: Args,
    environment: &Environment,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match args.command {
            Command::Status(args) => status::run(args, environment, out).await,
            Command::Why(args) => why::run(args, environment, out).await,
            Command::Rotate(args) => rotate::run(args, environment, out, err).await,
            Command::Ring(RingCommand::Adopt(args)) => ring::adopt(args, environment, out).await,
            Command::AdminCertificate(args) => admin_certificate::run(args, environment, out).await,
            Command::Enrol(EnrolCommand::Node(args)) => {
                enrol::node(args, environment, out, err).await
            }
            Command::Clock(ClockCommand::Confirm(args)) => {
                clock::confirm(args, environment, out).await
            }
            Command::Secret(SecretCommand::Set(args)) => secret::set(args, environment, out).await,
            Command::Secret(SecretCommand::Import(args)) => {
                secret::import(args, environment, out, err).await
            }
            Command::Secret(SecretCommand::Reveal(args)) => {
                secret::reveal(args, environment, out).await
            }
            Command::Audit(AuditCommand::Verify(args)) => audit::run(args, out, err),
            Command::Bootstrap(args) => Ok(bootstrap::run(args, environment, out, err).await?),
            Command::Version(args) => version::run(args, environment, out).await,
        }
    })
}
