//! The Lease by which operators agree who of them works. It decides who asks the key service for the control epoch, and nothing
//! else: the epoch decides whose changes count, so that a Lease that was deleted or edited costs a pause and no harm.
//!
//! Times in a Lease are never compared with ours: a holder is gone when the Lease has not changed for its duration by our own
//! clock.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tokio::time::Instant;

use super::write::{WriteError, in_time};

/// The name of the Lease.
pub const NAME: &str = "strongroom-operator";
/// How long a holder may be silent.
pub const DURATION: Duration = Duration::from_secs(15);
/// How often it is renewed.
pub const RENEW: Duration = Duration::from_secs(5);
/// How often others look at it.
pub const LOOK: Duration = Duration::from_secs(2);
/// A holder that could not renew for so long stops: sooner than others begin.
pub const GIVE_UP: Duration = Duration::from_secs(10);

/// What to do about the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is not there.
    Create,
    /// It is ours, or nobody's now.
    Take,
    /// Somebody else holds it.
    Wait,
}

/// What was seen of the Lease: its version, and since when.
#[derive(Clone, Debug, Default)]
pub struct Seen(Option<(String, Instant)>);

impl Seen {
    /// Decides, by what the API server shows now.
    pub fn step(&mut self, lease: Option<&Lease>, me: &str, now: Instant) -> Step {
        let Some(lease) = lease else {
            self.0 = None;
            return Step::Create;
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match &self.0 {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.0 = Some((version, now));
                now
            }
        };
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref());
        match holder.unwrap_or_default() {
            "" => Step::Take,
            holder if holder == me => Step::Take,
            _ if now.duration_since(since) > patience(spec) => Step::Take,
            _ => Step::Wait,
        }
    }
}

/// What a Lease says of its own duration, within reason: anybody may have written it.
fn patience(spec: Option<&LeaseSpec>) -> Duration {
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds);
    seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(DURATION, Duration::from_secs)
        .clamp(Duration::from_secs(1), DURATION * 2)
}

/// The Lease, as held by one process.
pub struct Holding {
    api: Api<Lease>,
    me: String,
    seen: Seen,
}

impl Holding {
    /// Holds it as `me`, which no other process is called.
    pub fn new(client: Client, namespace: &str, me: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            me,
            seen: Seen::default(),
        }
    }

    /// Takes or renews it if it may be; says whether it is held now.
    ///
    /// # Errors
    ///
    /// When the API server cannot be asked.
    pub async fn try_hold(&mut self) -> Result<bool, WriteError> {
        let lease = in_time(self.api.get_opt(NAME)).await?;
        let step = self.seen.step(lease.as_ref(), &self.me, Instant::now());
        let parameters = PostParams::default();
        let written = match step {
            Step::Create => {
                let lease = self.lease(None);
                in_time(self.api.create(&parameters, &lease)).await
            }
            Step::Take => {
                let lease = self.lease(lease.as_ref());
                in_time(self.api.replace(NAME, &parameters, &lease)).await
            }
            Step::Wait => return Ok(false),
        };
        match written {
            Ok(_) => Ok(true),
            // Somebody else was quicker, or it was deleted.
            Err(WriteError::Changed) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go of it, so that the next need not wait.
    pub async fn let_go(&self) {
        let Ok(Some(mut lease)) = in_time(self.api.get_opt(NAME)).await else {
            return;
        };
        let Some(spec) = lease.spec.as_mut() else {
            return;
        };
        if spec.holder_identity.as_deref() == Some(&self.me) {
            spec.holder_identity = None;
            let _ = in_time(self.api.replace(NAME, &PostParams::default(), &lease)).await;
        }
    }

    fn lease(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let is_mine = spec.holder_identity.as_deref() == Some(&self.me);
        let transitions = spec.lease_transitions.unwrap_or(0);
        Lease {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                resource_version: before.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.me.clone()),
                lease_duration_seconds: Some(15),
                renew_time: Some(now.clone()),
                acquire_time: if is_mine {
                    spec.acquire_time
                } else {
                    Some(now)
                },
                // Only for people: whoever set it to its maximum changes nothing.
                lease_transitions: Some(if is_mine {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..LeaseSpec::default()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn free_lease_and_our_own_are_taken() {
        let mut seen = Seen::default();
        let now = Instant::now();
        assert_eq!(seen.step(None, "me", now), Step::Create);
        assert_eq!(seen.step(Some(&lease("", "1")), "me", now), Step::Take);
        assert_eq!(seen.step(Some(&lease("me", "2")), "me", now), Step::Take);
        assert_eq!(seen.step(Some(&lease("other", "3")), "me", now), Step::Wait);
    }

    #[test]
    fn holder_that_renews_keeps_it_and_one_that_is_silent_loses_it() {
        let mut seen = Seen::default();
        let start = Instant::now();
        for round in 0..10 {
            let now = start + DURATION * round;
            let renewed = lease("other", &round.to_string());
            assert_eq!(seen.step(Some(&renewed), "me", now), Step::Wait);
        }
        let silent = lease("other", "9");
        let last = start + DURATION * 9;
        assert_eq!(seen.step(Some(&silent), "me", last + DURATION), Step::Wait);
        let later = last + DURATION + Duration::from_millis(1);
        assert_eq!(seen.step(Some(&silent), "me", later), Step::Take);
    }

    #[test]
    fn lease_cannot_ask_for_endless_patience() {
        let mut endless = lease("other", "1");
        let set = |lease: &mut Lease, seconds| {
            lease.spec.as_mut().unwrap().lease_duration_seconds = Some(seconds);
        };
        set(&mut endless, i32::MAX);
        assert_eq!(patience(endless.spec.as_ref()), DURATION * 2);
        set(&mut endless, -5);
        assert_eq!(patience(endless.spec.as_ref()), DURATION);
    }
}
