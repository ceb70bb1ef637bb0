//! The ways to the key service: the socket of this machine first, then the endpoints in their order.
//!
//! A way that failed rests, longer each time; probes try it again, so that seeds never wait for one that is away.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use strongroom_api::strongroom::kms::v1::{
    etcd_keys_client::EtcdKeysClient, node_certificates_client::NodeCertificatesClient,
};
use strongroom_runtime::{socket, tls::RemoteAddress};
use tokio::{sync::Notify, time::Instant};
use tonic::transport::Channel;

use crate::config::KeyService;

/// Room for a list of key ids at their largest; a key has a handful.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
/// The first rest of a way that failed.
const REST_MIN: Duration = Duration::from_millis(500);
/// The longest: after it, at most so much passes before the first way is preferred again.
const REST_MAX: Duration = Duration::from_secs(30);

/// All ways, in the order in which they are preferred.
#[derive(Clone, Debug)]
pub struct Paths(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    paths: Vec<Path>,
    refused: Notify,
    /// Counts the certificates that were shown.
    shown: AtomicU64,
}

#[derive(Debug)]
struct Path {
    name: String,
    /// None for the socket.
    address: Option<RemoteAddress>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// None while the node has no certificate to show.
    channel: Option<Channel>,
    rest: Option<Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
}

/// What an operator sees of one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathView {
    /// `socket`, or the address.
    pub name: String,
    /// Whether the last call over it was answered, or none was tried yet.
    pub up: bool,
}

impl Paths {
    /// Prepares the ways that are configured. Must be called within a runtime.
    pub fn new(config: &KeyService) -> Self {
        let local = config.local().map(|(path, uid)| Path {
            name: "socket".to_owned(),
            address: None,
            state: Mutex::new(State {
                channel: Some(socket::channel(path, uid)),
                rest: None,
            }),
        });
        let remote = config.endpoints.iter().map(|address| Path {
            name: address.to_string(),
            address: Some(address.clone()),
            state: Mutex::new(State {
                channel: None,
                rest: None,
            }),
        });
        Self(Arc::new(Inner {
            paths: local.into_iter().chain(remote).collect(),
            refused: Notify::new(),
            shown: AtomicU64::new(0),
        }))
    }

    /// Connects to every endpoint anew, with another certificate.
    pub fn show(&self, channel: impl Fn(&RemoteAddress) -> Channel) {
        self.0.shown.fetch_add(1, Ordering::SeqCst);
        for path in &self.0.paths {
            if let Some(address) = &path.address {
                let mut state = path.lock();
                state.channel = Some(channel(address));
                state.rest = None;
            }
        }
    }

    /// Resolves when an endpoint has said that there is a newer certificate than ours.
    pub async fn refused(&self) {
        self.0.refused.notified().await;
    }

    /// What each way is like, in order.
    pub fn views(&self) -> Vec<PathView> {
        let view = |path: &Path| {
            let state = path.lock();
            PathView {
                name: path.name.clone(),
                up: state.channel.is_some() && state.rest.is_none(),
            }
        };
        self.0.paths.iter().map(view).collect()
    }

    /// The ways to try now, best first. A probe tries those that have rested; a seed tries them only when nothing else is
    /// left.
    pub(super) fn candidates(&self, probing: bool) -> Vec<Candidate> {
        let now = Instant::now();
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for (index, path) in self.0.paths.iter().enumerate() {
            let state = path.lock();
            let Some(channel) = state.channel.clone() else {
                continue;
            };
            let candidate = Candidate {
                index,
                channel,
                shown: self.shown(),
            };
            match state.rest {
                Some(rest) if !probing || now < rest.until => last.push(candidate),
                Some(_) | None => first.push(candidate),
            }
        }
        first.append(&mut last);
        first
    }

    /// Begins a call over one way.
    pub(super) fn begin(&self, candidate: &Candidate) -> Attempt {
        Attempt {
            paths: self.clone(),
            index: candidate.index,
            shown: candidate.shown,
            ended: false,
        }
    }

    /// The endpoints, for calls that only they answer.
    pub fn endpoints(&self) -> Vec<NodeCertificatesClient<Channel>> {
        let remote = self.0.paths.iter().filter(|path| path.address.is_some());
        remote
            .filter_map(|path| path.lock().channel.clone())
            .map(NodeCertificatesClient::new)
            .collect()
    }

    /// Which certificate is shown; another number is another one.
    pub(super) fn shown(&self) -> u64 {
        self.0.shown.load(Ordering::SeqCst)
    }

    pub(super) fn are_several(&self) -> bool {
        self.0.paths.len() > 1
    }
}

impl Path {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each step replaces whole values.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way that could be tried.
pub(super) struct Candidate {
    index: usize,
    channel: Channel,
    shown: u64,
}

impl Candidate {
    pub(super) fn client(&self) -> EtcdKeysClient<Channel> {
        EtcdKeysClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }
}

/// One call over one way. It counts as failed unless it is told otherwise, also when its caller gave up.
pub(super) struct Attempt {
    paths: Paths,
    index: usize,
    shown: u64,
    ended: bool,
}

impl Attempt {
    pub(super) fn name(&self) -> &str {
        &self.path().name
    }

    /// The way works, whatever the answer was.
    pub(super) fn answered(mut self) {
        self.ended = true;
        let path = self.path();
        let before = path.lock().rest.take();
        if before.is_some() {
            tracing::info!(path = path.name, "the key service answers again");
        }
    }

    /// The key service says that there is a newer certificate than the one that was shown. If that is not ours, somebody
    /// else has it.
    pub(super) fn superseded(self) {
        if self.shown == self.paths.shown() {
            self.paths.0.refused.notify_one();
        }
    }

    fn path(&self) -> &Path {
        &self.paths.0.paths[self.index]
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // A call that was under way while the certificate was renewed says nothing about the new connection.
        if self.ended || self.shown != self.paths.shown() {
            return;
        }
        let path = self.path();
        let mut state = path.lock();
        let length = state
            .rest
            .map_or(REST_MIN, |rest| (rest.length * 2).min(REST_MAX));
        if state.rest.is_none() && self.paths.are_several() {
            tracing::warn!(path = path.name, "the key service does not answer this way");
        }
        state.rest = Some(Rest {
            until: Instant::now() + length,
            length,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths() -> Paths {
        let paths = Paths::new(&KeyService {
            socket: Some("/run/x/key-service.sock".into()),
            uid: Some(2001),
            endpoints: vec![
                "192.0.2.1:1".parse().unwrap(),
                "192.0.2.2:1".parse().unwrap(),
            ],
            identity_dir: None,
            root_sha256: None,
        });
        paths.show(|_| socket::channel("/run/x/other.sock".as_ref(), 2001));
        paths
    }

    fn order(paths: &Paths, probing: bool) -> Vec<String> {
        let candidates = paths.candidates(probing);
        let name = |candidate: Candidate| paths.0.paths[candidate.index].name.clone();
        candidates.into_iter().map(name).collect()
    }

    fn fail_first(paths: &Paths) {
        drop(paths.begin(&paths.candidates(true)[0]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_socket_is_first_and_endpoints_keep_their_order() {
        let paths = paths();
        for probing in [true, false] {
            assert_eq!(
                order(&paths, probing),
                ["socket", "192.0.2.1:1", "192.0.2.2:1"]
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_failed_is_last_until_a_probe_after_its_rest() {
        let paths = paths();
        fail_first(&paths);
        let after = ["192.0.2.1:1", "192.0.2.2:1", "socket"];
        assert_eq!(order(&paths, true), after);
        tokio::time::advance(REST_MIN).await;
        assert_eq!(order(&paths, false), after, "a seed does not try it");
        assert_eq!(order(&paths, true)[0], "socket");
        paths.begin(&paths.candidates(true)[0]).answered();
        assert_eq!(order(&paths, false)[0], "socket");
    }

    #[tokio::test(start_paused = true)]
    async fn rests_grow_and_have_a_bound() {
        let paths = paths();
        for _ in 0..12 {
            fail_first(&paths);
            assert_ne!(order(&paths, true)[0], "socket");
            tokio::time::advance(REST_MAX).await;
            assert_eq!(order(&paths, true)[0], "socket");
        }
        fail_first(&paths);
        tokio::time::advance(REST_MAX - Duration::from_millis(1)).await;
        assert_ne!(order(&paths, true)[0], "socket");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(order(&paths, true)[0], "socket");
    }

    #[tokio::test]
    async fn endpoints_are_no_way_without_a_certificate() {
        let config = KeyService {
            socket: None,
            uid: None,
            endpoints: vec!["192.0.2.1:1".parse().unwrap()],
            identity_dir: None,
            root_sha256: None,
        };
        let paths = Paths::new(&config);
        assert!(paths.candidates(true).is_empty());
        assert!(!paths.views()[0].up);
    }
}
