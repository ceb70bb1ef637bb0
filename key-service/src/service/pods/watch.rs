//! What one driver watches: which volumes there are, and what each should hold by now.
//!
//! Every event is decided on anew as the pod. A subscription ends with its token, or when the pod may not read any more.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use strongroom_auth::TokenError;
use strongroom_core::{Name, PodIdentity, UnixMillis};
use tokio::sync::broadcast;

use super::{
    Driver, PodError, VolumeRequest, Wanted, Whose,
    consumers::{Followed, Held},
    streams::Place,
};
use crate::{
    registry::{Changed, ObjectKind},
    service::{CallError, Service},
};

/// Most volumes of one stream. A kubelet runs 110 pods unless it is told otherwise.
pub(super) const VOLUMES_MAX: usize = 1000;

/// A volume to be watched.
pub struct Subscription {
    /// The driver's name for it.
    pub volume: String,
    /// The pod, and what the volume asks for.
    pub request: VolumeRequest,
    /// What the volume holds.
    pub have: String,
}

/// Something that the driver has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What a volume should hold now.
    Etag {
        /// The driver's name for it.
        volume: String,
        /// Of what it should hold.
        etag: String,
    },
    /// The volume is not watched any more.
    Ended {
        /// The driver's name for it.
        volume: String,
        /// One word.
        reason: &'static str,
    },
}

/// The stream of one driver.
pub struct Session {
    service: Arc<Service>,
    driver: Driver,
    volumes: HashMap<String, Watched>,
    followed: Followed,
    _place: Place,
}

struct Watched {
    pod: Arc<PodIdentity>,
    expires: UnixMillis,
    wanted: Wanted,
    /// Every secret that what is wanted depends on.
    names: BTreeSet<Name>,
    /// The etag that the driver has or was told.
    told: String,
}

impl Watched {
    /// Whether a change can be one of what the volume shall hold.
    fn depends_on(&self, changed: &Changed) -> bool {
        let Changed { kind, tenant, name } = changed;
        *tenant == self.pod.account.tenant
            && match kind {
                ObjectKind::Secret => self.names.contains(name),
                ObjectKind::Bundle => self.wanted == Wanted::Bundle(name.clone()),
                // Who has a role on a ring has it on every secret in it.
                ObjectKind::Ring => true,
                ObjectKind::Key => false,
            }
    }
}

impl Service {
    /// Opens the stream of a driver.
    ///
    /// # Errors
    /// The node has too many.
    pub fn watch(self: &Arc<Self>, driver: Driver) -> Result<Session, CallError> {
        let cluster = driver.identity.account.tenant.cluster.clone();
        let node = (cluster, driver.identity.node.clone());
        let followed = self.workloads.consumers.open(node.clone());
        let place = self.workloads.streams.admit(node);
        let place = place.ok_or(PodError::TooManyStreams)?;
        self.workloads.metrics.streams.inc();
        Ok(Session {
            service: self.clone(),
            driver,
            volumes: HashMap::new(),
            followed,
            _place: place,
        })
    }
}

impl Session {
    /// Hears of objects that change from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.service.registry.changes()
    }

    /// Watches a volume, in place of what was watched under its name. The driver hears at once when the volume does not
    /// hold what it should.
    pub async fn add(&mut self, subscription: Subscription) -> Option<Event> {
        let Subscription {
            volume,
            request,
            have,
        } = subscription;
        self.volumes.remove(&volume);
        let (watched, held) = match self.admit(request, have).await {
            Ok(admitted) => admitted,
            Err(error) => {
                if error.is_expiry() {
                    self.followed.lose([volume.as_str()]);
                    self.followed.untold(&volume);
                } else {
                    self.followed.forget(&volume);
                }
                return Some(ended(&volume, error.code()));
            }
        };
        let tenant = &watched.pod.account.tenant;
        self.followed.follow(&volume, tenant, held);
        self.volumes.insert(volume.clone(), watched);
        self.look(&volume)
    }

    async fn admit(
        &self,
        request: VolumeRequest,
        have: String,
    ) -> Result<(Watched, Held), CallError> {
        if self.volumes.len() >= VOLUMES_MAX {
            return Err(PodError::TooManyVolumes.into());
        }
        let pod = self.service.pod(&self.driver, &request).await?;
        let planned = self
            .service
            .planned(&self.driver, &pod.identity, &request.wanted)
            .await;
        let (names, held) = match planned {
            Ok(plan) => {
                let holds_it = self.service.etag(&plan) == have;
                let held = plan.held(holds_it);
                (plan.names, held)
            }
            // Whoever has nothing may wait for what is not there yet.
            Err(error) if error.is_absence() && have.is_empty() => {
                let names = self.service.names(&pod.identity, &request.wanted);
                (names.clone(), unknown(&names))
            }
            Err(error) => return Err(error),
        };
        let watched = Watched {
            pod: pod.identity,
            expires: pod.expires,
            wanted: request.wanted,
            names,
            told: have,
        };
        Ok((watched, held))
    }

    /// There is a volume that the driver cannot add before it has a token for it.
    pub fn untold(&self, volume: &str) {
        self.followed.untold(volume);
    }

    /// Watches a volume no more.
    pub fn remove(&mut self, volume: &str) {
        self.volumes.remove(volume);
        self.followed.forget(volume);
    }

    /// What there is to say once an object changed; none stands for any of them.
    pub fn changed(&mut self, object: Option<&Changed>) -> Vec<Event> {
        let affected: Vec<String> = self
            .volumes
            .iter()
            .filter(|(_, watched)| object.is_none_or(|object| watched.depends_on(object)))
            .map(|(volume, _)| volume.clone())
            .collect();
        let events = affected.iter().filter_map(|volume| self.look(volume));
        events.collect()
    }

    /// What there is to say because time has passed.
    ///
    /// # Errors
    /// The driver's own token has ended, and the stream with it.
    pub fn elapsed(&mut self) -> Result<Vec<Event>, CallError> {
        let now = self.service.clock.now();
        if now >= self.driver.expires {
            return Err(CallError::from(PodError::Token {
                whose: Whose::Caller,
                error: TokenError::Expired,
            }));
        }
        let expired = self.volumes.extract_if(|_, watched| now >= watched.expires);
        let expired: Vec<_> = expired.map(|(volume, _)| volume).collect();
        if expired.is_empty() {
            return Ok(Vec::new());
        }
        self.followed.lose(expired.iter().map(String::as_str));
        let ended = |volume: &String| ended(volume, TokenError::Expired.word());
        Ok(expired.iter().map(ended).collect())
    }

    /// Decides anew what a volume should hold.
    fn look(&mut self, volume: &str) -> Option<Event> {
        let watched = self.volumes.get_mut(volume)?;
        if self.service.clock.now() >= watched.expires {
            self.volumes.remove(volume);
            self.followed.lose([volume]);
            return Some(ended(volume, TokenError::Expired.word()));
        }
        match self.service.plan(&watched.pod, &watched.wanted) {
            Ok(plan) => {
                let etag = self.service.etag(&plan);
                if watched.names != plan.names {
                    let tenant = &watched.pod.account.tenant;
                    let held = unknown(&plan.names);
                    self.followed.follow(volume, tenant, held);
                    watched.names = plan.names;
                }
                if etag == watched.told {
                    return None;
                }
                watched.told.clone_from(&etag);
                let volume = volume.to_owned();
                Some(Event::Etag { volume, etag })
            }
            Err(refused) if refused.error.is_absence() && watched.told.is_empty() => {
                watched.names = self.service.names(&watched.pod, &watched.wanted);
                None
            }
            Err(refused) => {
                self.remove(volume);
                Some(ended(volume, refused.error.code()))
            }
        }
    }
}

fn ended(volume: &str, reason: &'static str) -> Event {
    Event::Ended {
        volume: volume.to_owned(),
        reason,
    }
}

/// What a volume holds is what it was last known to hold.
fn unknown(names: &BTreeSet<Name>) -> Held {
    names.iter().map(|name| (name.clone(), None)).collect()
}

impl Drop for Session {
    fn drop(&mut self) {
        self.service.workloads.metrics.streams.dec();
    }
}
