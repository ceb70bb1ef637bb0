//! Runs one command; everything is in the library, so that tests can call it.
#![forbid(unsafe_code)]

use std::{io, process::ExitCode};

use strongroom_kubectl_strongroom::{Environment, run};

fn main() -> ExitCode {
    let environment = Environment::of_process();
    run(
        std::env::args_os(),
        &environment,
        &mut io::stdout().lock(),
        &mut io::stderr(),
    )
    .into()
}
