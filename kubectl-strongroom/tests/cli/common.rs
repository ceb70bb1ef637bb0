//! One command line in a home of its own.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use strongroom_kubectl_strongroom::{Environment, Exit, SERVER_NAME, run};
use tempfile::TempDir;

use crate::{
    fake::Fake,
    pki::{Authority, write},
};

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A user with a home folder.
pub(crate) struct User {
    pub(crate) home: TempDir,
    environment: Environment,
}

impl User {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let environment = Environment {
            home: Some(home.path().to_owned()),
            system_config: home.path().join("etc/cli.yaml"),
            kubeconfig: None,
            kubectl: home.path().join("kubectl"),
            poll_interval: Duration::from_millis(5),
            root: home.path().join("root"),
            program: home.path().join("nowhere"),
            now: || "2026-11-22T05:00:00Z".parse().unwrap(),
        };
        Self { home, environment }
    }

    /// Has the certificate and the configuration that lead to `fake`.
    pub(crate) fn of(fake: &Fake, authority: &Authority) -> Self {
        let user = Self::new();
        user.configure(&fake.address.to_string(), authority, authority);
        user
    }

    /// Writes a configuration that trusts `server` and shows a certificate of `client`.
    pub(crate) fn configure(&self, address: &str, server: &Authority, client: &Authority) {
        let folder = self.path().join(".config/strongroom");
        std::fs::create_dir_all(&folder).unwrap();
        let identity = client.client();
        write(&folder, "ca.pem", &server.pem());
        write(&folder, "me.pem", &identity.certificate);
        write(&folder, "me-key.pem", &identity.key);
        let config =
            format!("server: {address}\nca: ca.pem\ncertificate: me.pem\nkey: me-key.pem\n");
        write(&folder, "config.yaml", &config);
    }

    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    /// Puts a shell script where kubectl is looked for. It gets the command line's own arguments.
    pub(crate) fn install_kubectl(&self, script: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        // A file that is executed must not be open for writing, not even in a child of another test's fork.
        let staged = write(
            self.path(),
            "kubectl.new",
            &format!("#!/bin/sh\n{script}\n"),
        );
        std::fs::set_permissions(&staged, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = self.environment.kubectl.clone();
        std::fs::rename(&staged, &path).unwrap();
        path
    }

    pub(crate) fn run(&self, args: &[&str]) -> Outcome {
        let args = ["kubectl-strongroom"]
            .iter()
            .chain(args)
            .map(OsString::from);
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = run(args, &self.environment, &mut out, &mut err);
        let text = |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(self.path().to_str().unwrap(), "HOME")
        };
        Outcome {
            exit,
            out: text(out),
            err: text(err),
        }
    }
}

/// A key service and a user who may talk to it.
pub(crate) fn pair() -> (Fake, User) {
    let authority = Authority::new();
    let fake = Fake::start(&authority, &authority.server(SERVER_NAME));
    let user = User::of(&fake, &authority);
    (fake, user)
}
