//! Records of registered clusters: which process of the operator may change anything, compared with each of its changes.

use std::sync::Arc;

use strongroom_api::strongroom::storage::v1 as wire;
use strongroom_core::{ActionKind, Caller, ClusterControl, Fence, Name, PodIdentity, ProcessId};

use super::{
    Change, ChangeError, Registry,
    codec::{DecodeError, Decoded, id16},
    path,
    state::State,
};

/// What a change takes for granted about a cluster: nobody acquired an epoch since it was read.
#[derive(Debug, Default)]
pub(crate) struct ClusterExpectation(Option<(Name, Option<Arc<ClusterControl>>)>);

impl Registry {
    /// What is recorded of a cluster; none before its operator's first call. There is nothing in it that is secret.
    pub fn cluster(&self, name: &Name) -> Option<Arc<ClusterControl>> {
        self.state().clusters.get(name).cloned()
    }

    /// Whether a process of the operator may change anything now.
    pub fn admits(&self, identity: &PodIdentity, fence: Fence) -> bool {
        let control = self.cluster(&identity.account.tenant.cluster);
        control.is_some_and(|control| control.admits(&identity.pod.uid, fence))
    }

    /// Every change of the operator carries the epoch of its process, but for the one that gives it. The caller holds the
    /// writer, so that nothing comes between this and the transaction.
    pub(super) fn check_fence(
        &self,
        caller: &Caller,
        action: ActionKind,
        fence: Option<Fence>,
    ) -> Result<(), ChangeError> {
        let Caller::Operator(identity) = caller else {
            return Ok(());
        };
        let admitted = action == ActionKind::AcquireControlEpoch
            || fence.is_some_and(|fence| self.admits(identity, fence));
        if admitted {
            Ok(())
        } else {
            Err(ChangeError::StaleControlEpoch)
        }
    }
}

impl Change {
    /// Another process for a cluster; refused when what is stored is not, or no longer, `before`.
    #[must_use]
    pub fn cluster(
        mut self,
        name: &Name,
        control: &ClusterControl,
        before: Option<Arc<ClusterControl>>,
    ) -> Self {
        self.cluster = ClusterExpectation(Some((name.clone(), before)));
        self.put(path::cluster(name), &encode(control))
    }
}

impl ClusterExpectation {
    pub(crate) fn check(&self, state: &State) -> Result<(), ChangeError> {
        match &self.0 {
            Some((name, before)) if state.clusters.get(name) != before.as_ref() => {
                Err(ChangeError::Stale)
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn encode(control: &ClusterControl) -> wire::ClusterRecord {
    let ClusterControl {
        cluster,
        epoch,
        pod,
        process,
    } = control;
    wire::ClusterRecord {
        uid: cluster.to_string(),
        control_epoch: *epoch,
        pod_uid: pod.to_string(),
        process: process.as_bytes().to_vec(),
    }
}

pub(super) fn decode(record: &wire::ClusterRecord) -> Decoded<ClusterControl> {
    Ok(ClusterControl {
        cluster: record.uid.parse().map_err(|_| DecodeError("uid"))?,
        epoch: record.control_epoch,
        pod: record.pod_uid.parse().map_err(|_| DecodeError("pod_uid"))?,
        process: ProcessId::from_bytes(id16(&record.process, "process")?),
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use prost::Message;

    use super::*;

    fn full() -> ClusterControl {
        ClusterControl {
            cluster: "uid-1".parse().expect("a uid"),
            epoch: 7,
            pod: "uid-2".parse().expect("a uid"),
            process: ProcessId::from_bytes([0xa1; 16]),
        }
    }

    #[test]
    fn bytes_of_a_record_are_frozen() {
        let bytes = encode(&full()).encode_to_vec();
        expect!["0a057569642d3110071a057569642d322210a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"]
            .assert_eq(&hex::encode(&bytes));
        let read = wire::ClusterRecord::decode(bytes.as_slice()).expect("was just written");
        assert_eq!(decode(&read).expect("is ours"), full());
    }

    #[test]
    fn a_process_that_is_none_is_refused_by_field() {
        let mut record = encode(&full());
        record.process.clear();
        let error = decode(&record).expect_err("is none");
        assert!(error.to_string().contains("process"), "{error}");
    }
}
