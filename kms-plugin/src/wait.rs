//! `kms-plugin wait`: ends when the plugin can be used. Run before kube-apiserver starts, since one that finds nobody at the
//! socket tries ever more rarely to connect, and follows a plugin that comes later by a minute or more.

use std::{
    error::Error,
    io,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use rustix::process::geteuid;
use strongroom_api::kubernetes::kms::v2::{
    StatusRequest, StatusResponse, key_management_service_client::KeyManagementServiceClient,
};
use strongroom_runtime::{
    Chain,
    socket::{self, ConnectError},
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::{Patience, WaitArgs},
    service::{HEALTHY, VERSION},
};

/// Exit code when the time was over.
const EXIT_NOT_YET: u8 = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// For one call: kube-apiserver gives it as long.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// Why the plugin cannot be used.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error(transparent)]
    Socket(#[from] ConnectError),
    #[error("the plugin did not answer within {CALL_TIMEOUT:?}")]
    Silent,
    #[error(
        "the plugin closed the connection, as it does when uid {uid} is neither its own nor in listen.peers"
    )]
    Closed {
        /// Who asked.
        uid: u32,
    },
    /// The plugin's own words.
    #[error("{0}")]
    Said(String),
    #[error("the plugin answers Status with version {version:?} and health {healthz:?}")]
    Unknown { version: String, healthz: String },
}

/// How waiting ended.
enum End {
    Usable,
    Late(Missing),
    Interrupted,
}

/// Waits, and says for what.
pub fn run(args: &WaitArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let end = runtime.and_then(|runtime| runtime.block_on(wait(args)));
    match end {
        Ok(End::Usable) => {
            say("the plugin can be used");
            ExitCode::SUCCESS
        }
        Ok(End::Late(missing)) => late(args, &missing),
        Ok(End::Interrupted) => {
            say("asked to end");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("cannot wait: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn late(args: &WaitArgs, missing: &Missing) -> ExitCode {
    let Patience(timeout) = args.timeout;
    let missing = Chain(missing);
    if args.start_anyway {
        say(&format!(
            "not after {timeout:?}: {missing}; what waits starts without it"
        ));
        ExitCode::SUCCESS
    } else {
        say(&format!("not after {timeout:?}: {missing}"));
        ExitCode::from(EXIT_NOT_YET)
    }
}

/// Lines for whoever reads why an API server is not there yet.
fn say(text: &str) {
    eprintln!("kms-plugin wait: {text}");
}

async fn wait(args: &WaitArgs) -> io::Result<End> {
    // The first process of a container gets no signal that it does not handle.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        end = until_usable(args) => Ok(end),
        _ = terminate.recv() => Ok(End::Interrupted),
        _ = interrupt.recv() => Ok(End::Interrupted),
    }
}

async fn until_usable(args: &WaitArgs) -> End {
    let Patience(timeout) = args.timeout;
    let uid = args.uid.unwrap_or_else(|| geteuid().as_raw());
    let start = Instant::now();
    let mut told = Told::default();
    while let Err(missing) = ask(&args.socket, uid).await {
        if start.elapsed() >= timeout {
            return End::Late(missing);
        }
        told.tell(&missing);
        tokio::time::sleep(PAUSE).await;
    }
    End::Usable
}

/// Asks over a new connection: a channel that failed would wait ever longer before it tries again.
async fn ask(path: &Path, uid: u32) -> Result<(), Missing> {
    socket::connect(path, uid).await?;
    let mut client = KeyManagementServiceClient::new(socket::channel(path, uid));
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.status(StatusRequest {})).await;
    match answer {
        Ok(Ok(answer)) => judge(answer.into_inner()),
        // What the plugin says has no source; what became of the connection has.
        Ok(Err(status)) if status.source().is_some() => Err(Missing::Closed {
            uid: geteuid().as_raw(),
        }),
        Ok(Err(status)) => Err(Missing::Said(plain(status.message()))),
        Err(_) => Err(Missing::Silent),
    }
}

/// What kube-apiserver would use.
fn judge(answer: StatusResponse) -> Result<(), Missing> {
    let StatusResponse {
        version,
        healthz,
        key_id,
    } = answer;
    if version == VERSION && healthz == HEALTHY && !key_id.is_empty() {
        return Ok(());
    }
    let (version, healthz) = (plain(&version), plain(&healthz));
    Err(Missing::Unknown { version, healthz })
}

fn plain(text: &str) -> String {
    let printable = text.chars().filter(|character| !character.is_control());
    printable.take(500).collect()
}

/// What was said last, without its numbers: a reason with an age is not news each second.
#[derive(Default)]
struct Told(String);

impl Told {
    fn tell(&mut self, missing: &Missing) {
        let text = Chain(missing).to_string();
        let reason = text.replace(|character: char| character.is_ascii_digit(), "");
        if reason != self.0 {
            say(&format!("waiting: {text}"));
            self.0 = reason;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_that_kube_apiserver_would_use_ends_it() {
        let answer = |version: &str, healthz: &str, key_id: &str| {
            judge(StatusResponse {
                version: version.to_owned(),
                healthz: healthz.to_owned(),
                key_id: key_id.to_owned(),
            })
        };
        assert!(answer("v2", "ok", "key-1").is_ok());
        for (version, healthz, key_id) in [
            ("v1", "ok", "key-1"),
            ("v2", "no", "key-1"),
            ("v2", "ok", ""),
        ] {
            assert!(answer(version, healthz, key_id).is_err());
        }
    }
}
