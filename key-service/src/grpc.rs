//! Transports: messages into requests, results into messages. Nothing is decided here.

mod certificates;
mod crypto;
mod etcd_keys;
mod identity;
mod instance;
mod keys;
mod parse;

pub(crate) use certificates::CertificatesServer;
pub(crate) use crypto::CryptoServer;
pub(crate) use etcd_keys::EtcdKeysServer;
pub(crate) use identity::TlsIdentity;
pub(crate) use instance::InstanceServer;
pub(crate) use keys::KeysServer;
