//! The key that encrypts etcd, as the key service describes and rotates it.

use strongroom_api::strongroom::v1::{
    DescribeInstanceRequest, DescribeKeyRequest, Key, RotateKeyRequest,
    instance_client::InstanceClient, keys_client::KeysClient,
};
use strongroom_core::VersionId;
use tonic::{Code, Status, transport::Channel};

use super::RotateError;
use crate::{error::CommandError, rpc::CallError};

/// The key as it was read, and the way to change it.
pub(super) struct EtcdKey {
    client: KeysClient<Channel>,
    key: Key,
}

/// A version that is or was primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Primary {
    pub(super) version: String,
    pub(super) key_id_hash: String,
}

/// What a rotation did.
#[derive(Debug)]
pub(super) struct Rotation {
    pub(super) key_id: String,
    /// False when the version to rotate from is not the primary any more.
    pub(super) rotated: bool,
    pub(super) before: Primary,
    pub(super) now: Primary,
}

impl EtcdKey {
    /// Asks the instance for its etcd key and reads it.
    pub(super) async fn find(channel: Channel) -> Result<Self, CallError> {
        let instance = InstanceClient::new(channel.clone())
            .describe(DescribeInstanceRequest {})
            .await
            .map_err(|status| CallError::new("find the etcd key", status))?
            .into_inner();
        let mut client = KeysClient::new(channel);
        let request = DescribeKeyRequest {
            ring_id: instance.system_ring_id,
            key: instance.etcd_key_id,
        };
        let key = client
            .describe_key(request)
            .await
            .map_err(|status| CallError::new("read the etcd key", status))?
            .into_inner();
        Ok(Self { client, key })
    }

    /// Refuses a key service that could not be waited for.
    pub(super) fn require_hash(&self) -> Result<(), RotateError> {
        if self.key.key_id_hash.is_empty() {
            Err(RotateError::NoHash)
        } else {
            Ok(())
        }
    }

    /// Makes a new version primary, unless `from` is given and is not the primary.
    pub(super) async fn rotate(
        &mut self,
        from: Option<VersionId>,
    ) -> Result<Rotation, CommandError> {
        let before = primary(&self.key);
        if let Some(from) = from {
            let text = from.to_string();
            if !self
                .key
                .versions
                .iter()
                .any(|version| version.version == text)
            {
                return Err(RotateError::UnknownVersion {
                    from,
                    primary: before.version,
                }
                .into());
            }
            if before.version != text {
                let then = Primary {
                    version: text,
                    key_id_hash: String::new(),
                };
                return Ok(self.rotation(false, then));
            }
        }
        let request = RotateKeyRequest {
            ring_id: self.key.ring_id.clone(),
            key: self.key.id.clone(),
            etag: self.key.etag.clone(),
        };
        match self.client.rotate_key(request).await {
            Ok(key) => self.key = key.into_inner(),
            Err(status) => return Err(refusal(status, before.version)),
        }
        Ok(self.rotation(true, before))
    }

    fn rotation(&self, rotated: bool, before: Primary) -> Rotation {
        Rotation {
            key_id: self.key.id.clone(),
            rotated,
            before,
            now: primary(&self.key),
        }
    }
}

fn primary(key: &Key) -> Primary {
    Primary {
        version: key.primary_version.clone(),
        key_id_hash: key.key_id_hash.clone(),
    }
}

/// Most answers mean that nothing was done; after the others, or without an answer, both outcomes are possible.
fn refusal(status: Status, primary: String) -> CommandError {
    let code = status.code();
    match CallError::new("rotate the etcd key", status) {
        CallError::Answer { .. } if code == Code::Aborted => RotateError::Changed.into(),
        source @ CallError::Answer { .. } if is_final(code) => source.into(),
        source @ (CallError::Answer { .. } | CallError::Lost { .. }) => {
            RotateError::Unknown { primary, source }.into()
        }
    }
}

/// Whether the code means that nothing was done. A change that was made but could not be recorded in the audit log
/// ends with the same codes as one that could not begin.
const fn is_final(code: Code) -> bool {
    match code {
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
    }
}
