//! Rules about the text of our files that no compiler checks. Each violation is a sentence that names the
//! file; the test in `hack/tests/tidy.rs` wants none.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::paths;

/// Lines of the longest Rust file that we want to read.
const LONGEST_FILE: usize = 900;

/// The places where `unsafe` is allowed, each for its reason.
const UNSAFE_PLACES: &[&str] = &[
    // Calls into the PKCS#11 module.
    "hsm-agent/src/pkcs11/",
    "hsm-agent/src/pkcs11.rs",
    // Memory that is locked and kept out of core dumps.
    "crates/crypto/src/locked.rs",
    // The PKCS#11 module of the tests.
    "hack/pkcs11-shim/module/src/lib.rs",
];

/// The roots of the packages that hold those places; they cannot forbid what a module of theirs allows.
const ROOTS_WITH_UNSAFE: &[&str] = &[
    "hsm-agent/src/lib.rs",
    "crates/crypto/src/lib.rs",
    "hack/pkcs11-shim/module/src/lib.rs",
];

/// Files that a tool writes.
const GENERATED: &[&str] = &["Cargo.lock", "go.sum"];

/// Words that must not be in any file. They are put together here, so that this file does not contain them.
const BANNED_WORDS: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it now, or write an issue"),
    (concat!("FIX", "ME"), "do it now, or write an issue"),
    (concat!("todo", "!("), "write the code"),
    (concat!("unimplemented", "!("), "write the code"),
    (concat!("allow(dead", "_code)"), "remove what nothing uses"),
    (
        concat!("#[ign", "ore"),
        "a test that does not run does not test",
    ),
    (
        concat!("static.cr", "ates.io"),
        "no registry is named in the repository",
    ),
    (
        concat!("index.cr", "ates.io"),
        "no registry is named in the repository",
    ),
    (
        concat!("proxy.gol", "ang.org"),
        "no registry is named in the repository",
    ),
    (
        concat!("sum.gol", "ang.org"),
        "no registry is named in the repository",
    ),
    (
        concat!("registry.k", "8s.io"),
        "no registry is named in the repository",
    ),
    (
        concat!("docker", ".io/"),
        "no registry is named in the repository",
    ),
    (
        concat!("gh", "cr.io"),
        "no registry is named in the repository",
    ),
    (
        concat!("qua", "y.io"),
        "no registry is named in the repository",
    ),
    (
        concat!("py", "pi.org"),
        "no registry is named in the repository",
    ),
    (
        concat!(" /wo", "rk/"),
        "no path of one machine is in the repository",
    ),
    (
        concat!("\"/wo", "rk/"),
        "no path of one machine is in the repository",
    ),
    (
        concat!("/home", "/"),
        "no path of one machine is in the repository",
    ),
];

/// Returns a sentence for each rule that a file of the checkout breaks.
///
/// # Errors
/// Fails when `git` cannot list the files or one cannot be read.
pub fn violations() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in files()? {
        let Ok(text) = String::from_utf8(fs::read(paths::checkout().join(&path))?) else {
            continue;
        };
        found.extend(
            violations_of(&path, &text)
                .into_iter()
                .map(|rule| format!("{path}: {rule}")),
        );
    }
    Ok(found)
}

fn violations_of(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let file_name = path.rsplit('/').next().unwrap_or(path);
    if !GENERATED.contains(&file_name) {
        found.extend(banned_words(text));
    }
    if path.ends_with(".rs") {
        found.extend(rust_rules(path, text));
    }
    found
}

fn banned_words(text: &str) -> impl Iterator<Item = String> {
    BANNED_WORDS
        .iter()
        .filter(|(word, _)| text.contains(word))
        .map(|(word, reason)| format!("contains {:?}: {reason}", word.trim()))
}

fn rust_rules(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !text.starts_with("//!") {
        found.push("does not open with `//!`, what it holds".to_owned());
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        found.push(format!("has {lines} lines, split it below {LONGEST_FILE}"));
    }
    if is_crate_root(path)
        && !ROOTS_WITH_UNSAFE.contains(&path)
        && !text.contains(concat!("#![forbid(unsafe", "_code)]"))
    {
        found.push("is a crate root that does not forbid unsafe code".to_owned());
    }
    if uses_unsafe(text) && !UNSAFE_PLACES.iter().any(|place| path.starts_with(place)) {
        found.push("contains unsafe code outside the places for it".to_owned());
    }
    found
}

/// A library or program of ours. Tests and build scripts inherit the workspace's denial.
fn is_crate_root(path: &str) -> bool {
    path.ends_with("src/lib.rs") || path.ends_with("src/main.rs")
}

fn uses_unsafe(text: &str) -> bool {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let keyword = concat!("unsa", "fe ");
    code.into_iter().any(|line| {
        ["{", "fn", "impl", "extern", "trait"]
            .iter()
            .any(|next| line.contains(&format!("{keyword}{next}")))
    })
}

/// Returns what is in the repository or would be added to it.
fn files() -> Result<Vec<String>> {
    let output = Command::new("git")
        .current_dir(paths::checkout())
        .args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .output()
        .context("cannot start `git`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`git ls-files` failed: {said}");
    let names = String::from_utf8(output.stdout)?;
    let names = names.split_terminator('\0').map(str::to_owned);
    // A file that was deleted is listed until the deletion is committed.
    Ok(names
        .filter(|name| paths::checkout().join(Path::new(name)).is_file())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN_ROOT: &str = concat!("//! Text.\n#![forbid(unsafe", "_code)]\n");

    fn check(path: &str, text: &str, expected: &[&str]) {
        let found = violations_of(path, text);
        assert_eq!(found.len(), expected.len(), "{path}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{path}: {found}");
        }
    }

    #[test]
    fn root_that_does_not_forbid_unsafe_code_is_named() {
        check("api/src/lib.rs", CLEAN_ROOT, &[]);
        check("api/src/lib.rs", "//! Text.\n", &["does not forbid"]);
        check("hsm-agent/src/lib.rs", "//! Text.\n", &[]);
    }

    #[test]
    fn unsafe_block_is_allowed_in_its_places_only() {
        let text = concat!("//! Text.\nfn f() { unsa", "fe { g() } }\n");
        check("hsm-agent/src/pkcs11/session.rs", text, &[]);
        check("hsm-agent/src/files.rs", text, &["outside the places"]);
        check(
            "a.rs",
            concat!("//! Text.\n// No unsa", "fe { here.\n"),
            &[],
        );
    }

    #[test]
    fn file_without_a_header_and_long_file_are_named() {
        check("a.rs", "use std::fs;\n", &["open with"]);
        check("a.rs", &"//! Text.\n".repeat(LONGEST_FILE + 1), &["lines"]);
        check("a.rs", &"//! Text.\n".repeat(LONGEST_FILE), &[]);
    }

    #[test]
    fn banned_word_is_named_in_every_file_but_generated_ones() {
        for (word, _) in BANNED_WORDS {
            check("docs/a.md", word, &["contains"]);
            check("hack/tools/x/go.sum", word, &[]);
        }
    }
}
