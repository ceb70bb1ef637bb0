//! Asks for an instance in a cluster, for the hook Job of the chart: makes ConfigMap `strongroom-init`, waits for the answer in
//! it, removes it. It needs no exec, no volume and no right on anything else.

use std::time::{Duration, Instant};

use strongroom_core::{Clock, UnixMillis};
use strongroom_runtime::{Chain, SystemClock};

use crate::{
    args::RequestInit,
    kubernetes::{
        AskError, Connection,
        request::{self, Answer, Made, Request},
    },
};

const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why there is no instance that could be named.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    /// The key service refuses.
    #[error("the key service makes no instance: {0}")]
    Refused(String),
    /// Nobody answered.
    #[error("no answer of the key service within {limit:?}: {last}")]
    NotYet {
        /// How long was waited.
        limit: Duration,
        /// What was seen last.
        last: String,
    },
    /// The deadline is no duration.
    #[error("--timeout is not a positive duration")]
    Timeout,
}

/// Asks, and prints the instance.
pub(super) async fn request(args: &RequestInit) -> Result<(), RequestError> {
    let limit = Duration::try_from(args.timeout).map_err(|_| RequestError::Timeout)?;
    let mut asking = Asking {
        connection: Connection::new(args.kubeconfig.clone()),
        namespace: &args.namespace,
        asked: None,
    };
    let end = Instant::now() + limit;
    let mut last = String::new();
    let answer = loop {
        match asking.look().await {
            Ok(Some(answer)) => break Some(answer),
            Ok(None) => {
                "the request was not taken up; does the key service run?".clone_into(&mut last)
            }
            Err(error) => last = Chain(&error).to_string(),
        }
        if Instant::now() >= end {
            break None;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    // One that nobody answered must not be taken up after this command has failed.
    asking.tidy_up().await;
    match answer {
        Some(Answer::Initialised(made)) => print("initialised", &made),
        Some(Answer::AlreadyInitialised(made)) => print("already initialised", &made),
        Some(Answer::Refused(message)) => return Err(RequestError::Refused(message)),
        None => return Err(RequestError::NotYet { limit, last }),
    }
    Ok(())
}

/// As `key-service init` prints it.
fn print(outcome: &str, made: &Made) {
    let Made {
        instance,
        audit_fingerprint,
    } = made;
    println!("{outcome}");
    println!("instance:          {instance}");
    println!("audit fingerprint: {audit_fingerprint}");
}

struct Asking<'a> {
    connection: Connection,
    namespace: &'a str,
    /// The uid of the request that is waited for.
    asked: Option<String>,
}

impl Asking<'_> {
    /// Sees to it that there is a request that counts, and gives its answer.
    async fn look(&mut self) -> Result<Option<Answer>, AskError> {
        let found = self.connection.find(self.namespace, request::NAME).await?;
        if let Some(found) = &found {
            let is_ours = found.metadata.uid == self.asked;
            match (Answer::read(found), Request::read(Some(found), now())) {
                (Some(answer), _) if is_ours => return Ok(Some(answer)),
                // Made by a run of this command before, that was killed.
                (None, Request::Fresh(uid)) => {
                    self.asked = Some(uid);
                    return Ok(None);
                }
                _ => self.remove(found.metadata.uid.as_deref()).await?,
            }
        }
        let object = request::object();
        let made = self.connection.create(self.namespace, &object).await?;
        self.asked = made.metadata.uid;
        Ok(None)
    }

    async fn remove(&mut self, uid: Option<&str>) -> Result<(), AskError> {
        match uid {
            Some(uid) => {
                self.connection
                    .remove(self.namespace, request::NAME, uid)
                    .await
            }
            None => Ok(()),
        }
    }

    /// What stays behind is void after a while.
    async fn tidy_up(&mut self) {
        let asked = self.asked.take();
        if let Err(error) = self.remove(asked.as_deref()).await {
            eprintln!("the request was not removed: {}", Chain(&error));
        }
    }
}

fn now() -> UnixMillis {
    SystemClock.now()
}
