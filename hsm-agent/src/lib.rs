//! The only program that loads a PKCS#11 module. The parent holds socket, queue and peers, and never the module; its child,
//! the worker, holds the module, and is killed and replaced whenever something is wrong with it.
//!
//! `unsafe` is in `pkcs11::module` and `pkcs11::session` and nowhere else; every other file forbids it.

mod args;
mod child;
mod config;
mod files;
mod frame;
mod kept;
mod make_token;
mod metrics;
mod pin;
mod pkcs11;
mod rpc;
mod serve;
mod server;
mod softhsm;
mod supervisor;
mod token;
mod worker;

use std::process::ExitCode;

pub use args::{Arguments, Command, ConfigFile, MakeToken};
pub use config::{Config, ConfigError, MakeBy, PeerConfig, SocketConfig, TokenConfig, TokenType};
pub use rpc::Rpc;
use strongroom_runtime::{Chain, Program, folder::Folder};

/// Runs a command. Exit code 2: the configuration is refused, and nothing was touched.
pub fn run(arguments: Arguments) -> ExitCode {
    let path = match &arguments.command {
        Command::Init(make) | Command::MakeToken(make) => &make.file.config,
        Command::Serve(file) | Command::Folders(file) | Command::Worker(file) => &file.config,
    };
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("hsm-agent: {}", Chain(&error));
            return ExitCode::from(2);
        }
    };
    let mut program = Program {
        name: "hsm-agent",
        version: env!("CARGO_PKG_VERSION"),
        configuration: path.clone(),
        log: config.log.clone(),
        probes: None,
        worker_threads: 1,
    };
    match arguments.command {
        Command::Serve(ConfigFile { config: path }) => {
            program.probes = Some(config.probes);
            serve::run(path, config, program)
        }
        Command::Folders(_) => make_folders(&config),
        Command::Init(make) => make_token::run(make, config, program),
        Command::Worker(_) => {
            program.name = "hsm-agent-worker";
            worker::run(config, program)
        }
        Command::MakeToken(make) => make_token::run_child(config, make.if_missing, program),
    }
}

fn make_folders(config: &Config) -> ExitCode {
    let data = Folder {
        path: &config.data_dir,
        mode: 0o700,
        group: None,
    };
    let socket = config.socket.path.parent().map(|path| Folder {
        path,
        mode: 0o750,
        group: config.socket.group,
    });
    match [data]
        .into_iter()
        .chain(socket)
        .try_for_each(|it| it.ensure())
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hsm-agent: {}", Chain(&error));
            ExitCode::FAILURE
        }
    }
}
