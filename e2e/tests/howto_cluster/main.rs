//! The commands of the how-to pages for secrets in pods and for the charts, as they stand there, on nodes that really run.
#![forbid(unsafe_code)]

mod install;
mod reader;

use anyhow::{Result, ensure};
use reader::Reader;
use strongroom_e2e::page;

const PAGE: &str = include_str!("../../../docs/how-to/secrets-in-pods.md");

#[test]
fn commands_of_the_how_to_bring_a_secret_into_a_pod() -> Result<()> {
    let reader = Reader::start("e2e-howto-pods")?;
    let mut said = String::new();
    for section in 1..=5 {
        said = reader.run(&page::blocks(PAGE, section)?.join("\n"))?;
    }
    ensure!(said.contains("version 2 of the password"), "{said}");
    Ok(())
}
