//! From raw data to `docs/benchmarks.md`.

use std::{fmt::Write, fs, path::Path};

use anyhow::Result;

use crate::{
    figures::{self, Figure, Part},
    native,
};

/// Writes the page of all parts that were ever measured.
pub(crate) fn write(docs: &Path) -> Result<()> {
    let mut page = String::from(HEAD);
    if let Some(report) = figures::read::<native::Report>(docs, native::FILE)? {
        write_native(&mut page, &report)?;
    }
    for (part, head) in [("delivery", DELIVERY), ("operator", OPERATOR)] {
        if let Some(part) = figures::read::<Part>(docs, part)? {
            page.push_str(head);
            write_figures(&mut page, &part)?;
        }
    }
    fs::write(docs.join("benchmarks.md"), page)?;
    Ok(())
}

const HEAD: &str = "# Benchmarks

Written by `cargo xtask bench` from the raw data in `benchmarks/`. Everything runs on one machine, whose cores load and programs
share. Machines differ and change their mood: compare ratios, not figures.
";

const NATIVE: &str = "
## Encrypt and Decrypt

Of 32 bytes with a context of one pair, through native gRPC over mutual TLS 1.3, each recorded in the audit log before its
answer. The control is the same transport, answering after a 450-byte record is group-committed by the same writer. Service and
control took turns of three seconds, five each; every figure is the median over the turns, the ratio the median of the
turns' ratios. `sync` is the median time of an append of 450 bytes with fdatasync on the same disk.

";

const DELIVERY: &str = "
## Secrets in pods

One node with a real kubelet and API server, and a key service beside it. A publish is kubelet's call over the driver's socket,
with a read of the key service in it over TLS 1.3 and its record in the audit log. What is published first gets a tmpfs of its
own; what is published again is a conditional read and nothing else. A rotation begins with the call that asks for it and ends
when a reader in the container has the new bytes.

";

const OPERATOR: &str = "
## The operator

One operator beside a real API server and a key service. Its requests while nothing changes are those of the API server's audit
log in six minutes; the driver asks the API server for nothing.

";

fn write_native(page: &mut String, report: &native::Report) -> Result<()> {
    page.push_str(NATIVE);
    writeln!(page, "Machine: {}.\n", report.machine)?;
    writeln!(
        page,
        "| operation | callers | service calls/s | control calls/s | ratio | service P50 µs | P99 µs | control P50 µs | P99 µs \
         | sync µs |\n|---|---|---|---|---|---|---|---|---|---|"
    )?;
    for measured in &report.measured {
        writeln!(page, "{}", row(measured))?;
    }
    page.push_str("\nResident memory after ten idle seconds:\n\n| program | MiB |\n|---|---|\n");
    for (program, kib) in &report.idle_memory {
        writeln!(page, "| {program} | {:.1} |", *kib as f64 / 1024.0)?;
    }
    Ok(())
}

fn write_figures(page: &mut String, part: &Part) -> Result<()> {
    writeln!(page, "Machine: {}.\n", part.machine)?;
    writeln!(
        page,
        "| what | unit | samples | P50 | P99 | most |\n|---|---|---|---|---|---|"
    )?;
    for figure in &part.figures {
        let Figure {
            what,
            unit,
            samples,
        } = figure;
        let at = |percent| decimal(figure.percentile(percent));
        let count = samples.len();
        let rest = if count == 1 {
            "| |".to_owned()
        } else {
            format!("{} | {} |", at(99), at(100))
        };
        writeln!(page, "| {what} | {unit} | {count} | {} | {rest}", at(50))?;
    }
    Ok(())
}

/// Three digits that count.
fn decimal(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn row(measured: &native::Measured) -> String {
    let rounds = &measured.rounds;
    let service = |of: fn(&native::Figures) -> f64| median(rounds.iter().map(|(ours, _)| of(ours)));
    let control =
        |of: fn(&native::Figures) -> f64| median(rounds.iter().map(|(_, theirs)| of(theirs)));
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
        native::percentile(&sync, 50),
    )
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
