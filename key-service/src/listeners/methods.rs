//! The methods of each listener, so that each is present in its metrics from the start; the definitions of the interfaces
//! are compared.

/// The methods of some services. No two of them that one listener has are called the same.
pub(super) type Services = &'static [&'static [&'static str]];

/// Of the plugin's socket.
pub(super) const KMS: Services = &[ETCD_KEYS];
/// Of the port for plugins of other nodes.
pub(super) const PLUGINS: Services = &[ETCD_KEYS, NODE_CERTIFICATES];
/// Of the administrators' socket.
pub(super) const ADMIN: Services = &[CERTIFICATES];
/// Of the TLS port.
pub(super) const NATIVE: Services = &[KEYS, CRYPTO, SECRETS, NODES, CLOCK, INSTANCE];
/// Of the port for workloads.
pub(super) const WORKLOADS: Services = &[PODS, OPERATOR, CRYPTO];

const ETCD_KEYS: &[&str] = &["Probe", "Encrypt", "Decrypt"];
const NODE_CERTIFICATES: &[&str] = &["Enrol", "Renew"];
const CERTIFICATES: &[&str] = &["IssueCertificate"];
const KEYS: &[&str] = &[
    "CreateKeyRing",
    "AdoptKeyRing",
    "ListKeyRings",
    "CreateKey",
    "DescribeKey",
    "ListKeys",
    "RotateKey",
    "SetPrimaryVersion",
    "EnableVersion",
    "DisableVersion",
    "ScheduleVersionDestruction",
    "CancelVersionDestruction",
];
const CRYPTO: &[&str] = &["Encrypt", "Decrypt"];
const SECRETS: &[&str] = &[
    "CreateSecret",
    "DescribeSecret",
    "ListSecrets",
    "SetSecretValue",
    "RotateSecret",
    "RevealSecret",
    "SetSecretAccess",
];
const NODES: &[&str] = &["Invite"];
const CLOCK: &[&str] = &["Confirm"];
const INSTANCE: &[&str] = &["Describe"];
const PODS: &[&str] = &["ReadForPod", "Watch"];
const OPERATOR: &[&str] = &[
    "AcquireControlEpoch",
    "DescribeInstallation",
    "ApplyKeyRing",
    "ApplyKey",
    "ApplySecret",
    "ApplyBundle",
    "RequestRotation",
    "Release",
    "WatchObjects",
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    /// The names behind `rpc` in all files of a folder.
    fn defined(folder: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../proto")
            .join(folder);
        let files = fs::read_dir(folder).unwrap();
        let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let texts: Vec<String> = texts.collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        lines
            .filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next())
            .map(|name| name.trim().to_owned())
            .collect()
    }

    #[test]
    fn every_method_that_is_defined_is_counted_by_its_name() {
        let counted = [KMS, PLUGINS, ADMIN, NATIVE, WORKLOADS].concat().concat();
        let counted: BTreeSet<String> = counted.into_iter().map(str::to_owned).collect();
        let mut expected = defined("strongroom/v1");
        expected.extend(defined("strongroom/kms/v1"));
        assert_eq!(counted, expected);
    }

    #[test]
    fn no_listener_has_two_methods_of_one_name() {
        for services in [KMS, PLUGINS, ADMIN, NATIVE, WORKLOADS] {
            let methods = services.concat();
            let names: BTreeSet<_> = methods.iter().collect();
            assert_eq!(names.len(), methods.len(), "{methods:?}");
        }
    }
}
