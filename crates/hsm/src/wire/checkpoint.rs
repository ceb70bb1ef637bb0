//! Statements about checkpoint keys.

use strongroom_api::strongroom::hsm::v1 as pb;
use strongroom_core::StoreEpoch;

use super::{MalformedField, array, instance};
use crate::{CheckpointKeyStatement, check_replica_name};

impl From<&CheckpointKeyStatement> for pb::CertifyCheckpointKeyRequest {
    fn from(statement: &CheckpointKeyStatement) -> Self {
        let CheckpointKeyStatement {
            instance,
            replica,
            store_epoch,
            start_size,
            previous_checkpoint,
            public_key,
        } = statement;
        Self {
            instance_id: instance.as_bytes().to_vec(),
            replica: replica.clone(),
            store_epoch: store_epoch.get(),
            start_size: *start_size,
            previous_checkpoint: previous_checkpoint.to_vec(),
            public_key: public_key.to_vec(),
        }
    }
}

impl TryFrom<pb::CertifyCheckpointKeyRequest> for CheckpointKeyStatement {
    type Error = MalformedField;

    fn try_from(message: pb::CertifyCheckpointKeyRequest) -> Result<Self, MalformedField> {
        let pb::CertifyCheckpointKeyRequest {
            instance_id,
            replica,
            store_epoch,
            start_size,
            previous_checkpoint,
            public_key,
        } = message;
        check_replica_name(&replica).map_err(|error| MalformedField::new("replica", error))?;
        Ok(Self {
            instance: instance(&instance_id)?,
            replica,
            store_epoch: StoreEpoch::new(store_epoch),
            start_size,
            previous_checkpoint: array("previous_checkpoint", &previous_checkpoint)?,
            public_key: array("public_key", &public_key)?,
        })
    }
}
