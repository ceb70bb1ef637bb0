//! `cargo xtask bench`: what the released programs can do, on this machine.
//!
//! Three parts, each with its raw data in a file of its own, from which the page is written anew: what was not measured this
//! time stays as it was.
#![forbid(unsafe_code)]

mod delivery;
mod figures;
mod native;
mod operator;
mod page;

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result, bail};

/// What can be measured, in the order of the page.
const PARTS: [&str; 3] = ["native", "delivery", "operator"];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments
        .next()
        .context("the folder for benchmarks.md, or `control`")?;
    if first == "control" {
        return native::serve_control(&PathBuf::from(arguments.next().context("a folder")?));
    }
    let docs = PathBuf::from(first);
    let named: Vec<OsString> = arguments.collect();
    if let Some(unknown) = named.iter().find(|it| !PARTS.iter().any(|part| it == part)) {
        bail!("{unknown:?} is none of {PARTS:?}");
    }
    for part in PARTS {
        if named.is_empty() || named.iter().any(|it| it == part) {
            eprintln!("==> {part}");
            match part {
                "native" => native::measure(&docs)?,
                "delivery" => figures::write(&docs, part, delivery::measure()?)?,
                _ => figures::write(&docs, part, operator::measure()?)?,
            }
            page::write(&docs)?;
        }
    }
    Ok(())
}
