//! A folder with everything that one agent needs, and the agent in it: the real program with a real SoftHSM.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread::sleep,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, Uid, geteuid, kill_process},
    thread::set_thread_res_uid,
};
use strongroom_hsm::{AgentClient, Hsm, HsmError, TokenDescription, TokenState};
use tempfile::TempDir;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_hsm-agent");
pub(crate) const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
/// Waits are for things that happen; this ends a wait for what never does.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(25);

/// The client's uid: root is nobody to the agent, so tests that run as root become somebody else.
pub(crate) fn client_uid() -> u32 {
    if is_root() { 2001 } else { us() }
}

pub(crate) fn is_root() -> bool {
    us() == 0
}

pub(crate) fn us() -> u32 {
    geteuid().as_raw()
}

/// Runs a future on a thread that is another user: a uid belongs to a thread, and the kernel tells it to the listener.
pub(crate) fn as_uid<T: Send>(uid: u32, future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let work = move || {
            if uid != us() {
                let uid = Uid::from_raw(uid);
                set_thread_res_uid(uid, uid, uid).expect("root may be anybody");
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(future)
        };
        scope.spawn(work).join().unwrap()
    })
}

/// Asks the agent once as its client.
pub(crate) fn ask<T: Send, F: Future<Output = T> + Send>(
    place: &Place,
    call: impl FnOnce(AgentClient) -> F + Send,
) -> T {
    ask_as(client_uid(), place, call)
}

/// Asks the agent once as somebody.
pub(crate) fn ask_as<T: Send, F: Future<Output = T> + Send>(
    uid: u32,
    place: &Place,
    call: impl FnOnce(AgentClient) -> F + Send,
) -> T {
    // The agent runs as whoever runs the tests, which the thread no longer is.
    let (socket, owner) = (place.socket(), us());
    as_uid(
        uid,
        async move { call(AgentClient::new(&socket, owner)).await },
    )
}

pub(crate) struct Place {
    folder: TempDir,
    label: &'static str,
    module: String,
    allow: &'static str,
    make: &'static str,
}

impl Default for Place {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("data", 0o700), ("run", 0o750)] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        Self {
            folder,
            label: "strongroom",
            module: MODULE.to_owned(),
            allow: "",
            make: "Command",
        }
    }
}

impl Place {
    /// A place whose token is made.
    pub(crate) fn with_token() -> Self {
        let place = Self::default();
        let output = place.init();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        place
    }

    pub(crate) fn label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    pub(crate) fn module(self, module: &str) -> Self {
        Self {
            module: module.to_owned(),
            ..self
        }
    }

    /// Limits what the client may call: `[Describe, …]`.
    pub(crate) fn allow(self, allow: &'static str) -> Self {
        Self { allow, ..self }
    }

    /// Has the token made by the key service in place of `init`.
    pub(crate) fn made_by_request(self) -> Self {
        Self {
            make: "Request",
            ..self
        }
    }

    pub(crate) fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join("data").join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("run/agent.sock")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn config(&self) -> PathBuf {
        let path = self.folder.path().join("hsm-agent.yaml");
        let allow = if self.allow.is_empty() {
            String::new()
        } else {
            format!(", allow: {}", self.allow)
        };
        let text = format!(
            "dataDir: {}\nsocket: {{path: {}, peers: [{{uid: {}{allow}}}]}}\nprobes: 127.0.0.1:0\n\
             token: {{type: SoftHSM, module: {}, label: {}, make: {}}}\n",
            self.folder.path().join("data").display(),
            self.socket().display(),
            client_uid(),
            self.module,
            self.label,
            self.make,
        );
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg(subcommand)
            .arg("--config")
            .arg(self.config())
            .env_remove("RUST_LOG");
        command
    }

    pub(crate) fn init(&self) -> Output {
        self.command("init").output().unwrap()
    }

    /// Starts the agent without waiting for its token.
    pub(crate) fn start(&self) -> Agent<'_> {
        self.start_with_faults("")
    }

    pub(crate) fn start_with_faults(&self, faults: &str) -> Agent<'_> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .unwrap();
        let mut command = self.command("serve");
        if !faults.is_empty() {
            command.env("FAILPOINTS", faults);
        }
        let child = command.stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Agent { child, place: self }
    }
}

pub(crate) struct Agent<'a> {
    child: Child,
    place: &'a Place,
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent<'_> {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Waits for a state of the token.
    pub(crate) fn wait_for(&self, state: TokenState) -> TokenDescription {
        until(|| {
            let token = ask(self.place, async |agent: AgentClient| {
                agent.describe().await
            })
            .ok()?;
            (token.state == state).then_some(token)
        })
        .unwrap_or_else(|| panic!("no state {state:?}; the log: {}", self.place.log()))
    }

    /// Asks until the worker is back.
    pub(crate) fn ask_until_available<T: Send, F: Future<Output = Result<T, HsmError>> + Send>(
        &self,
        call: impl Fn(AgentClient) -> F + Send + Sync,
    ) -> Result<T, HsmError> {
        until(|| match ask(self.place, &call) {
            Err(HsmError::Unavailable { .. }) => None,
            outcome => Some(outcome),
        })
        .unwrap_or_else(|| panic!("never available; the log: {}", self.place.log()))
    }

    /// The worker of now.
    pub(crate) fn worker(&self) -> Pid {
        let children = format!("/proc/{0}/task", self.child.id());
        until(|| {
            fs::read_dir(&children).ok()?.find_map(|task| {
                let list = fs::read_to_string(task.ok()?.path().join("children")).ok()?;
                Pid::from_raw(list.split_whitespace().next()?.parse().ok()?)
            })
        })
        .unwrap_or_else(|| panic!("no worker; the log: {}", self.place.log()))
    }

    /// Asks the agent to end, and waits.
    pub(crate) fn stop(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }

    /// Waits until the agent ends by itself.
    pub(crate) fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Asks the probes over plain HTTP.
    pub(crate) fn probe(&self, path: &str) -> String {
        use std::io::{Read, Write};
        let address = until(|| {
            let log = self.place.log();
            let line = log
                .lines()
                .rev()
                .find(|line| line.contains("serving probes"))?
                .to_owned();
            let (_, rest) = line.split_once(r#""address":""#)?;
            Some(rest.split('"').next()?.to_owned())
        });
        let mut stream = std::net::TcpStream::connect(address.unwrap()).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

/// Tries something until it gives a value.
pub(crate) fn until<T>(mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let tries = PATIENCE.as_millis() / PAUSE.as_millis();
    (0..tries).find_map(|_| {
        let value = attempt();
        if value.is_none() {
            sleep(PAUSE);
        }
        value
    })
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}
