//! `audit verify`: what a log proves. Offline; it reads the folder and the witness and nothing else.

use std::{
    fmt::Write as _,
    io::{self, Write},
    path::{Path, PathBuf},
    str::FromStr,
};

use jiff::Timestamp;
use strongroom_audit::{
    Checkpoint, CheckpointError, Hash, Report, Status, Trust, VerifyError, verify,
};

use crate::{
    args::{Format, VerifyArgs},
    error::CommandError,
    exit::Exit,
    output::{Structured, columns, plain, write_structured},
};

/// A log beyond this size takes more than a moment.
const LONG_LOG_BYTES: u64 = 64 << 20;

/// SHA-256 of the public key that certifies checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(Hash);

/// The text is not a fingerprint.
#[derive(Debug, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub(crate) struct ParseFingerprintError;

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        Hash::from_hex(&text.to_ascii_lowercase())
            .map(Self)
            .ok_or(ParseFingerprintError)
    }
}

/// Why nothing can be said about a log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuditError {
    #[error("cannot read the witness {path:?}")]
    ReadWitness {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the witness {path:?} is not a checkpoint")]
    Witness {
        path: PathBuf,
        #[source]
        source: CheckpointError,
    },
    #[error("cannot verify the log")]
    Verify(#[source] VerifyError),
}

/// Verifies a folder and prints the verdict.
pub(crate) fn run(
    args: VerifyArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<Exit, CommandError> {
    let VerifyArgs {
        folder,
        fingerprint,
        witness,
        output,
    } = args;
    let witness = witness.as_deref().map(load_witness).transpose()?;
    let trust = Trust {
        certifier: fingerprint.0,
        origin: None,
        witness,
    };
    announce(&folder, err)?;
    let report = verify(&folder, &trust).map_err(AuditError::Verify)?;
    match output {
        Format::Table => write!(out, "{}", table(&report))?,
        Format::Json => write_structured(out, Structured::Json, &report)?,
        Format::Yaml => write_structured(out, Structured::Yaml, &report)?,
    }
    Ok(match report.status {
        Status::Complete => Exit::Ok,
        Status::TailUnproven => Exit::NotYet,
        Status::Tampered => Exit::Failed,
    })
}

/// Reads a checkpoint. Editors and shells add or drop newlines at the end, which are no part of it.
fn load_witness(path: &Path) -> Result<Checkpoint, AuditError> {
    let text = std::fs::read_to_string(path).map_err(|source| AuditError::ReadWitness {
        path: path.to_owned(),
        source,
    })?;
    Checkpoint::parse(&format!("{}\n", text.trim_end_matches(['\n', '\r']))).map_err(|source| {
        AuditError::Witness {
            path: path.to_owned(),
            source,
        }
    })
}

/// Says before a long silence how long it is. A folder that cannot be read is for the verifier to tell.
fn announce(folder: &Path, err: &mut dyn Write) -> io::Result<()> {
    let Ok(entries) = folder.read_dir() else {
        return Ok(());
    };
    let sizes = entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|m| m.len());
    let bytes: u64 = sizes.sum();
    if bytes > LONG_LOG_BYTES {
        writeln!(err, "verifying {} MiB …", bytes >> 20)?;
    }
    Ok(())
}

fn table(report: &Report) -> String {
    let mut text = format!("{}\n", verdict(report));
    let mut lines = vec![
        line("Log", report.origin.as_deref().unwrap_or("unknown")),
        line("Records", &records(report)),
        line("Time", &period(report)),
        line("Checkpoints", &report.checkpoints.to_string()),
        line("Certificates", &report.certificates.to_string()),
        line("Changes", &report.changes.to_string()),
    ];
    if report.gaps > 0 {
        lines.push(line("Declared losses", &report.gaps.to_string()));
    }
    if report.torn_bytes > 0 {
        let torn = format!(
            "{} bytes after the last whole entry prove nothing",
            report.torn_bytes
        );
        lines.push(line("Torn end", &torn));
    }
    let _ = write!(text, "{}", columns(&lines));
    text
}

fn verdict(report: &Report) -> String {
    match (report.status, &report.tampering) {
        (Status::Complete, _) => "Complete up to the witness.".to_owned(),
        (Status::TailUnproven, _) => {
            "Consistent, but its end is unproven: give --witness with a checkpoint that was kept \
             elsewhere."
                .to_owned()
        }
        (Status::Tampered, Some(place)) => format!(
            "TAMPERED at {}, record {}: {}.",
            plain(&place.file),
            place.index,
            plain(&place.what)
        ),
        (Status::Tampered, None) => "TAMPERED.".to_owned(),
    }
}

fn records(report: &Report) -> String {
    let Report {
        records,
        covered_records,
        ..
    } = report;
    let witnessed = report
        .witnessed_records
        .map_or_else(String::new, |witnessed| {
            format!(", {witnessed} by the witness")
        });
    format!("{records} fit together; {covered_records} covered by checkpoints{witnessed}")
}

fn period(report: &Report) -> String {
    let time = |ms: Option<i64>| ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match (time(report.first_time), time(report.last_time)) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "-".to_owned(),
    }
}

fn line(name: &str, value: &str) -> [String; 2] {
    [format!("{name}:"), plain(value)]
}
