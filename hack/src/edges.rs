//! Which of our packages may use which. The direct edges are a committed table, so that a new edge is a
//! line in a review; some packages are further fenced in, however long the path to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::run;

/// The prefix of every package of ours.
const PREFIX: &str = "strongroom-";

/// Packages that only the named ones may reach, directly or not.
const FENCES: &[(&str, &[&str])] = &[
    // Only the key service reads or writes records; all others ask it.
    ("store", &["key-service", "testkit"]),
    // Keys in the clear exist in these two programs only.
    ("crypto", &["key-service", "hsm-agent"]),
    ("hsm", &["key-service", "hsm-agent"]),
    // Fakes never reach a program.
    ("testkit", &[]),
    ("pkcs11-shim", &["pkcs11-shim-module", "hack", "e2e"]),
    ("pkcs11-shim-module", &[]),
    ("hack", &["e2e"]),
    ("e2e", &[]),
];

/// Direct normal dependencies between our packages, by their short names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edges(BTreeMap<String, BTreeSet<String>>);

impl Edges {
    /// Reads the edges of the checkout from `cargo metadata`.
    ///
    /// # Errors
    /// Fails when `cargo metadata` fails.
    pub fn load() -> Result<Self> {
        let mut command: Command = run::cargo();
        command.args(["metadata", "--format-version=1", "--no-deps"]);
        let output = command.output().context("cannot start `cargo metadata`")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`cargo metadata` failed: {said}");
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        Ok(Self::of(metadata))
    }

    fn of(metadata: Metadata) -> Self {
        let short = |name: &str| name.strip_prefix(PREFIX).map(str::to_owned);
        let edges = metadata.packages.iter().filter_map(|package| {
            let normal = package.dependencies.iter().filter(|d| d.kind.is_none());
            Some((
                short(&package.name)?,
                normal.filter_map(|d| short(&d.name)).collect(),
            ))
        });
        Self(edges.collect())
    }

    /// Returns the table: one line for each package.
    pub fn table(&self) -> String {
        let mut table = String::new();
        for (package, used) in &self.0 {
            let used: Vec<&str> = used.iter().map(String::as_str).collect();
            let _ = writeln!(
                table,
                "{}",
                format!("{package} -> {}", used.join(" ")).trim_end()
            );
        }
        table
    }

    /// Returns a sentence for each fence that some package has crossed.
    pub fn crossed_fences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (fenced, allowed) in FENCES {
            for package in self.0.keys() {
                let reaches = self.reachable(package).contains(*fenced);
                if reaches && !allowed.contains(&package.as_str()) {
                    sentences.push(format!(
                        "{package} reaches {fenced}, which is for {allowed:?}"
                    ));
                }
            }
        }
        sentences
    }

    fn reachable<'a>(&'a self, package: &'a str) -> BTreeSet<&'a str> {
        let mut found = BTreeSet::new();
        let mut open = vec![package];
        while let Some(next) = open.pop() {
            for used in self.0.get(next).into_iter().flatten() {
                if found.insert(used.as_str()) {
                    open.push(used);
                }
            }
        }
        found
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// Nothing for a normal dependency, else `dev` or `build`.
    kind: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> Edges {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Edges(
            list.iter()
                .map(|(name, used)| ((*name).to_owned(), own(used)))
                .collect(),
        )
    }

    #[test]
    fn fence_is_seen_behind_another_package() {
        let edges = edges(&[
            ("kms-plugin", &["api"]),
            ("api", &["store"]),
            ("store", &[]),
        ]);
        assert_eq!(
            edges.crossed_fences(),
            [
                r#"api reaches store, which is for ["key-service", "testkit"]"#,
                r#"kms-plugin reaches store, which is for ["key-service", "testkit"]"#,
            ]
        );
    }

    #[test]
    fn key_service_may_reach_the_store() {
        assert!(
            edges(&[("key-service", &["store"])])
                .crossed_fences()
                .is_empty()
        );
    }

    #[test]
    fn dev_dependencies_and_foreign_packages_are_no_edges() {
        let text = r#"{"packages": [{"name": "strongroom-audit", "dependencies": [
            {"name": "strongroom-testkit", "kind": "dev"},
            {"name": "strongroom-api", "kind": "build"},
            {"name": "strongroom-core", "kind": null},
            {"name": "serde", "kind": null}]}]}"#;
        let edges = Edges::of(serde_json::from_str(text).unwrap());
        assert_eq!(edges.table(), "audit -> core\n");
    }
}
