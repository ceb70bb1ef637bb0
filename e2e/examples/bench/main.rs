//! `cargo xtask bench`: encrypt and decrypt through native gRPC, beside a control that does everything but the keys.
//!
//! The control is the same transport, answering after a 450-byte record is group-committed by the same writer. Both
//! run in turns, so that a disk or a neighbour that changes its mood changes it for both.
#![forbid(unsafe_code)]

mod control;
mod load;
mod report;
mod service;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use load::{Figures, Operation};
use report::{Measured, Report};

/// Callers at a time.
const CALLERS: [usize; 3] = [1, 16, 64];
/// Turns of each measurement.
const ROUNDS: usize = 5;
/// Length of one turn.
const TURN: Duration = Duration::from_secs(3);

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments
        .next()
        .context("the folder for docs/benchmarks.md, or `control`")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    if first == "control" {
        let folder = PathBuf::from(arguments.next().context("the control's folder")?);
        return runtime.block_on(control::serve(&folder));
    }
    let mut service = service::Bench::start(&runtime)?;
    let control = control::Control::start(&service.root())?;
    let idle_memory = service.idle_memory()?;
    let mut measured = Vec::new();
    for operation in Operation::ALL {
        for callers in CALLERS {
            measured.push(runtime.block_on(measure(&service, &control, operation, callers))?);
        }
    }
    let report = Report {
        idle_memory,
        measured,
        turn: TURN,
    };
    report.write(&PathBuf::from(first))?;
    drop(control);
    service.clean_up()
}

async fn measure(
    service: &service::Bench,
    control: &control::Control,
    operation: Operation,
    callers: usize,
) -> Result<Measured> {
    eprintln!("==> {operation} with {callers} callers");
    let ours = service.target(operation).await?;
    let theirs = control.target(operation).await?;
    let mut rounds = Vec::new();
    let mut sync_us = Vec::new();
    for _ in 0..ROUNDS {
        sync_us.push(load::sync_time_us(&service.root())?);
        let ours: Figures = load::run(&ours, callers, TURN).await?;
        let theirs: Figures = load::run(&theirs, callers, TURN).await?;
        rounds.push((ours, theirs));
    }
    Ok(Measured {
        operation,
        callers,
        rounds,
        sync_us,
    })
}
