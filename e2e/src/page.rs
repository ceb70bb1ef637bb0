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
    let blocks = fenced(text, "sh");
    ensure!(!blocks.is_empty(), "section {section} has no commands");
    Ok(blocks)
}

/// All blocks of a language, in their order, each with the end of its last line.
pub fn fenced(text: &'static str, language: &str) -> Vec<&'static str> {
    // Between two fences lies every second part, from the first fence on.
    text.split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n'))
        .collect()
}
