//! `docs/reference/kubectl-strongroom.md` is made here, so that it can't be stale: `UPDATE_EXPECT=1` writes it anew.

use std::fmt::Write;

use clap::{Command, CommandFactory};
use expect_test::expect_file;
use strongroom_kubectl_strongroom::Args;

const HEAD: &str = include_str!("../data/reference-head.md");
const TAIL: &str = include_str!("../data/reference-tail.md");

/// As wide as the program itself prints at most.
const WIDTH: usize = 100;

#[test]
fn reference_shows_the_help_of_every_command() {
    let mut command = Args::command().term_width(WIDTH);
    command.build();
    let mut text = HEAD.to_owned();
    describe(&mut command, "kubectl strongroom", &mut text);
    text.push_str(TAIL);
    expect_file!["../../../docs/reference/kubectl-strongroom.md"].assert_eq(&text);
}

fn describe(command: &mut Command, name: &str, text: &mut String) {
    let help = command.render_long_help().to_string();
    let help: String = help
        .lines()
        .map(|line| format!("{}\n", line.trim_end()))
        .collect();
    write!(text, "\n## {name}\n\n```text\n{help}```\n").unwrap();
    for sub in command
        .get_subcommands_mut()
        .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set())
    {
        let name = format!("{name} {}", sub.get_name());
        describe(sub, &name, text);
    }
}
