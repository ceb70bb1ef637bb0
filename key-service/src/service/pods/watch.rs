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

use super::{Driver, PodError, VolumeRequest, Whose, streams::Place};
use crate::{
    registry::SecretName,
    service::{CallError, Service},
};

/// Most volumes of one stream. A kubelet runs 110 pods unless it is told otherwise.
const VOLUMES_MAX: usize = 1000;

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
    _place: Place,
}

struct Watched {
    pod: Arc<PodIdentity>,
    expires: UnixMillis,
    secrets: BTreeSet<Name>,
    /// The etag that the driver has or was told.
    told: String,
}

impl Watched {
    fn reads(&self, changed: &SecretName) -> bool {
        changed.tenant.as_ref() == Some(&self.pod.account.tenant)
            && self.secrets.contains(&changed.name)
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
        let place = self.workloads.streams.admit(node);
        let place = place.ok_or(CallError::Pod(PodError::TooManyStreams))?;
        self.workloads.metrics.streams.inc();
        Ok(Session {
            service: self.clone(),
            driver,
            volumes: HashMap::new(),
            _place: place,
        })
    }
}

impl Session {
    /// Hears the names of secrets that change from now on.
    pub fn changes(&self) -> broadcast::Receiver<SecretName> {
        self.service.registry.secret_changes()
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
        let watched = match self.admit(request, have).await {
            Ok(watched) => watched,
            Err(error) => {
                let reason = error.code();
                return Some(Event::Ended { volume, reason });
            }
        };
        self.volumes.insert(volume.clone(), watched);
        self.look(&volume)
    }

    async fn admit(&self, request: VolumeRequest, have: String) -> Result<Watched, CallError> {
        if self.volumes.len() >= VOLUMES_MAX {
            return Err(CallError::Pod(PodError::TooManyVolumes));
        }
        let pod = self.service.pod(&self.driver, &request).await?;
        self.service
            .granted(&self.driver, &pod.identity, &request.secrets)
            .await?;
        Ok(Watched {
            pod: pod.identity,
            expires: pod.expires,
            secrets: request.secrets,
            told: have,
        })
    }

    /// Watches a volume no more.
    pub fn remove(&mut self, volume: &str) {
        self.volumes.remove(volume);
    }

    /// What there is to say once a secret changed; none stands for any of them.
    pub fn changed(&mut self, secret: Option<&SecretName>) -> Vec<Event> {
        let affected: Vec<String> = self
            .volumes
            .iter()
            .filter(|(_, watched)| secret.is_none_or(|secret| watched.reads(secret)))
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
            return Err(CallError::Pod(PodError::Token {
                whose: Whose::Driver,
                error: TokenError::Expired,
            }));
        }
        let ended = self
            .volumes
            .extract_if(|_, watched| now >= watched.expires)
            .map(|(volume, _)| Event::Ended {
                volume,
                reason: TokenError::Expired.word(),
            });
        Ok(ended.collect())
    }

    /// Decides anew what a volume should hold.
    fn look(&mut self, volume: &str) -> Option<Event> {
        let watched = self.volumes.get_mut(volume)?;
        let reason = if self.service.clock.now() >= watched.expires {
            TokenError::Expired.word()
        } else {
            match self.service.grant(&watched.pod, &watched.secrets) {
                Ok(grants) => {
                    let etag = self.service.etag(&grants);
                    if etag == watched.told {
                        return None;
                    }
                    watched.told.clone_from(&etag);
                    let volume = volume.to_owned();
                    return Some(Event::Etag { volume, etag });
                }
                Err(refused) => refused.error.code(),
            }
        };
        self.volumes.remove(volume);
        let volume = volume.to_owned();
        Some(Event::Ended { volume, reason })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.service.workloads.metrics.streams.dec();
    }
}
