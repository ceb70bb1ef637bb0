//! Printing: tables for people, JSON and YAML for programs.

use std::io::{self, Write};

use serde::Serialize;

/// A form that programs read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Structured {
    Json,
    Yaml,
}

/// Writes `report` and a final newline.
pub(crate) fn write_structured(
    out: &mut dyn Write,
    form: Structured,
    report: &impl Serialize,
) -> io::Result<()> {
    match form {
        Structured::Json => {
            let text = serde_json::to_string_pretty(report).map_err(io::Error::other)?;
            writeln!(out, "{text}")
        }
        Structured::Yaml => {
            let text = serde_yaml_ng::to_string(report).map_err(io::Error::other)?;
            write!(out, "{text}")
        }
    }
}

/// Lays rows out in columns, three spaces apart, without spaces at the ends of lines.
pub(crate) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = widths
            .iter()
            .zip(row)
            .map(|(&width, cell)| format!("{cell:<width$}   "))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Replaces control characters, so that text from elsewhere can't steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The age of something in its largest unit, as kubectl writes it: `42s`, `7m`, `3h`, `12d`.
pub(crate) fn age(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{}s", seconds.max(0)),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        172_800.. => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| [a.to_owned(), b.to_owned()];
        let text = columns(&[row("NAME", "OK"), row("etcd-key", ""), row("é", "no")]);
        assert_eq!(text, "NAME       OK\netcd-key\né          no\n");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(
            plain("a\u{1b}[2Jb\nc\u{9b}d"),
            "a\u{fffd}[2Jb\u{fffd}c\u{fffd}d"
        );
    }

    #[test]
    fn age_is_in_its_largest_unit() {
        let ages = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800].map(age);
        assert_eq!(ages, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }
}
