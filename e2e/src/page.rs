//! Pages of the documentation whose commands are run as they stand there.

use anyhow::{Context, Result, ensure};

/// The blocks of commands in one numbered section of a page.
///
/// # Errors
/// When there is no such section, or it has no commands.
pub fn blocks(page: &'static str, section: u32) -> Result<Vec<&'static str>> {
    let heading = format!("\n## {section}. ");
    let (_, text) = page.split_once(&heading).context("no such section")?;
    let text = text.split("\n## ").next().unwrap_or(text);
    let blocks: Vec<_> = text
        .split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    ensure!(!blocks.is_empty(), "section {section} has no commands");
    Ok(blocks)
}
