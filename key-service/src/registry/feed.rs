//! Who waits for changes hears which object of which namespace it was, nothing else.

use strongroom_core::{Name, Tenant};
use tokio::sync::broadcast;

use super::{Registry, path::Place, state::State};

/// Changes that a slow listener may be behind before he has to look at everything again.
pub(super) const CHANGES_KEPT: usize = 1024;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ObjectKind {
    /// A ring.
    Ring,
    /// A key.
    Key,
    /// A secret.
    Secret,
    /// A bundle.
    Bundle,
}

/// An object of a namespace that changed, appeared or went.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Changed {
    /// What it is.
    pub kind: ObjectKind,
    /// Whose it is.
    pub tenant: Tenant,
    /// Its name.
    pub name: Name,
}

impl Registry {
    /// Hears of changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Changed> {
        self.changes.subscribe()
    }

    /// Tells who waits. Nobody may be waiting.
    pub(super) fn announce(&self, changed: Vec<Changed>) {
        for object in changed {
            let _ = self.changes.send(object);
        }
    }
}

/// The object that a record is about; none for records of the installation itself.
pub(super) fn object(state: &State, place: &Place<'_>) -> Option<Changed> {
    let of_ring = |ring| state.rings.get(ring)?.tenant().cloned();
    let (kind, tenant, name) = match place {
        Place::Ring(ring) => {
            let name = state.rings.get(ring)?.name.clone();
            (ObjectKind::Ring, of_ring(ring), name)
        }
        Place::Head(ring, key) => {
            let name = state.heads.get(&(*ring, *key))?.head.name.clone();
            (ObjectKind::Key, of_ring(ring), name)
        }
        Place::Secret(ring, secret) => {
            let name = state.secrets.head(*ring, *secret)?.head.name.clone();
            (ObjectKind::Secret, of_ring(ring), name)
        }
        Place::Bundle(ring, name) => (ObjectKind::Bundle, of_ring(ring), name.clone()),
        _ => return None,
    };
    Some(Changed {
        kind,
        tenant: tenant?,
        name,
    })
}
