//! CSI Node: messages in and out, errors to codes, one metric and at most one line for each call.

use std::{os::fd::AsFd, sync::Arc};

use rustix::fs::fstatvfs;
use strongroom_api::csi::v1::{
    NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse, NodeGetInfoRequest,
    NodeGetInfoResponse, NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse,
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse, VolumeCondition, VolumeUsage,
    node_server,
    node_service_capability::{Rpc, Type, rpc},
    volume_usage::Unit,
};
use strongroom_runtime::{
    Chain, Condition,
    metrics::{Metrics, Requests},
};
use tonic::{Code, Request, Response, Status};

use crate::{
    config::Tokens,
    driver::{self, Driver, PublishError},
    request::{self, InvalidRequest, NoToken},
    source::SourceError,
    volume::{PublishedError, RemoveError},
};

/// What the driver can do beside publishing.
const CAPABILITIES: [rpc::Type; 3] = [
    rpc::Type::GetVolumeStats,
    rpc::Type::VolumeCondition,
    rpc::Type::VolumeMountGroup,
];

/// Serves kubelet.
pub struct Node {
    driver: Arc<Driver>,
    tokens: Tokens,
    name: String,
    registered: Condition,
    requests: Requests,
}

impl Node {
    /// Serves the node of that name.
    pub fn new(
        driver: Arc<Driver>,
        tokens: Tokens,
        name: String,
        registered: Condition,
        metrics: &Metrics,
    ) -> Self {
        Self {
            driver,
            tokens,
            name,
            registered,
            requests: metrics.requests(&["Publish", "Unpublish", "Stats"], CODES),
        }
    }

    async fn publish(&self, request: NodePublishVolumeRequest) -> Result<(), NodeError> {
        let request = request::publish(request, self.driver.pods.path(), &self.tokens)
            .map_err(NodeError::Request)?;
        self.driver
            .publish(request)
            .await
            .map_err(NodeError::Publish)
    }

    async fn unpublish(&self, request: &NodeUnpublishVolumeRequest) -> Result<(), NodeError> {
        request::volume_id(&request.volume_id).map_err(NodeError::Request)?;
        match request::target(&request.target_path, self.driver.pods.path()) {
            Ok(target) => self
                .driver
                .unpublish(&target)
                .await
                .map_err(NodeError::Remove),
            // Nothing was ever published there, and kubelet would ask for ever.
            Err(InvalidRequest::Target(_)) => Ok(()),
            Err(error) => Err(NodeError::Request(error)),
        }
    }

    fn stats(
        &self,
        request: &NodeGetVolumeStatsRequest,
    ) -> Result<NodeGetVolumeStatsResponse, NodeError> {
        let id = request::volume_id(&request.volume_id).map_err(NodeError::Request)?;
        let target = match request::target(&request.volume_path, self.driver.pods.path()) {
            Err(InvalidRequest::Target(_)) => return Err(NodeError::NotFound),
            target => target.map_err(NodeError::Request)?,
        };
        let volume = self.driver.table.find(&target).ok_or(NodeError::NotFound)?;
        let state = volume.state();
        // After a restart the id is not known.
        if !state.volume_id.is_empty() && state.volume_id != id {
            return Err(NodeError::NotFound);
        }
        let root = self
            .driver
            .published(&target)
            .map_err(NodeError::Published)?;
        let root = root.ok_or(NodeError::NotFound)?;
        let now = self.driver.clock.elapsed();
        let driver::Condition { abnormal, message } =
            driver::condition(&state, now, self.driver.stale_after);
        Ok(NodeGetVolumeStatsResponse {
            usage: usage(root).map_err(NodeError::Stats)?,
            volume_condition: Some(VolumeCondition { abnormal, message }),
        })
    }
}

fn usage(root: impl AsFd) -> Result<Vec<VolumeUsage>, std::io::Error> {
    let stat = fstatvfs(root)?;
    let usage = |unit: Unit, total: u64, free: u64| {
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        VolumeUsage {
            available: number(free),
            total: number(total),
            used: number(total.saturating_sub(free)),
            unit: unit.into(),
        }
    };
    let size = stat.f_frsize;
    Ok(vec![
        usage(Unit::Bytes, stat.f_blocks * size, stat.f_bfree * size),
        usage(Unit::Inodes, stat.f_files, stat.f_ffree),
    ])
}

#[tonic::async_trait]
impl node_server::Node for Node {
    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let mut observation = self.requests.observe("Publish");
        let request = request.into_inner();
        let target = request.target_path.clone();
        let outcome = self.publish(request).await;
        observation.outcome(label(&outcome));
        outcome
            .map(|()| Response::new(NodePublishVolumeResponse {}))
            .map_err(|error| refuse("Publish", &target, &error))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let mut observation = self.requests.observe("Unpublish");
        let request = request.into_inner();
        let outcome = self.unpublish(&request).await;
        observation.outcome(label(&outcome));
        outcome
            .map(|()| Response::new(NodeUnpublishVolumeResponse {}))
            .map_err(|error| refuse("Unpublish", &request.target_path, &error))
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let mut observation = self.requests.observe("Stats");
        let request = request.into_inner();
        let outcome = self.stats(&request);
        observation.outcome(label(&outcome));
        outcome
            .map(Response::new)
            .map_err(|error| refuse("Stats", &request.volume_path, &error))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability = |capability: rpc::Type| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc {
                r#type: capability.into(),
            })),
        };
        Ok(Response::new(NodeGetCapabilitiesResponse {
            capabilities: CAPABILITIES.map(capability).to_vec(),
        }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        // Part of the registration, whose last step may get lost (kubernetes/kubernetes#138170).
        self.registered.met();
        Ok(Response::new(NodeGetInfoResponse {
            node_id: self.name.clone(),
            ..NodeGetInfoResponse::default()
        }))
    }
}

/// Why kubelet gets no for an answer.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error(transparent)]
    Request(InvalidRequest),
    #[error(transparent)]
    Publish(PublishError),
    #[error(transparent)]
    Remove(RemoveError),
    #[error("no volume is published there")]
    NotFound,
    #[error("it cannot be told what is published there")]
    Published(#[source] PublishedError),
    #[error("the volume cannot be examined")]
    Stats(#[source] std::io::Error),
}

impl NodeError {
    fn code(&self) -> Code {
        match self {
            Self::Request(_) => Code::InvalidArgument,
            Self::NotFound => Code::NotFound,
            Self::Remove(_) | Self::Published(_) | Self::Stats(_) => Code::Internal,
            Self::Publish(error) => publish_code(error),
        }
    }
}

fn publish_code(error: &PublishError) -> Code {
    match error {
        PublishError::NoToken(NoToken::Forged) => Code::InvalidArgument,
        PublishError::NoToken(_) => Code::Unauthenticated,
        PublishError::Source(error) => source_code(error),
        PublishError::Taken => Code::AlreadyExists,
        PublishError::TooLarge => Code::FailedPrecondition,
        PublishError::Empty
        | PublishError::Files(_)
        | PublishError::NoFolder
        | PublishError::Place(_)
        | PublishError::Published(_)
        | PublishError::Mount(_)
        | PublishError::Write(_) => Code::Internal,
    }
}

/// The codes of the key service that mean the same to kubelet; the others are between it and us.
fn source_code(error: &SourceError) -> Code {
    match error {
        SourceError::Away { .. } => Code::Unavailable,
        SourceError::NotBelieved(_) => Code::FailedPrecondition,
        SourceError::Token(_) => Code::Internal,
        SourceError::Refused { code, .. } => match code {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::Unavailable => *code,
            _ => Code::Internal,
        },
    }
}

fn refuse(method: &'static str, target: &str, error: &NodeError) -> Status {
    let target: String = target.chars().take(256).collect();
    tracing::warn!(method, target, code = ?error.code(), error = %Chain(error), "request failed");
    Status::new(error.code(), error.to_string())
}

/// The labels that [`label`] gives.
const CODES: &[&str] = &[
    "OK",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "INTERNAL",
];

fn label<T>(outcome: &Result<T, NodeError>) -> &'static str {
    let Err(error) = outcome else { return "OK" };
    match error.code() {
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::Unauthenticated => "UNAUTHENTICATED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::Unavailable => "UNAVAILABLE",
        _ => "INTERNAL",
    }
}
