//! Which key service is believed: one instance, and never an earlier epoch of its store.

use std::sync::{Mutex, PoisonError};

use strongroom_core::InstanceId;

/// Why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// It names no instance.
    #[error("it does not say which instance it is")]
    Nameless,
    /// It is another instance.
    #[error(
        "it is instance {actual}, not {expected}; restart this program if it was replaced on purpose"
    )]
    Instance {
        /// The one that is believed.
        expected: InstanceId,
        /// The one that answered.
        actual: InstanceId,
    },
    /// Its store was put back.
    #[error("its store is of epoch {actual}, and was of {seen} before")]
    Epoch {
        /// The highest that was seen.
        seen: u32,
        /// The one that answered.
        actual: u32,
    },
}

/// What was seen so far.
#[derive(Debug)]
pub struct Pin(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    instance: Option<InstanceId>,
    epoch: u32,
}

impl Pin {
    /// Believes this instance only, or the first that answers.
    pub fn new(instance: Option<InstanceId>) -> Self {
        Self(Mutex::new(Seen { instance, epoch: 0 }))
    }

    /// Compares an answer with what was seen, and remembers it.
    ///
    /// # Errors
    ///
    /// See [`NotBelieved`].
    pub fn check(&self, instance: &str, epoch: u32) -> Result<(), NotBelieved> {
        let actual = instance.parse().map_err(|_| NotBelieved::Nameless)?;
        // Each step replaces whole values.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = *seen.instance.get_or_insert(actual);
        if expected != actual {
            return Err(NotBelieved::Instance { expected, actual });
        }
        if epoch < seen.epoch {
            let seen = seen.epoch;
            return Err(NotBelieved::Epoch {
                seen,
                actual: epoch,
            });
        }
        seen.epoch = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "f123456789abcdef0123456789abcdef";

    #[test]
    fn first_instance_is_believed_and_no_other() {
        let pin = Pin::new(None);
        assert_eq!(pin.check("", 1), Err(NotBelieved::Nameless));
        assert_eq!(pin.check(ONE, 1), Ok(()));
        assert!(matches!(
            pin.check(OTHER, 1),
            Err(NotBelieved::Instance { .. })
        ));
        assert_eq!(pin.check(ONE, 1), Ok(()));
    }

    #[test]
    fn configured_instance_is_believed_and_no_other() {
        let pin = Pin::new(Some(ONE.parse().unwrap()));
        assert!(matches!(
            pin.check(OTHER, 1),
            Err(NotBelieved::Instance { .. })
        ));
        assert_eq!(pin.check(ONE, 1), Ok(()));
    }

    #[test]
    fn earlier_epoch_is_not_believed() {
        let pin = Pin::new(None);
        assert_eq!(pin.check(ONE, 2), Ok(()));
        assert_eq!(
            pin.check(ONE, 1),
            Err(NotBelieved::Epoch { seen: 2, actual: 1 })
        );
        assert_eq!(pin.check(ONE, 3), Ok(()));
    }
}
