//! Somebody with a home of his own: a kubeconfig of a service account, and perhaps an administrator's certificate.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::Result;
use serde_json::json;
use strongroom_e2e::{answer::Answer, operated::Operated};
use tempfile::TempDir;

pub(crate) struct Person {
    home: TempDir,
    program: PathBuf,
    configuration: Option<PathBuf>,
}

impl Person {
    /// With the rights of a service account of the namespace `payments`.
    pub(crate) fn new(story: &Operated, account: &str, certificate: bool) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let token = story.kubectl(&["create", "token", account, "--duration=2h"])?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {
                "server": story.forward("operator-a")?.url(),
                "certificate-authority": story.cluster.layout().pki("kubernetes-ca.crt"),
            }}],
            "users": [{"name": "it", "user": {"token": token.trim()}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        fs::write(home.path().join("kubeconfig"), kubeconfig.to_string())?;
        let configuration = story.installation.path("etc/administrator.yaml");
        let command = story.installation.kubectl_strongroom(&configuration);
        Ok(Self {
            home,
            program: command.get_program().into(),
            configuration: certificate.then_some(configuration),
        })
    }

    pub(crate) fn run(&self, words: &[&str]) -> Result<Answer> {
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .stdin(Stdio::null());
        if let Some(configuration) = &self.configuration {
            command.env("STRONGROOM_CONFIG", configuration);
        }
        Answer::of(&mut command)
    }
}
