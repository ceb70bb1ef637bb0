//! Whether the service may work at all: a witness that names another instance says that this one is the wrong one.

use std::sync::{Arc, PoisonError, RwLock};

/// Refuses calls and changes while there is a reason. A clone is another handle to the same fence.
#[derive(Clone, Debug, Default)]
pub struct Fence(Arc<RwLock<Option<String>>>);

impl Fence {
    /// Refuses from now on; the sentence says why.
    pub fn close(&self, reason: &str) {
        self.set(Some(reason.to_owned()));
    }

    /// Refuses no more.
    pub fn open(&self) {
        self.set(None);
    }

    /// Why calls are refused, if they are.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    // Each change replaces a whole value.
    fn set(&self, reason: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}
