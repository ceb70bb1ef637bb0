//! The real program as a child process.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
};

use super::Rig;

/// A running program. It is killed when it is dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    /// What it logged so far.
    pub(crate) log: String,
}

impl Rig {
    /// Writes the configuration of this rig to a file.
    pub(crate) fn write_config(&self) -> PathBuf {
        let path = self.folder.path().join("config.yaml");
        let text = format!(
            "listen: {{path: {listen}, peers: [{uid}]}}\n\
             keyService: {{socket: {socket}, uid: {uid}}}\n\
             state: {state}\n\
             probes: 127.0.0.1:0\n\
             status: {{interval: 50ms, retryInterval: 50ms, maxAge: 500ms}}\n",
            listen = self.config.listen.path.display(),
            socket = self.socket().display(),
            state = self.config.state.display(),
            uid = super::us(),
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Starts the program with fault points, if it has them.
    pub(crate) fn spawn(&self, faults: &str) -> Program {
        let mut serve = command();
        serve
            .arg("serve")
            .arg("--config")
            .arg(self.write_config())
            .env("FAILPOINTS", faults);
        Program::start(&mut serve)
    }
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kms-plugin"));
    command.env_remove("RUST_LOG").env_remove("FAILPOINTS");
    command
}

impl Program {
    /// Starts a command and follows what it says.
    pub(crate) fn start(command: &mut Command) -> Self {
        let started = command.stderr(Stdio::piped()).kill_on_drop(true).spawn();
        let mut child = started.unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            lines,
            log: String::new(),
        }
    }

    /// Reads the log until a line holds a text, and returns the line.
    pub(crate) async fn line(&mut self, text: &str) -> String {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return line;
            }
        }
        panic!("the program ended before it logged {text:?}:\n{}", self.log);
    }

    /// Reads the log to its end, and returns how the program ended.
    pub(crate) async fn end(&mut self) -> std::process::ExitStatus {
        while let Some(line) = self.lines.next_line().await.unwrap() {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        self.child.wait().await.unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

/// Asks a probe, and returns status line and body.
pub(crate) async fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
