//! Callers that ask as fast as they are answered, and what they saw.

use std::{
    fmt,
    fs::OpenOptions,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use strongroom_api::strongroom::v1::{DecryptRequest, EncryptRequest, crypto_client::CryptoClient};
use tonic::transport::Channel;

/// Callers that share a connection.
const CALLERS_PER_CONNECTION: usize = 16;
/// Appends by which the disk's sync time is measured.
const SYNCS: usize = 100;
/// Bytes of the control's record and of a measured append.
pub(crate) const RECORD_BYTES: usize = 450;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Operation {
    Encrypt,
    Decrypt,
}

impl Operation {
    pub(crate) const ALL: [Self; 2] = [Self::Encrypt, Self::Decrypt];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
        })
    }
}

/// Whom to ask for what.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) connections: Vec<Channel>,
    pub(crate) question: Question,
}

#[derive(Clone)]
pub(crate) enum Question {
    Encrypt(EncryptRequest),
    Decrypt(DecryptRequest),
}

/// What one turn gave.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) calls_per_s: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// Asks for the time of a turn.
pub(crate) async fn run(target: &Target, callers: usize, turn: Duration) -> Result<Figures> {
    let start = Instant::now();
    let mut running = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let connection =
            &target.connections[(caller / CALLERS_PER_CONNECTION) % target.connections.len()];
        running.spawn(ask(
            CryptoClient::new(connection.clone()),
            target.question.clone(),
            start + turn,
        ));
    }
    let mut latencies = Vec::new();
    while let Some(ended) = running.join_next().await {
        latencies.extend(ended??);
    }
    let elapsed = start.elapsed().as_secs_f64();
    latencies.sort_unstable();
    Ok(Figures {
        calls_per_s: latencies.len() as f64 / elapsed,
        p50_us: percentile(&latencies, 50),
        p99_us: percentile(&latencies, 99),
    })
}

async fn ask(
    mut client: CryptoClient<Channel>,
    question: Question,
    end: Instant,
) -> Result<Vec<u64>> {
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let asked = Instant::now();
        match &question {
            Question::Encrypt(request) => drop(client.encrypt(request.clone()).await?),
            Question::Decrypt(request) => drop(client.decrypt(request.clone()).await?),
        }
        latencies.push(u64::try_from(asked.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// The value below which so many of a hundred lie.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(0)
}

/// The median time of an append and sync on the disk of a folder.
pub(crate) fn sync_time_us(folder: &Path) -> Result<u64> {
    let path = folder.join("sync-time");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[b'x'; RECORD_BYTES])?;
        file.sync_data()?;
        times.push(u64::try_from(start.elapsed().as_micros())?);
    }
    std::fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(percentile(&times, 50))
}
