//! Hearing which objects of a cluster changed, and which have other readers. The stream tells names alone, and nothing of the
//! time before it.

use std::collections::BTreeSet;

use strongroom_auth::TokenError;
use strongroom_core::{ContextDigest, Name, Resource, UnixMillis, action};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{Operator, OperatorError};
use crate::{
    registry::{Changed, ObjectKind},
    service::{CallError, Detail, PodError, SecretKey, Service, Whose},
};

/// What the operator of one cluster hears.
pub struct ObjectWatch {
    cluster: Name,
    /// Until when its token counts.
    pub expires: UnixMillis,
    changes: Receiver<Changed>,
    consumers: Receiver<SecretKey>,
    /// Secrets with other readers than before: many pods start at once, so that they are told together.
    waiting: BTreeSet<SecretKey>,
}

/// Why a stream ends that nobody closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// The reader has to look at everything again.
    FellBehind,
    /// The token has ended.
    Expired,
    /// The service ends.
    Closed,
}

impl WatchEnd {
    /// What is answered.
    #[must_use]
    pub fn error(self) -> CallError {
        match self {
            Self::FellBehind | Self::Closed => OperatorError::FellBehind.into(),
            Self::Expired => CallError::from(PodError::Token {
                whose: Whose::Caller,
                error: TokenError::Expired,
            }),
        }
    }
}

impl Service {
    /// Tells of objects of the operator's cluster from now on.
    ///
    /// # Errors
    /// See `CallError`.
    pub async fn watch_objects(&self, operator: &Operator) -> Result<ObjectWatch, CallError> {
        let context = &operator.context;
        let resource = Resource::Instance;
        let permit = self
            .admit::<action::WatchObjects>(
                context,
                &resource,
                Some(resource.clone()),
                ContextDigest::default(),
            )
            .await?;
        let watch = ObjectWatch {
            cluster: operator.identity.account.tenant.cluster.clone(),
            expires: operator.expires,
            changes: self.registry.changes(),
            consumers: self.workloads.consumers.changes(),
            waiting: BTreeSet::new(),
        };
        self.conclude(context, &permit, Ok((watch, Detail::new())))
            .await
    }
}

impl ObjectWatch {
    /// The next object of the cluster that is another now. It can be dropped and asked again without a loss.
    ///
    /// # Errors
    /// See `WatchEnd`.
    pub async fn next(&mut self) -> Result<Changed, WatchEnd> {
        loop {
            tokio::select! {
                changed = self.changes.recv() => {
                    let changed = changed.map_err(end)?;
                    if changed.tenant.cluster == self.cluster {
                        return Ok(changed);
                    }
                }
                secret = self.consumers.recv() => {
                    let secret = secret.map_err(end)?;
                    if secret.tenant.cluster == self.cluster {
                        self.waiting.insert(secret);
                    }
                }
            }
        }
    }

    /// Secrets with other readers, since this was asked last.
    pub fn take_waiting(&mut self) -> impl Iterator<Item = Changed> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|secret| Changed {
            kind: ObjectKind::Secret,
            tenant: secret.tenant,
            name: secret.name,
        })
    }
}

fn end(error: RecvError) -> WatchEnd {
    match error {
        RecvError::Lagged(_) => WatchEnd::FellBehind,
        RecvError::Closed => WatchEnd::Closed,
    }
}
