//! The highest position that the plugin ever saw, kept across restarts. A key service that offers less was put back, or
//! is another one; either way kube-apiserver must not hear of it.

mod file;

pub use file::{StateError, StateFile};

use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;

/// Why an answer of the key service is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another instance answers on the socket.
    #[error("instance {offered} answers where instance {pinned} is pinned")]
    ForeignInstance {
        /// The instance of the first contact.
        pinned: String,
        /// The instance that answered.
        offered: String,
    },
    /// The store is an older one.
    #[error("the store's epoch went back from {highest} to {offered}")]
    EpochWentBack {
        /// The highest epoch seen.
        highest: u32,
        /// The epoch offered.
        offered: u32,
    },
    /// The store is older than it was.
    #[error("the store's position went back from {highest} to {offered}")]
    SeqWentBack {
        /// The highest position seen.
        highest: u64,
        /// The position offered.
        offered: u64,
    },
    /// An older activation is offered as the newest.
    #[error("the activation went back from {highest} to {offered}")]
    ActivationWentBack {
        /// The highest activation seen.
        highest: u32,
        /// The activation offered.
        offered: u32,
    },
    /// The same activation has another key id.
    #[error("activation {number} changed its key id")]
    KeyIdChanged {
        /// The activation.
        number: u32,
    },
    /// A key id that was given up is offered again.
    #[error("activation {number} uses a key id again that was given up")]
    KeyIdReturned {
        /// The activation.
        number: u32,
    },
}

impl Refusal {
    /// Every category, for metrics.
    pub const CATEGORIES: &'static [&'static str] = &[
        "foreign_instance",
        "epoch_went_back",
        "seq_went_back",
        "activation_went_back",
        "key_id_changed",
        "key_id_returned",
    ];

    /// Returns a stable name for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::ForeignInstance { .. } => "foreign_instance",
            Self::EpochWentBack { .. } => "epoch_went_back",
            Self::SeqWentBack { .. } => "seq_went_back",
            Self::ActivationWentBack { .. } => "activation_went_back",
            Self::KeyIdChanged { .. } => "key_id_changed",
            Self::KeyIdReturned { .. } => "key_id_returned",
        }
    }

    /// Tells whether a replica that lags behind can explain the answer, so that the next one may be good.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::SeqWentBack { .. })
    }
}

/// The highest position seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HighWater {
    /// The instance of the first contact.
    pub instance_id: String,
    /// Highest epoch of its store.
    pub store_epoch: u32,
    /// Highest position within that epoch.
    pub seq: u64,
    /// Newest activation within that epoch.
    pub activation: u32,
    /// Its key id.
    pub key_id: String,
    /// Key ids that were primary before and never may be again. A rotation adds one, so the list stays short.
    pub retired: Vec<String>,
}

impl HighWater {
    /// Pins what the first contact says.
    pub fn first(snapshot: &Snapshot) -> Self {
        Self {
            instance_id: snapshot.instance.to_string(),
            store_epoch: snapshot.epoch.get(),
            seq: snapshot.seq,
            activation: snapshot.primary.number,
            key_id: snapshot.primary.key_id.clone(),
            retired: Vec::new(),
        }
    }

    /// Decides whether an answer may be believed, and returns the position after it.
    ///
    /// A higher epoch is a restore, after which activations may count from an older number; their key ids are new.
    ///
    /// # Errors
    ///
    /// When the answer is behind what was seen.
    pub fn advance(&self, snapshot: &Snapshot) -> Result<Self, Refusal> {
        let offered = Self::first(snapshot);
        self.check_position(&offered)?;
        self.check_key_id(&offered)?;
        let mut retired = self.retired.clone();
        if offered.key_id != self.key_id {
            retired.push(self.key_id.clone());
        }
        Ok(Self { retired, ..offered })
    }

    fn check_position(&self, offered: &Self) -> Result<(), Refusal> {
        if offered.instance_id != self.instance_id {
            return Err(Refusal::ForeignInstance {
                pinned: self.instance_id.clone(),
                offered: offered.instance_id.clone(),
            });
        }
        if offered.store_epoch < self.store_epoch {
            let (highest, offered) = (self.store_epoch, offered.store_epoch);
            return Err(Refusal::EpochWentBack { highest, offered });
        }
        if offered.store_epoch > self.store_epoch {
            return Ok(());
        }
        if offered.activation < self.activation {
            let (highest, offered) = (self.activation, offered.activation);
            return Err(Refusal::ActivationWentBack { highest, offered });
        }
        if offered.seq < self.seq {
            return Err(Refusal::SeqWentBack {
                highest: self.seq,
                offered: offered.seq,
            });
        }
        Ok(())
    }

    fn check_key_id(&self, offered: &Self) -> Result<(), Refusal> {
        let number = offered.activation;
        let same_activation = (offered.store_epoch, number) == (self.store_epoch, self.activation);
        if same_activation && offered.key_id != self.key_id {
            return Err(Refusal::KeyIdChanged { number });
        }
        let kept_by_another = number != self.activation && offered.key_id == self.key_id;
        if kept_by_another || self.retired.contains(&offered.key_id) {
            return Err(Refusal::KeyIdReturned { number });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::tests::answer;

    fn snapshot(epoch: u32, seq: u64, newest: u32) -> Snapshot {
        Snapshot::parse(answer(epoch, seq, newest)).unwrap()
    }

    fn seen(epoch: u32, seq: u64, newest: u32) -> HighWater {
        HighWater::first(&snapshot(epoch, seq, newest))
    }

    #[test]
    fn the_same_answer_changes_nothing() {
        assert_eq!(
            seen(2, 10, 3).advance(&snapshot(2, 10, 3)),
            Ok(seen(2, 10, 3))
        );
    }

    #[test]
    fn a_newer_activation_retires_the_key_id_before_it() {
        let after = seen(2, 10, 3).advance(&snapshot(2, 11, 4)).unwrap();
        assert_eq!(
            after,
            HighWater {
                retired: vec!["key-3".to_owned()],
                ..seen(2, 11, 4)
            }
        );
    }

    #[test]
    fn each_step_back_is_refused_by_name() {
        let seen = seen(2, 10, 3);
        let check = |epoch, seq, newest, refusal| {
            assert_eq!(seen.advance(&snapshot(epoch, seq, newest)), Err(refusal));
        };
        check(
            1,
            99,
            9,
            Refusal::EpochWentBack {
                highest: 2,
                offered: 1,
            },
        );
        check(
            2,
            9,
            3,
            Refusal::SeqWentBack {
                highest: 10,
                offered: 9,
            },
        );
        check(
            2,
            11,
            2,
            Refusal::ActivationWentBack {
                highest: 3,
                offered: 2,
            },
        );
    }

    #[test]
    fn another_instance_is_refused_by_name() {
        let mut response = answer(2, 10, 3);
        response.instance_id = "f".repeat(32);
        let error = seen(2, 10, 3)
            .advance(&Snapshot::parse(response).unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "instance {} answers where instance 0123456789abcdef0123456789abcdef is pinned",
                "f".repeat(32)
            )
        );
    }

    #[test]
    fn an_activation_keeps_its_key_id() {
        let mut seen = seen(2, 10, 3);
        seen.key_id = "another".to_owned();
        let refused = seen.advance(&snapshot(2, 11, 3));
        assert_eq!(refused, Err(Refusal::KeyIdChanged { number: 3 }));
    }

    #[test]
    fn a_new_activation_has_a_new_key_id() {
        let mut seen = seen(2, 10, 3);
        seen.key_id = "key-4".to_owned();
        let refused = seen.advance(&snapshot(2, 11, 4));
        assert_eq!(refused, Err(Refusal::KeyIdReturned { number: 4 }));
    }

    #[test]
    fn a_restore_may_count_from_an_older_activation_but_not_use_its_key_id() {
        let seen = seen(2, 10, 3).advance(&snapshot(2, 11, 4)).unwrap();
        let refused = seen.advance(&snapshot(3, 1, 3));
        assert_eq!(refused, Err(Refusal::KeyIdReturned { number: 3 }));

        let mut response = answer(3, 1, 3);
        response.readable[2].key_id = "after-restore".to_owned();
        response.primary = Some(response.readable[2].clone());
        let after = seen.advance(&Snapshot::parse(response).unwrap()).unwrap();
        assert_eq!((after.store_epoch, after.activation), (3, 3));
        assert_eq!(after.retired, ["key-3", "key-4"]);
    }

    proptest! {
        #[test]
        fn no_key_id_comes_back_whatever_is_offered(
            offers in proptest::collection::vec((1u32..4, 0u64..6, 1u32..6), 1..40),
        ) {
            let mut seen: Option<HighWater> = None;
            let mut primaries: Vec<String> = Vec::new();
            for (epoch, seq, newest) in offers {
                let snapshot = snapshot(epoch, seq, newest);
                let accepted = match &seen {
                    None => Ok(HighWater::first(&snapshot)),
                    Some(seen) => seen.advance(&snapshot),
                };
                let Ok(accepted) = accepted else { continue };
                if primaries.last() != Some(&accepted.key_id) {
                    prop_assert!(!primaries.contains(&accepted.key_id));
                    primaries.push(accepted.key_id.clone());
                }
                seen = Some(accepted);
            }
        }
    }
}
