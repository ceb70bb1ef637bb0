//! What tests and people ask a cluster: the API through `kubectl`, and etcd's raw bytes with the API
//! server's own certificate.

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::control_plane::ETCD_CLIENT_URL;
use super::{Cluster, Name, progress};

/// One key of etcd as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct EtcdEntry {
    /// The key, such as `/registry/secrets/default/name`.
    #[serde(deserialize_with = "from_base64")]
    pub key: Vec<u8>,
    /// The stored bytes.
    #[serde(deserialize_with = "from_base64", default)]
    pub value: Vec<u8>,
    /// The revision of the last change, which is the object's resource version.
    pub mod_revision: i64,
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct RangeAnswer {
    #[serde(default)]
    kvs: Vec<EtcdEntry>,
}

impl Cluster {
    /// Returns a command that reaches the API server as the cluster's administrator.
    pub fn administrator_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.namespace.client_command(program);
        command.env("KUBECONFIG", self.layout.kubeconfig());
        command
    }

    /// Returns `kubectl` as the cluster's administrator, for a caller that wants its exit code or its pipes.
    pub fn kubectl_command(&self) -> Command {
        self.administrator_command(&self.tools.kubectl)
    }

    /// Runs `kubectl` and returns what it prints.
    ///
    /// # Errors
    /// Fails when it fails, with what it said.
    pub fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self
            .kubectl_command()
            .args(arguments)
            .stdin(Stdio::null())
            .output()?;
        text_of("kubectl", arguments, &output)
    }

    /// Runs `kubectl` with text on its standard input, as for `apply -f -`.
    ///
    /// # Errors
    /// Fails when it fails, with what it said.
    pub fn kubectl_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        input: &str,
    ) -> Result<String> {
        let output = run_with_input(self.kubectl_command().args(arguments), input.as_bytes())?;
        text_of("kubectl", arguments, &output)
    }

    /// Fetches a path of the API server, such as `/readyz/kms-providers`.
    ///
    /// # Errors
    /// Fails when the answer is not a success; the error contains the answer.
    pub fn get(&self, path: &str) -> Result<String> {
        self.kubectl(&["get", "--raw", path])
    }

    /// Fetches the API server's metrics in Prometheus' text format.
    ///
    /// # Errors
    /// Fails when the API server does not answer.
    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// Returns `etcdctl` with the API server's certificate.
    pub fn etcdctl_command(&self) -> Command {
        let mut command = self.namespace.client_command(&self.tools.etcdctl);
        command.envs(self.etcdctl_environment());
        command
    }

    /// Returns the variables with which `etcdctl` reaches this etcd, inside the namespace.
    pub fn etcdctl_environment(&self) -> [(&'static str, String); 4] {
        let file = |name| self.layout.pki(name).display().to_string();
        [
            ("ETCDCTL_ENDPOINTS", ETCD_CLIENT_URL.to_owned()),
            ("ETCDCTL_CACERT", file("etcd-ca.crt")),
            ("ETCDCTL_CERT", file("etcd-client.crt")),
            ("ETCDCTL_KEY", file("etcd-client.key")),
        ]
    }

    /// Reads the stored bytes of one key.
    ///
    /// # Errors
    /// Fails when etcd does not answer.
    pub fn etcd_get(&self, key: &str) -> Result<Option<EtcdEntry>> {
        Ok(self.etcd_range(&["get", key])?.pop())
    }

    /// Reads all keys that start with the prefix, in their order.
    ///
    /// # Errors
    /// Fails when etcd does not answer.
    pub fn etcd_list(&self, prefix: &str) -> Result<Vec<EtcdEntry>> {
        self.etcd_range(&["get", prefix, "--prefix"])
    }

    /// Stores bytes behind the API server's back, as an attacker on etcd would.
    ///
    /// # Errors
    /// Fails when etcd does not answer.
    pub fn etcd_put(&self, key: &str, value: &[u8]) -> Result<()> {
        // `etcdctl put` takes a value that is not given from its standard input, byte by byte.
        let output = run_with_input(self.etcdctl_command().args(["put", key]), value)?;
        text_of("etcdctl", &["put", key], &output).map(drop)
    }

    pub(super) fn etcd_health(&self) -> Result<()> {
        let arguments = ["endpoint", "health"];
        let output = self.etcdctl_command().args(arguments).output()?;
        text_of("etcdctl", &arguments, &output).map(drop)
    }

    fn etcd_range(&self, arguments: &[&str]) -> Result<Vec<EtcdEntry>> {
        let output = self
            .etcdctl_command()
            .args(arguments)
            .arg("--write-out=json")
            .output()?;
        let text = text_of("etcdctl", arguments, &output)?;
        let answer: RangeAnswer = serde_json::from_str(&text).with_context(|| {
            format!("`etcdctl {}` answered in another form", arguments.join(" "))
        })?;
        Ok(answer.kvs)
    }

    /// Prints what a person needs to use the cluster from a shell.
    pub fn print_environment(&self) {
        let folders: Vec<_> = self
            .client_folders()
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        println!("export KUBECONFIG='{}'", self.layout.kubeconfig().display());
        println!("export PATH='{}':\"$PATH\"", folders.join(":"));
        for (name, value) in self.etcdctl_environment() {
            println!("export {name}='{value}'");
        }
        println!("export ENTER='{}'", self.namespace.enter_words());
        for node in self.nodes() {
            // A node that is off cannot be entered.
            if let Ok(words) = node.enter_words() {
                println!("export {}='{words}'", enter_variable(node.name()));
            }
        }
        progress::say(
            "the network of the cluster is its own, so: $ENTER kubectl get --raw /readyz",
        );
        if let Some(node) = self.nodes().first() {
            progress::say(format_args!(
                "and so is everything of a node: ${} ctr --namespace k8s.io containers list",
                enter_variable(node.name())
            ));
        }
    }
}

/// Returns the variable with the words that lead into a node.
fn enter_variable(node: &Name) -> String {
    format!(
        "ENTER_{}",
        node.to_string().to_uppercase().replace('-', "_")
    )
}

fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child
        .stdin
        .take()
        .context("the child has no standard input")?;
    // A program that ends before it has read everything says why by itself.
    let written = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        written?;
    }
    Ok(output)
}

pub(super) fn text_of<S: AsRef<OsStr>>(
    program: &str,
    arguments: &[S],
    output: &Output,
) -> Result<String> {
    if !output.status.success() {
        let words: Vec<_> = arguments
            .iter()
            .map(|a| a.as_ref().to_string_lossy())
            .collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program} {}` failed ({}): {}",
            words.join(" "),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_answer_gives_raw_bytes() {
        let text = r#"{"header":{"revision":5},"kvs":[{"key":"L2E=","create_revision":2,
            "mod_revision":4,"version":1,"value":"AP8K"}],"count":1}"#;
        let answer: RangeAnswer = serde_json::from_str(text).unwrap();
        let expected = EtcdEntry {
            key: b"/a".to_vec(),
            value: vec![0, 255, 10],
            mod_revision: 4,
        };
        assert_eq!(answer.kvs, [expected]);
    }

    #[test]
    fn etcd_answer_without_keys_is_empty() {
        let answer: RangeAnswer = serde_json::from_str(r#"{"header":{"revision":5}}"#).unwrap();
        assert!(answer.kvs.is_empty());
    }

    #[test]
    fn input_reaches_the_program_unchanged() {
        let output = run_with_input(&mut Command::new("cat"), &[0, 255, 10]).unwrap();
        assert_eq!(output.stdout, [0, 255, 10]);
    }
}
