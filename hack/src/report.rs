//! Reports of long tests. A test prints a figure as a line `report: <figure>`; here they are put into a
//! file under `docs/reports`, with what the machine is, since a figure without it says nothing.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::tally::Tally;
use crate::{paths, progress};

/// What a line with a figure starts with.
const MARK: &str = "report: ";

/// Writes the report of this day. A second run on one day replaces the first.
///
/// # Errors
/// Fails when the machine cannot be described or the file cannot be written.
pub fn write(lines: &[String], tally: Tally) -> Result<()> {
    let day = said("date", &["--utc", "+%Y%m%d"])?;
    let folder = paths::checkout().join("docs/reports");
    fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{day}-long.md"));
    let text = text(&machine()?, lines, tally);
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    progress::say(format_args!("the report is in {}", file.display()));
    Ok(())
}

fn text(machine: &str, lines: &[String], tally: Tally) -> String {
    let mut text = format!("# Long tests\n\n{machine}\nResult: {tally}.\n\n## Figures\n\n");
    for figure in lines
        .iter()
        .filter_map(|line| Some(line.split_once(MARK)?.1))
    {
        text.push_str(&format!("- {figure}\n"));
    }
    text
}

fn machine() -> Result<String> {
    let revision = said("git", &["rev-parse", "--short=12", "HEAD"])?;
    let cores = std::thread::available_parallelism()?;
    let kernel = said("uname", &["-sr"])?;
    let time = said("date", &["--utc", "+%Y-%m-%d %H:%M UTC"])?;
    Ok(format!(
        "{time}, revision {revision}, {cores} cores, {kernel}.\n"
    ))
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .current_dir(paths::checkout())
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    ensure!(
        output.status.success(),
        "`{program} {}` failed",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_from_marked_lines_only() {
        let lines = [
            "running 1 test",
            "test a ... report: 20 starts, 5 s each",
            "ok",
        ];
        let text = text("machine", &lines.map(str::to_owned), Tally::PASSED);
        assert!(
            text.ends_with("Result: 1 passed, 0 failed.\n\n## Figures\n\n- 20 starts, 5 s each\n")
        );
    }
}
