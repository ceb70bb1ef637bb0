//! The answer of `status` in the words and the order that people and programs see.

use jiff::Timestamp;
use serde::Serialize;
use strongroom_api::strongroom::v1::{AuditLog, Condition, DescribeInstanceResponse, Token};
use strongroom_audit::Checkpoint;

use super::nodes::{self, NodeReport};
use crate::{
    clock::ClockReport,
    output::{age, columns, plain},
};

/// The key service's part of what `-o json` prints. Fields are only ever added.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Whether every condition holds.
    #[serde(skip)]
    pub(super) ok: bool,
    #[serde(rename = "instanceID")]
    instance_id: String,
    version: String,
    store: StoreReport,
    token: Option<TokenReport>,
    audit: Option<AuditReport>,
    etcd_key: EtcdKeyReport,
    conditions: Vec<ConditionReport>,
    nodes: Vec<NodeReport>,
    clock: Option<ClockReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoreReport {
    epoch: u32,
    seq: u64,
    root: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TokenReport {
    label: String,
    serial: String,
    manufacturer: String,
    model: String,
    hardware: bool,
    wrap_profile: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditReport {
    records: u64,
    /// Records under the last anchored checkpoint.
    anchored_records: Option<u64>,
    anchored_at: Option<Timestamp>,
    anchored_checkpoint: String,
    certifier_fingerprint: String,
}

#[derive(Debug, Serialize)]
struct EtcdKeyReport {
    #[serde(rename = "ringID")]
    ring_id: String,
    #[serde(rename = "keyID")]
    key_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ConditionReport {
    r#type: String,
    ok: bool,
    reason: String,
    message: String,
}

impl Report {
    pub(super) fn new(answer: DescribeInstanceResponse) -> Self {
        let DescribeInstanceResponse {
            instance_id,
            version,
            store_epoch: epoch,
            seq,
            store_root: root,
            token,
            audit,
            system_ring_id: ring_id,
            etcd_key_id: key_id,
            conditions,
            nodes,
            clock,
        } = answer;
        Self {
            ok: conditions.iter().all(|condition| condition.ok),
            instance_id,
            version,
            store: StoreReport { epoch, seq, root },
            token: token.map(TokenReport::new),
            audit: audit.map(AuditReport::new),
            etcd_key: EtcdKeyReport { ring_id, key_id },
            conditions: conditions.into_iter().map(ConditionReport::new).collect(),
            nodes: nodes.into_iter().map(NodeReport::new).collect(),
            clock: clock.map(ClockReport::new),
        }
    }

    /// What people look at first, then one line for each condition.
    pub(super) fn table(&self, now: Timestamp) -> String {
        self.join(&[self.instance(), self.parts(now)])
    }

    /// The table with roots, fingerprints and ids.
    pub(super) fn wide(&self, now: Timestamp) -> String {
        self.join(&[self.instance(), self.parts(now), self.identifiers()])
    }

    fn join(&self, blocks: &[Vec<[String; 2]>]) -> String {
        let heading = ["CONDITION", "OK", "REASON", "MESSAGE"].map(str::to_owned);
        let conditions = self.conditions.iter().map(ConditionReport::row);
        let rows: Vec<_> = [heading].into_iter().chain(conditions).collect();
        let nodes = nodes::table(&self.nodes);
        format!("{}\n{}{nodes}", columns(&blocks.concat()), columns(&rows))
    }

    fn instance(&self) -> Vec<[String; 2]> {
        vec![
            line("Instance", &self.instance_id),
            line("Version", &self.version),
        ]
    }

    fn parts(&self, now: Timestamp) -> Vec<[String; 2]> {
        let Self {
            store,
            token,
            audit,
            clock,
            ..
        } = self;
        let unknown = || "unknown".to_owned();
        vec![
            line(
                "Token",
                &token.as_ref().map_or_else(unknown, TokenReport::summary),
            ),
            line(
                "Wrap profile",
                &token
                    .as_ref()
                    .map_or_else(unknown, |t| t.wrap_profile.clone()),
            ),
            line(
                "Store",
                &format!("epoch {}, seq {}", store.epoch, store.seq),
            ),
            line(
                "Audit log",
                &audit.as_ref().map_or_else(unknown, |a| a.summary(now)),
            ),
            line(
                "Clock",
                &clock.as_ref().map_or_else(unknown, ClockReport::summary),
            ),
        ]
    }

    fn identifiers(&self) -> Vec<[String; 2]> {
        let Self {
            store,
            token,
            audit,
            etcd_key,
            ..
        } = self;
        let mut lines = vec![
            line("Store root", &store.root),
            line("System ring", &etcd_key.ring_id),
            line("Etcd key", &etcd_key.key_id),
        ];
        if let Some(token) = token {
            lines.push(line("Token serial", &token.serial));
            lines.push(line(
                "Token model",
                &format!("{}, {}", token.manufacturer, token.model),
            ));
        }
        if let Some(audit) = audit {
            lines.push(line("Audit certifier", &audit.certifier_fingerprint));
        }
        lines
    }
}

impl TokenReport {
    fn new(token: Token) -> Self {
        let Token {
            label,
            serial,
            manufacturer,
            model,
            hardware,
            wrap_profile,
        } = token;
        Self {
            label,
            serial,
            manufacturer,
            model,
            hardware,
            wrap_profile,
        }
    }

    fn summary(&self) -> String {
        let kind = if self.hardware {
            "hardware"
        } else {
            "software, this is not hardware"
        };
        format!("{} ({kind})", self.label)
    }
}

impl AuditReport {
    fn new(audit: AuditLog) -> Self {
        let AuditLog {
            records,
            certifier_fingerprint,
            anchored_checkpoint,
            anchored_at,
        } = audit;
        Self {
            records,
            anchored_records: Checkpoint::parse(&anchored_checkpoint)
                .ok()
                .map(|c| c.size()),
            anchored_at: anchored_at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()),
            anchored_checkpoint,
            certifier_fingerprint,
        }
    }

    fn summary(&self, now: Timestamp) -> String {
        let records = self.records;
        match (self.anchored_records, self.anchored_at) {
            (Some(anchored), Some(at)) => {
                let age = age(now.as_second().saturating_sub(at.as_second()));
                format!("{records} records, anchored up to {anchored}, {age} ago")
            }
            _ => format!("{records} records, not anchored yet"),
        }
    }
}

impl ConditionReport {
    fn new(condition: Condition) -> Self {
        let Condition {
            r#type,
            ok,
            reason,
            message,
        } = condition;
        Self {
            r#type,
            ok,
            reason,
            message,
        }
    }

    fn row(&self) -> [String; 4] {
        let ok = if self.ok { "yes" } else { "NO" };
        [
            plain(&self.r#type),
            ok.to_owned(),
            plain(&self.reason),
            plain(&self.message),
        ]
    }
}

fn line(name: &str, value: &str) -> [String; 2] {
    [format!("{name}:"), plain(value)]
}
