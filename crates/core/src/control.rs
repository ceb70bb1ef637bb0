//! The control epoch of a cluster: which of the operator's processes may change anything. It is issued here and compared in
//! the transaction of each change, so that a process that was replaced finishes nothing, whatever it believes of its lease.

use crate::{Uid, id::random_id};

random_id! {
    /// What a process of the operator drew at its start: a container that was started anew is another process.
    ProcessId
}

/// What a process shows with each change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The epoch that it was given.
    pub epoch: u64,
    /// Which process it is.
    pub process: ProcessId,
}

/// What is recorded of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterControl {
    /// The uid of its namespace kube-system: a cluster that was made anew under one name is another one.
    pub cluster: Uid,
    /// The epoch in force.
    pub epoch: u64,
    /// The pod to which it was given.
    pub pod: Uid,
    /// The process to which it was given.
    pub process: ProcessId,
}

/// Why no epoch is given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// Somebody made the cluster anew, or two have one name.
    #[error("the cluster has the uid {found}, the recorded one has {recorded}")]
    OtherCluster {
        /// The one that is known.
        recorded: Uid,
        /// The one that was shown.
        found: Uid,
    },
    /// The numbers are used up.
    #[error("the control epochs of this cluster are used up")]
    Exhausted,
}

impl ClusterControl {
    /// Gives the next epoch to a process. Whoever had one before has none from now on; so has the same process.
    ///
    /// # Errors
    /// See `AcquireError`.
    pub fn acquired(
        before: Option<&Self>,
        cluster: Uid,
        pod: Uid,
        process: ProcessId,
    ) -> Result<Self, AcquireError> {
        if let Some(known) = before.filter(|before| before.cluster != cluster) {
            return Err(AcquireError::OtherCluster {
                recorded: known.cluster.clone(),
                found: cluster,
            });
        }
        let last = before.map_or(0, |before| before.epoch);
        Ok(Self {
            cluster,
            epoch: last.checked_add(1).ok_or(AcquireError::Exhausted)?,
            pod,
            process,
        })
    }

    /// Whether a process of that pod may change anything now.
    #[must_use]
    pub fn admits(&self, pod: &Uid, fence: Fence) -> bool {
        let Self {
            cluster: _,
            epoch,
            pod: its_pod,
            process,
        } = self;
        (*epoch, its_pod, *process) == (fence.epoch, pod, fence.process)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(text: &str) -> Uid {
        text.parse().unwrap()
    }

    fn process(number: u8) -> ProcessId {
        ProcessId::from_bytes([number; 16])
    }

    fn fence(control: &ClusterControl) -> Fence {
        Fence {
            epoch: control.epoch,
            process: control.process,
        }
    }

    #[test]
    fn another_cluster_of_the_same_name_gets_no_epoch() {
        let east = ClusterControl::acquired(None, uid("east"), uid("pod"), process(1)).unwrap();
        let other = ClusterControl::acquired(Some(&east), uid("west"), uid("pod"), process(1));
        let expected = AcquireError::OtherCluster {
            recorded: uid("east"),
            found: uid("west"),
        };
        assert_eq!(other, Err(expected));
    }

    #[test]
    fn epochs_end_and_never_begin_again() {
        let last = ClusterControl {
            cluster: uid("east"),
            epoch: u64::MAX,
            pod: uid("pod"),
            process: process(1),
        };
        let none = ClusterControl::acquired(Some(&last), uid("east"), uid("pod"), process(1));
        assert_eq!(none, Err(AcquireError::Exhausted));
    }

    #[test]
    fn pod_process_and_epoch_are_all_compared() {
        let control = ClusterControl::acquired(None, uid("east"), uid("pod"), process(1)).unwrap();
        let right = fence(&control);
        assert!(control.admits(&uid("pod"), right));
        assert!(!control.admits(&uid("other"), right));
        let (epoch, process) = (right.epoch + 1, process(2));
        assert!(!control.admits(&uid("pod"), Fence { epoch, ..right }));
        assert!(!control.admits(&uid("pod"), Fence { process, ..right }));
    }

    proptest! {
        /// Whoever comes and goes, in whatever order and under whatever name: only the newest is admitted.
        #[test]
        fn exactly_the_newest_is_admitted(turns in proptest::collection::vec((0..3u8, 0..3u8), 1..20)) {
            let mut issued: Vec<ClusterControl> = Vec::new();
            for (pod, number) in turns {
                let pod = uid(&format!("pod-{pod}"));
                let next = ClusterControl::acquired(issued.last(), uid("east"), pod, process(number));
                issued.push(next.unwrap());
                let now = issued.last().unwrap();
                let admitted = issued.iter().filter(|it| now.admits(&it.pod, fence(it)));
                prop_assert_eq!(admitted.collect::<Vec<_>>(), vec![now]);
            }
        }
    }
}
