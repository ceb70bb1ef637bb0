//! From a parsed command line to an exit code.

mod admin_certificate;
mod folders;
mod request_init;

use std::{path::Path, process::ExitCode};

use strongroom_runtime::{Chain, Program};

use crate::{
    args::{Args, Command, ConfigFile},
    config::Config,
    init, serve,
};

const NAME: &str = "key-service";
/// As the command line of users has it.
const NOT_YET: u8 = 3;

/// Runs a command.
#[must_use]
pub fn run(args: Args) -> ExitCode {
    match args.command {
        Command::Init(file) => with_config(&file, |config| {
            once(async { init::init(&config).await.map(print) })
        }),
        Command::Serve(file) => with_config(&file, |config| start(&file.config, config)),
        Command::Folders(file) => with_config(&file, |config| finish(folders::ensure(&config))),
        Command::RequestInit(args) => match block_on(request_init::request(&args)) {
            Err(error @ request_init::RequestError::NotYet { .. }) => {
                let _ = fail(&error);
                ExitCode::from(NOT_YET)
            }
            outcome => finish(outcome),
        },
        Command::AdminCertificate(args) => with_config(&args.config, |config| {
            once(admin_certificate::fetch(&config, &args))
        }),
        Command::CheckConfig(file) => with_config(&file, |_| {
            println!("{} is valid", file.config.display());
            ExitCode::SUCCESS
        }),
    }
}

fn with_config(file: &ConfigFile, then: impl FnOnce(Config) -> ExitCode) -> ExitCode {
    match Config::load(&file.config) {
        Ok(config) => then(config),
        Err(error) => fail(&error),
    }
}

fn start(path: &Path, config: Config) -> ExitCode {
    let program = Program {
        name: NAME,
        version: env!("CARGO_PKG_VERSION"),
        configuration: path.to_owned(),
        log: config.log.clone(),
        probes: Some(config.probes),
        worker_threads: 2,
    };
    strongroom_runtime::run(program, |handle| serve::start(config, handle))
}

/// Runs a command that ends by itself; `init` holds the first keys, so it is hardened like the service.
fn once<E: std::error::Error + 'static>(act: impl Future<Output = Result<(), E>>) -> ExitCode {
    match strongroom_runtime::prepare() {
        Ok(()) => finish(block_on(act)),
        Err(error) => fail(&error),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .expect("a process can make a runtime at its start")
        .block_on(future)
}

fn print(summary: init::Summary) {
    println!("{summary}");
}

fn finish<E: std::error::Error + 'static>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("{NAME}: {}", Chain(error));
    ExitCode::FAILURE
}
