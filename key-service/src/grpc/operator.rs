//! `strongroom.v1.Operator`: messages of custom resources. Every error carries a word.

mod bundles;
mod message;
mod rotation;
mod watch;

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::{Action, action};
use strongroom_runtime::{Readiness, tasks::Tasks};
use tonic::{Request, Response, Status};

use self::message::{fence, invalid, object, outcome, worded};
use super::{
    identity::{origin, shown},
    instance::conditions,
    keys::{key, ring},
    parse::{field, timestamp},
    running::Running,
    secrets::secret,
};
use crate::service::{Operator, Service};

type Answer<T> = Result<Response<T>, Status>;

/// Serves operators over the port for workloads.
pub(crate) struct OperatorServer {
    /// What does it.
    pub service: Arc<Service>,
    /// What is missing right now.
    pub readiness: Readiness,
    /// Streams end when the process does.
    pub tasks: Tasks,
}

impl OperatorServer {
    /// The operator, for a call that changes nothing.
    async fn reads<A: Action>(&self, request: &Request<impl Sync>) -> Result<Operator, Status> {
        let operator = self.service.operator::<A>(shown(request)?, origin(request));
        operator.await.map_err(worded)
    }

    /// The operator, for a call that changes something: its process has the control epoch.
    async fn changes<A: Action>(
        &self,
        request: &Request<impl Sync>,
        given: Option<&wire::Fence>,
    ) -> Result<Operator, Status> {
        let mut origin = origin(request);
        origin.fence = Some(fence(given).map_err(invalid)?);
        let operator = self.service.operator::<A>(shown(request)?, origin);
        operator.await.map_err(worded)
    }
}

#[tonic::async_trait]
impl wire::operator_server::Operator for OperatorServer {
    async fn acquire_control_epoch(
        &self,
        request: Request<wire::AcquireControlEpochRequest>,
    ) -> Answer<wire::AcquireControlEpochResponse> {
        let operator = self.reads::<action::AcquireControlEpoch>(&request).await?;
        let wire::AcquireControlEpochRequest {
            process,
            cluster_uid,
        } = request.into_inner();
        let process = field("process", &process).map_err(invalid)?;
        let cluster = field("cluster_uid", &cluster_uid).map_err(invalid)?;
        let epoch = self
            .service
            .acquire_control_epoch(&operator, process, &cluster)
            .await
            .map_err(worded)?;
        Ok(Response::new(wire::AcquireControlEpochResponse {
            control_epoch: epoch,
        }))
    }

    async fn describe_installation(
        &self,
        request: Request<wire::DescribeInstallationRequest>,
    ) -> Answer<wire::DescribeInstallationResponse> {
        let operator = self.reads::<action::DescribeInstance>(&request).await?;
        let view = self.service.describe_instance(operator.context());
        let view = view.await.map_err(worded)?;
        let anchored_at = view.anchor.as_ref().map(|(_, time)| *time);
        let token = view.token.as_ref();
        Ok(Response::new(wire::DescribeInstallationResponse {
            instance_id: view.id.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hardware: token.is_some_and(|token| token.hardware),
            token_model: token.map(|token| token.model.clone()).unwrap_or_default(),
            store_epoch: view.position.epoch.get(),
            seq: view.position.seq,
            anchored_at: anchored_at.map(|time| timestamp(strongroom_core::UnixMillis::new(time))),
            conditions: conditions(&view, &self.readiness),
        }))
    }

    async fn apply_key_ring(
        &self,
        request: Request<wire::ApplyKeyRingRequest>,
    ) -> Answer<wire::KeyRingState> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::ApplyKeyRing>(&request, given.as_ref())
            .await?;
        let request = request.into_inner();
        let object = object(&operator, request.object.as_ref()).map_err(invalid)?;
        let wanted = message::ring(&request).map_err(invalid)?;
        let applied = self.service.apply_ring(&operator, &object, &wanted).await;
        let applied = applied.map_err(worded)?;
        let view = applied.object;
        Ok(Response::new(wire::KeyRingState {
            outcome: outcome(applied.outcome).into(),
            ring: Some(ring(&view.ring)),
            keys: u32::try_from(view.keys).unwrap_or(u32::MAX),
            secrets: u32::try_from(view.secrets).unwrap_or(u32::MAX),
            rebound: message::names(&applied.rebound),
        }))
    }

    async fn apply_key(&self, request: Request<wire::ApplyKeyRequest>) -> Answer<wire::KeyState> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::ApplyKey>(&request, given.as_ref())
            .await?;
        let request = request.into_inner();
        let object = object(&operator, request.object.as_ref()).map_err(invalid)?;
        let wanted = message::key(&request).map_err(invalid)?;
        let applied = self.service.apply_key(&operator, &object, &wanted).await;
        let applied = applied.map_err(worded)?;
        let now = self.service.time.believed();
        Ok(Response::new(wire::KeyState {
            outcome: outcome(applied.outcome).into(),
            key: Some(key(&self.service, &applied.object)),
            next_rotation: rotation::next(applied.object.head.next_rotation(now)),
            rebound: message::names(&applied.rebound),
        }))
    }

    async fn apply_secret(
        &self,
        request: Request<wire::ApplySecretRequest>,
    ) -> Answer<wire::SecretState> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::ApplySecret>(&request, given.as_ref())
            .await?;
        let request = request.into_inner();
        let object = object(&operator, request.object.as_ref()).map_err(invalid)?;
        let wanted = message::secret(request).map_err(invalid)?;
        let applied = self.service.apply_secret(&operator, &object, &wanted).await;
        let applied = applied.map_err(worded)?;
        let view = applied.object;
        let now = self.service.time.believed();
        Ok(Response::new(wire::SecretState {
            outcome: outcome(applied.outcome).into(),
            secret: Some(secret(&self.service, &view.stored)),
            next_rotation: rotation::next(view.stored.head.next_rotation(now)),
            consumers: view.consumed.volumes,
            consumers_current: view.consumed.current,
            consumers_pending: view.consumed.pending,
            rebound: message::names(&applied.rebound),
        }))
    }

    async fn apply_bundle(
        &self,
        request: Request<wire::ApplyBundleRequest>,
    ) -> Answer<wire::BundleState> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::ApplyBundle>(&request, given.as_ref())
            .await?;
        let request = request.into_inner();
        let object = object(&operator, request.object.as_ref()).map_err(invalid)?;
        let wanted = bundles::wanted(&request.ring, request.spec).map_err(invalid)?;
        let applied = self.service.apply_bundle(&operator, &object, &wanted).await;
        let applied = applied.map_err(worded)?;
        Ok(Response::new(wire::BundleState {
            outcome: outcome(applied.outcome).into(),
            ..bundles::state(&applied.object)
        }))
    }

    async fn request_rotation(
        &self,
        request: Request<wire::RequestRotationRequest>,
    ) -> Answer<wire::RequestRotationResponse> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::RotateSecret>(&request, given.as_ref())
            .await?;
        let wire::RequestRotationRequest {
            namespace,
            namespace_uid,
            target,
            ring,
            request_id,
            reason,
            ..
        } = request.into_inner();
        let namespace = field("namespace", &namespace).map_err(invalid)?;
        let namespace_uid = field("namespace_uid", &namespace_uid).map_err(invalid)?;
        let owner = operator.owner(namespace, namespace_uid);
        let target = rotation::target(target, &ring).map_err(invalid)?;
        let asked = rotation::request(&request_id, &reason).map_err(invalid)?;
        let handled = self
            .service
            .request_rotation(&operator, &owner, &target, &asked)
            .await
            .map_err(worded)?;
        Ok(Response::new(rotation::response(&handled)))
    }

    async fn release(
        &self,
        request: Request<wire::ReleaseRequest>,
    ) -> Answer<wire::ReleaseResponse> {
        let given = request.get_ref().fence.clone();
        let operator = self
            .changes::<action::ReleaseObject>(&request, given.as_ref())
            .await?;
        let request = request.into_inner();
        let kind = message::kind(request.kind()).map_err(invalid)?;
        let object = object(&operator, request.object.as_ref()).map_err(invalid)?;
        let kept = self.service.release(&operator, kind, &object).await;
        let kept = kept.map_err(worded)?;
        Ok(Response::new(wire::ReleaseResponse { kept }))
    }

    type WatchObjectsStream = Running<wire::ObjectEvent>;

    async fn watch_objects(
        &self,
        request: Request<wire::WatchObjectsRequest>,
    ) -> Answer<Running<wire::ObjectEvent>> {
        let operator = self.reads::<action::WatchObjects>(&request).await?;
        let objects = self.service.watch_objects(&operator).await;
        let objects = objects.map_err(worded)?;
        let (clock, shutdown) = (self.service.clock.clone(), self.tasks.shutdown());
        Ok(Response::new(watch::stream(objects, clock, shutdown)))
    }
}
