//! Generated protobuf, clients and status codes. Messages have no `Debug`: some carry plaintext.
#![forbid(unsafe_code)]
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::use_self,
    reason = "generated from proto/, where the documentation is"
)]

/// Interfaces of Strongroom.
pub mod strongroom {
    /// The native interface.
    pub mod v1 {
        tonic::include_proto!("strongroom.v1");
    }
    /// What kms-plugin asks of the key service.
    pub mod kms {
        pub mod v1 {
            tonic::include_proto!("strongroom.kms.v1");
        }
    }
    /// What the key service asks of hsm-agent.
    pub mod hsm {
        pub mod v1 {
            tonic::include_proto!("strongroom.hsm.v1");
        }
    }
    /// What the key service writes into its store.
    pub mod storage {
        pub mod v1 {
            tonic::include_proto!("strongroom.storage.v1");
        }
    }
}

/// The Container Storage Interface.
pub mod csi {
    /// What kubelet asks of a node plugin.
    pub mod v1 {
        tonic::include_proto!("csi.v1");
    }
}

/// Interfaces of Kubernetes.
pub mod kubernetes {
    /// How plugins make themselves known to kubelet.
    pub mod pluginregistration {
        pub mod v1 {
            tonic::include_proto!("pluginregistration");
        }
    }
    pub mod envelope {
        /// What kube-apiserver stores in etcd.
        pub mod v2 {
            tonic::include_proto!("kubernetes.envelope.v2");
        }
    }
    pub mod kms {
        /// Encryption plugin of kube-apiserver.
        pub mod v2 {
            tonic::include_proto!("v2");
        }
    }
}
