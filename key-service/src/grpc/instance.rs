//! `strongroom.v1.Instance`.

use std::sync::Arc;

use strongroom_api::strongroom::v1 as wire;
use strongroom_core::UnixMillis;
use strongroom_hsm::TokenDescription;
use strongroom_runtime::Readiness;
use tonic::{Request, Response, Status};

use super::{clock, identity::by_certificate, nodes, parse::timestamp};
use crate::{
    service::{CallError, InstanceView, Service},
    timekeeper::{TimeView, distance, rfc3339},
};

/// Serves the description of the installation over TLS.
pub(crate) struct InstanceServer {
    /// What describes it.
    pub service: Arc<Service>,
    /// What is missing right now.
    pub readiness: Readiness,
}

#[tonic::async_trait]
impl wire::instance_server::Instance for InstanceServer {
    async fn describe(
        &self,
        request: Request<wire::DescribeInstanceRequest>,
    ) -> Result<Response<wire::DescribeInstanceResponse>, Status> {
        let context = by_certificate(&request)?;
        let view = self
            .service
            .describe_instance(&context)
            .await
            .map_err(CallError::into_status)?;
        Ok(Response::new(answer(view, &self.readiness)))
    }
}

fn answer(view: InstanceView, readiness: &Readiness) -> wire::DescribeInstanceResponse {
    let conditions = conditions(&view, readiness);
    let nodes = nodes_of(&view);
    let (checkpoint, anchored_at) = view.anchor.unzip();
    wire::DescribeInstanceResponse {
        instance_id: view.id.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store_epoch: view.position.epoch.get(),
        seq: view.position.seq,
        store_root: hex::encode(view.position.root.as_bytes()),
        token: view.token.map(token),
        audit: Some(wire::AuditLog {
            records: view.audit_records,
            certifier_fingerprint: view.certifier_fingerprint,
            anchored_checkpoint: checkpoint.unwrap_or_default(),
            anchored_at: anchored_at.map(|time| timestamp(UnixMillis::new(time))),
        }),
        system_ring_id: view.system_ring.to_string(),
        etcd_key_id: view.etcd_key.to_string(),
        conditions,
        nodes,
        clock: Some(clock::view(view.time)),
    }
}

fn nodes_of(view: &InstanceView) -> Vec<wire::NodeIdentity> {
    let nodes = view.nodes.iter();
    nodes
        .map(|stored| nodes::view(stored, view.time.wall))
        .collect()
}

/// Everything that must hold for the installation to serve.
pub(super) fn conditions(view: &InstanceView, readiness: &Readiness) -> Vec<wire::Condition> {
    let anchored_at = view.anchor.as_ref().map(|(_, time)| *time);
    let mut conditions = serving(view.token.as_ref(), anchored_at, readiness);
    conditions.push(trusted(&nodes_of(view)));
    conditions.push(in_step(view.time));
    conditions
}

/// A clock that jumped is an alarm until somebody has looked; who only uses keys does not notice.
fn in_step(time: TimeView) -> wire::Condition {
    condition(
        "ClockTrusted",
        time.jump.is_none(),
        "InStep",
        "Jumped",
        || {
            time.jump.map_or_else(String::new, |jump| {
            format!(
                "the machine's clock was {} when it was {}; it says {} now. Nothing is destroyed by time: set the clock right \
                 if it is wrong, then `kubectl strongroom clock confirm`",
                distance(jump),
                rfc3339(jump.noticed),
                rfc3339(time.wall)
            )
        })
        },
    )
}

/// An identity that was revoked is an alarm until its node is enrolled anew.
fn trusted(nodes: &[wire::NodeIdentity]) -> wire::Condition {
    let revoked: Vec<_> = nodes
        .iter()
        .filter(|node| node.state() == wire::NodeState::Revoked)
        .map(|node| format!("{} of {} ({})", node.role, node.node, node.revocation_cause))
        .collect();
    condition(
        "NodesTrusted",
        revoked.is_empty(),
        "NoneRevoked",
        "Revoked",
        || {
            format!(
                "there is a copy of a key: {}; find out whose, then `kubectl strongroom enrol node`",
                revoked.join(", ")
            )
        },
    )
}

fn token(token: TokenDescription) -> wire::Token {
    wire::Token {
        label: token.label,
        serial: token.serial,
        manufacturer: token.manufacturer,
        model: token.model,
        hardware: token.hardware,
        wrap_profile: token.wrap_profile,
    }
}

fn serving(
    token: Option<&TokenDescription>,
    anchored_at: Option<i64>,
    readiness: &Readiness,
) -> Vec<wire::Condition> {
    let missing = readiness.missing();
    let ready = condition("Ready", missing.is_empty(), "Serving", "Missing", || {
        missing
            .iter()
            .map(|(name, reason)| format!("{name}: {reason}"))
            .collect::<Vec<_>>()
            .join("; ")
    });
    let hsm = condition(
        "HSMAvailable",
        token.is_some_and(|token| token.message.is_empty()),
        "Answering",
        "Away",
        || {
            token.map_or_else(
                || "hsm-agent does not answer".to_owned(),
                |token| token.message.clone(),
            )
        },
    );
    let audit = condition(
        "AuditAnchored",
        anchored_at.is_some(),
        "Anchored",
        "NoAnchorYet",
        || "no checkpoint of the audit log was anchored yet".to_owned(),
    );
    vec![ready, hsm, audit]
}

fn condition(
    kind: &str,
    ok: bool,
    reason_ok: &str,
    reason_not: &str,
    message: impl FnOnce() -> String,
) -> wire::Condition {
    wire::Condition {
        r#type: kind.to_owned(),
        ok,
        reason: if ok { reason_ok } else { reason_not }.to_owned(),
        message: if ok { String::new() } else { message() },
    }
}
