//! Encrypt and decrypt through native gRPC, beside a control that does everything but the keys.
//!
//! The control is the same transport, answering after a 450-byte record is group-committed by the same writer. Both
//! run in turns, so that a disk or a neighbour that changes its mood changes it for both.

mod control;
mod load;
mod service;

use std::{path::Path, time::Duration};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

pub(crate) use load::{Figures, Operation, percentile};

use crate::figures;

/// Callers at a time.
const CALLERS: [usize; 3] = [1, 16, 64];
/// Turns of each measurement.
const ROUNDS: usize = 5;
/// Length of one turn.
const TURN: Duration = Duration::from_secs(3);
/// The name of the raw data's file.
pub(crate) const FILE: &str = "native-grpc";

/// Everything that was measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    /// Program and KiB.
    pub(crate) idle_memory: Vec<(String, u64)>,
    pub(crate) measured: Vec<Measured>,
    pub(crate) turn: Duration,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) operation: Operation,
    pub(crate) callers: usize,
    /// Service and control, turn by turn.
    pub(crate) rounds: Vec<(Figures, Figures)>,
    /// The disk's sync time before each turn, microseconds.
    pub(crate) sync_us: Vec<u64>,
}

/// Measures, and writes the raw data.
pub(crate) fn measure(docs: &Path) -> Result<()> {
    let runtime = runtime()?;
    let mut service = service::Bench::start(&runtime)?;
    let control = control::Control::start(&service.root())?;
    let idle_memory = service.idle_memory()?;
    let mut measured = Vec::new();
    for operation in Operation::ALL {
        for callers in CALLERS {
            measured.push(runtime.block_on(turns(&service, &control, operation, callers))?);
        }
    }
    let report = Report {
        machine: figures::machine()?,
        idle_memory,
        measured,
        turn: TURN,
    };
    figures::save(docs, FILE, &report)?;
    drop(control);
    service.clean_up()
}

/// The control's own process.
pub(crate) fn serve_control(folder: &Path) -> Result<()> {
    runtime()?.block_on(control::serve(folder))
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?)
}

async fn turns(
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
