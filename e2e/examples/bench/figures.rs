//! Measured values and where they are kept: what was measured, each sample, and on what.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One thing that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// What, as a reader of the page knows it.
    pub(crate) what: String,
    /// Of the samples.
    pub(crate) unit: String,
    /// In the order in which they were taken.
    pub(crate) samples: Vec<f64>,
}

impl Figure {
    /// Times, in milliseconds.
    pub(crate) fn times(what: &str, samples: &[Duration]) -> Self {
        let milliseconds = |it: &Duration| it.as_secs_f64() * 1000.0;
        Self {
            what: what.to_owned(),
            unit: "ms".to_owned(),
            samples: samples.iter().map(milliseconds).collect(),
        }
    }

    /// A single value.
    pub(crate) fn one(what: &str, unit: &str, value: f64) -> Self {
        Self {
            what: what.to_owned(),
            unit: unit.to_owned(),
            samples: vec![value],
        }
    }

    /// The sample below which so many of a hundred lie.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        sorted
            .get(last * percent / 100)
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// What one part measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    /// On what.
    pub(crate) machine: String,
    /// In the order of the page.
    pub(crate) figures: Vec<Figure>,
}

/// Writes the raw data of a part.
pub(crate) fn write(docs: &Path, part: &str, figures: Vec<Figure>) -> Result<()> {
    let part_of = Part {
        machine: machine()?,
        figures,
    };
    save(docs, part, &part_of)
}

/// Reads the raw data of a part; none when it was never measured.
pub(crate) fn read<T: serde::de::DeserializeOwned>(docs: &Path, part: &str) -> Result<Option<T>> {
    let path = docs.join(format!("benchmarks/{part}.json"));
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path)?;
    let read = serde_json::from_str(&text);
    read.with_context(|| path.display().to_string()).map(Some)
}

/// Writes raw data.
pub(crate) fn save<T: Serialize>(docs: &Path, part: &str, data: &T) -> Result<()> {
    let raw = docs.join("benchmarks");
    fs::create_dir_all(&raw)?;
    let text = serde_json::to_string_pretty(data)? + "\n";
    fs::write(raw.join(format!("{part}.json")), text)?;
    Ok(())
}

/// What it runs on.
pub(crate) fn machine() -> Result<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpu.lines().filter_map(|line| line.split_once(": "));
    let model = model
        .into_iter()
        .find(|(key, _)| key.trim() == "model name");
    let model = model.map_or("unknown", |(_, model)| model);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{cores} cores, {model}, Linux {}", kernel.trim()))
}
