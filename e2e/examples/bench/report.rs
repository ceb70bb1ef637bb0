//! From figures to `docs/benchmarks.md` and the raw data beside it.

use std::{fmt::Write, fs, path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;

use crate::load::{Figures, Operation, percentile};

#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) operation: Operation,
    pub(crate) callers: usize,
    /// Service and control, turn by turn.
    pub(crate) rounds: Vec<(Figures, Figures)>,
    /// The disk's sync time before each turn, microseconds.
    pub(crate) sync_us: Vec<u64>,
}

#[derive(Serialize)]
pub(crate) struct Report {
    /// Program and KiB.
    pub(crate) idle_memory: Vec<(&'static str, u64)>,
    pub(crate) measured: Vec<Measured>,
    pub(crate) turn: Duration,
}

impl Report {
    pub(crate) fn write(&self, docs: &Path) -> Result<()> {
        let raw = docs.join("benchmarks");
        fs::create_dir_all(&raw)?;
        fs::write(
            raw.join("native-grpc.json"),
            serde_json::to_string_pretty(self)? + "\n",
        )?;
        fs::write(docs.join("benchmarks.md"), self.page()?)?;
        Ok(())
    }

    fn page(&self) -> Result<String> {
        let mut page = String::from(HEAD);
        writeln!(page, "{}\n", machine()?)?;
        writeln!(
            page,
            "| operation | callers | service calls/s | control calls/s | ratio | service P50 µs | P99 µs | control P50 µs | \
             P99 µs | sync µs |\n|---|---|---|---|---|---|---|---|---|---|"
        )?;
        for measured in &self.measured {
            writeln!(page, "{}", row(measured))?;
        }
        page.push_str(
            "\nResident memory after ten idle seconds:\n\n| program | MiB |\n|---|---|\n",
        );
        for (program, kib) in &self.idle_memory {
            writeln!(page, "| {program} | {:.1} |", *kib as f64 / 1024.0)?;
        }
        Ok(page)
    }
}

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench`; the raw data is in `benchmarks/native-grpc.json`. Encrypt and Decrypt of 32 bytes with a
context of one pair, through native gRPC over mutual TLS 1.3, each recorded in the audit log before its answer. The
control is the same transport, answering after a 450-byte record is group-committed by the same writer. Service and
control took turns of three seconds, five each; every figure is the median over the turns, the ratio the median of the
turns' ratios. Load, service and control share the machine's cores. Machines differ and change their mood: compare
ratios, not figures. `sync` is the median time of an append of 450 bytes with fdatasync on the same disk.

";

fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |it| it.1);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "Machine: {cores} cores, {model}, Linux {}.",
        kernel.trim()
    ))
}

fn row(measured: &Measured) -> String {
    let rounds = &measured.rounds;
    let service = |of: fn(&Figures) -> f64| median(rounds.iter().map(|(ours, _)| of(ours)));
    let control = |of: fn(&Figures) -> f64| median(rounds.iter().map(|(_, theirs)| of(theirs)));
    let ratio = median(
        rounds
            .iter()
            .map(|(ours, theirs)| ours.calls_per_s / theirs.calls_per_s),
    );
    let mut sync = measured.sync_us.clone();
    sync.sort_unstable();
    format!(
        "| {} | {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {} |",
        measured.operation,
        measured.callers,
        service(|it| it.calls_per_s),
        control(|it| it.calls_per_s),
        ratio,
        service(|it| it.p50_us as f64),
        service(|it| it.p99_us as f64),
        control(|it| it.p50_us as f64),
        control(|it| it.p99_us as f64),
        percentile(&sync, 50),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
