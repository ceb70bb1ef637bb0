//! `strongroom.v1.Nodes`, over TLS for administrators.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::{NodeIdentity, NodeRole, UnixMillis};
use tonic::{Request, Response, Status};

use super::{
    identity::by_certificate,
    parse::{field, timestamp},
};
use crate::{
    registry::StoredNode,
    service::{CallError, NodeInvitation, Service},
};

/// Invites nodes.
pub(crate) struct NodesServer(pub Arc<Service>);

#[tonic::async_trait]
impl wire::nodes_server::Nodes for NodesServer {
    async fn invite(
        &self,
        request: Request<wire::InviteNodeRequest>,
    ) -> Result<Response<wire::NodeInvitation>, Status> {
        let context = by_certificate(&request)?;
        let identity = NodeIdentity {
            role: NodeRole::KmsPlugin,
            node: field("node", &request.get_ref().node)?,
        };
        let invited = self
            .0
            .invite_node(&context, identity)
            .await
            .map_err(CallError::into_status)?;
        let NodeInvitation {
            identity,
            secret,
            expires,
            root_digest,
            endpoints,
        } = invited;
        Ok(Response::new(wire::NodeInvitation {
            instance_id: self.0.registry.instance().id.to_string(),
            node: identity.node.to_string(),
            secret: String::from_utf8_lossy(secret.expose()).into_owned(),
            expires: Some(timestamp(expires)),
            root_sha256: hex::encode(root_digest),
            endpoints,
        }))
    }
}

/// What administrators see of an identity at a time.
pub(super) fn view(stored: &StoredNode, now: UnixMillis) -> wire::NodeIdentity {
    let record = &stored.record;
    let newest = record.newest.as_ref();
    let state = match (&record.revoked, newest) {
        (Some(_), _) => wire::NodeState::Revoked,
        (None, None) => wire::NodeState::Invited,
        (None, Some(newest)) if newest.not_after < now => wire::NodeState::Expired,
        (None, Some(_)) => wire::NodeState::Enrolled,
    };
    let revoked = record.revoked.as_ref();
    wire::NodeIdentity {
        node: record.identity.node.to_string(),
        role: record.identity.role.as_str().to_owned(),
        state: state.into(),
        serial: newest.map(|it| it.serial.clone()).unwrap_or_default(),
        not_after: newest.map(|it| timestamp(it.not_after)),
        revoked_at: revoked.map(|it| timestamp(it.at)),
        revocation_cause: revoked
            .map(|it| it.cause.as_str().to_owned())
            .unwrap_or_default(),
    }
}
