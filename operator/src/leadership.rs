//! Who works: the Lease says who asks, the key service's control epoch says whose changes count. A process that lost the Lease,
//! or whose epoch is stale, stops by itself; one that does not notice is refused.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use strongroom_api::strongroom::v1::Fence;
use tokio::{sync::watch, time::Instant};

use crate::{
    cluster::{
        Caches,
        lease::{self, Holding},
    },
    counters::Counters,
    installation::Installation,
    object::Place,
    progress::Pulse,
    service::{Failure, Service},
};

/// One period in which this process works. A clone is the same one.
#[derive(Clone)]
pub struct Term(Arc<TermState>);

struct TermState {
    /// Absent while the key service has not issued one; then nothing can be asked of it, but objects can end.
    fence: Result<Fence, Failure>,
    over: AtomicBool,
    /// The last moment at which nobody else can hold the Lease.
    until: watch::Receiver<Instant>,
}

impl Term {
    /// What each change carries.
    ///
    /// # Errors
    ///
    /// When the key service has issued no epoch.
    pub fn fence(&self) -> Result<Fence, Failure> {
        self.0.fence.clone()
    }

    /// Says that the key service refused the epoch.
    pub fn is_stale(&self) {
        self.0.over.store(true, Ordering::Relaxed);
    }

    /// Whether nobody else works yet, as far as this process can know.
    pub fn is_current(&self) -> bool {
        !self.0.over.load(Ordering::Relaxed) && Instant::now() < *self.0.until.borrow()
    }
}

/// Wins and loses terms.
pub struct Leadership {
    /// The Lease.
    pub holding: Holding,
    /// The key service.
    pub service: Arc<Service>,
    /// The cluster, for its uid.
    pub caches: Arc<Caches>,
    /// How the installation is.
    pub installation: Arc<Installation>,
    /// What is counted.
    pub counters: Counters,
    /// Shows that the API server answers.
    pub pulse: Pulse,
    /// 32 hexadecimal digits of this process alone.
    pub process: String,
}

/// How often the key service is asked for an epoch that it did not issue.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long others have the way free after this process found its epoch stale.
const STAND_BACK: Duration = Duration::from_secs(4);

impl Leadership {
    /// Keeps the terms up to date until the shutdown resolves.
    pub async fn run(
        mut self,
        terms: watch::Sender<Option<Term>>,
        shutdown: impl Future<Output = ()>,
    ) {
        tokio::select! {
            () = self.contend(&terms) => {}
            () = shutdown => {}
        }
        self.lose(&terms);
        self.holding.let_go().await;
    }

    async fn contend(&mut self, terms: &watch::Sender<Option<Term>>) {
        let (until, held_until) = watch::channel(Instant::now());
        let mut asked = Instant::now();
        let mut renewed: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let is_due = renewed.is_none_or(|renewed| now >= renewed + lease::RENEW);
            if is_due {
                match self.holding.try_hold().await {
                    Ok(true) => {
                        self.pulse.beat();
                        // Counted from before the question.
                        until.send_replace(now + lease::GIVE_UP);
                        renewed = Some(now);
                    }
                    Ok(false) => {
                        self.pulse.beat();
                        renewed = None;
                    }
                    Err(error) => {
                        self.pulse.failed(&error);
                        renewed = renewed.filter(|renewed| now < *renewed + lease::GIVE_UP);
                    }
                }
            }
            if renewed.is_none() {
                self.lose(terms);
                tokio::time::sleep(lease::LOOK).await;
                continue;
            }
            let term = terms.borrow().clone();
            match term {
                Some(term) if !term.is_current() => {
                    tracing::info!("another operator has taken over");
                    self.lose(terms);
                    self.holding.let_go().await;
                    renewed = None;
                    tokio::time::sleep(STAND_BACK).await;
                }
                Some(term) if term.fence().is_ok() => {}
                _ if Instant::now() < asked => {}
                term => {
                    asked = Instant::now() + ASK_AGAIN;
                    let fence = self.acquire().await;
                    // The same failure again wakes nobody.
                    if fence.is_ok() || term.is_none() {
                        self.begin(terms, fence, held_until.clone());
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn begin(
        &self,
        terms: &watch::Sender<Option<Term>>,
        fence: Result<Fence, Failure>,
        until: watch::Receiver<Instant>,
    ) {
        match &fence {
            Ok(fence) => {
                tracing::info!(control_epoch = fence.control_epoch, "working");
                let epoch = i64::try_from(fence.control_epoch).unwrap_or(i64::MAX);
                self.counters.control_epoch.set(epoch);
            }
            Err(failure) => tracing::warn!(error = %failure, "working without a control epoch"),
        }
        self.counters.leader.set(1);
        let before = terms.send_replace(Some(Term(Arc::new(TermState {
            fence,
            over: AtomicBool::new(false),
            until,
        }))));
        if let Some(before) = before {
            before.is_stale();
        }
    }

    fn lose(&self, terms: &watch::Sender<Option<Term>>) {
        self.counters.leader.set(0);
        // Whoever works in it still must not go on when the Lease comes back.
        if let Some(term) = terms.send_replace(None) {
            term.is_stale();
            tracing::info!("not working any more");
        }
    }

    async fn acquire(&self) -> Result<Fence, Failure> {
        self.installation.look().await?;
        let system = Place::new("", "kube-system");
        let Some(cluster_uid) = self.caches.namespaces.uid(&system) else {
            return Err(Failure::Away(
                "namespace kube-system was not seen yet".to_owned(),
            ));
        };
        let process = self.process.clone();
        let control_epoch = self
            .service
            .acquire_control_epoch(&process, &cluster_uid)
            .await?;
        Ok(Fence {
            control_epoch,
            process,
        })
    }
}
