//! Transports: messages into requests, results into messages. Nothing is decided here.

mod certificates;
mod clock;
mod crypto;
mod etcd_keys;
mod identity;
mod instance;
mod keys;
mod node_certificates;
mod nodes;
mod operator;
mod parse;
mod pods;
mod running;
mod secrets;

pub(crate) use certificates::CertificatesServer;
pub(crate) use clock::ClockServer;
pub(crate) use crypto::CryptoServer;
pub(crate) use etcd_keys::{Door, EtcdKeysServer};
pub(crate) use identity::{PluginPeer, TlsIdentity, Until, WorkloadPeer};
pub(crate) use instance::InstanceServer;
pub(crate) use keys::KeysServer;
pub(crate) use node_certificates::NodeCertificatesServer;
pub(crate) use nodes::NodesServer;
pub(crate) use operator::OperatorServer;
pub(crate) use pods::PodsServer;
pub(crate) use secrets::SecretsServer;
