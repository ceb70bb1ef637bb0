//! Clusters whose service accounts may call: under which name, and by which keys their tokens are verified.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use strongroom_core::{Name, ObjectName};
use strongroom_runtime::configuration;

/// The TLS port for callers who show tokens in place of certificates.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadsConfig {
    /// Its address.
    pub listen: SocketAddr,
}

/// A cluster whose tokens are accepted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClusterConfig {
    /// The name under which it owns rings: a DNS label, never given to another cluster.
    #[serde(deserialize_with = "configuration::parsed")]
    pub name: Name,
    /// What its tokens say in `iss`. None: what its API server says of itself.
    pub issuer: Option<String>,
    /// What its tokens must say in `aud`, alone.
    #[serde(default = "default_audience")]
    pub audience: String,
    /// File with the keys of its API servers (JWKS, as `/openid/v1/jwks` gives it). Read at the start; where its API server is
    /// asked, they count until that has answered.
    pub keys_file: Option<PathBuf>,
    /// Service accounts of its CSI drivers.
    #[serde(default)]
    pub drivers: Vec<AccountConfig>,
    /// Service accounts of its operators, which say what its custom resources want.
    #[serde(default)]
    pub operators: Vec<AccountConfig>,
}

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct AccountConfig {
    /// Its namespace.
    #[serde(deserialize_with = "configuration::parsed")]
    pub namespace: Name,
    /// Its name.
    #[serde(deserialize_with = "configuration::parsed")]
    pub name: ObjectName,
}

fn default_audience() -> String {
    "strongroom.dev".to_owned()
}

#[cfg(test)]
mod tests {
    use crate::{Config, config::ConfigError};

    const SAMPLE: &str = include_str!("../../../config/key-service.yaml");
    const EAST: &str = "{name: east, issuer: https://east.example, keysFile: /etc/east.jwks, drivers: [{namespace: strongroom-csi, name: csi-driver}]}";

    fn parse(more: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{SAMPLE}\n{more}\n"))
    }

    fn error(more: &str) -> String {
        let error = parse(more).expect_err("is refused");
        strongroom_runtime::Chain(&error).to_string()
    }

    #[test]
    fn a_cluster_has_the_audience_of_the_product_unless_it_says_another() {
        let config = parse(&format!(
            "workloads: {{listen: 127.0.0.1:8445}}\nclusters: [{EAST}]"
        ));
        let config = config.expect("is valid");
        assert_eq!(config.clusters[0].audience, "strongroom.dev");
        assert_eq!(config.clusters[0].drivers[0].name.as_str(), "csi-driver");
    }

    #[test]
    fn an_account_does_one_work() {
        let twice = EAST.replace(
            "drivers:",
            "operators: [{namespace: strongroom-csi, name: csi-driver}], drivers:",
        );
        let message = error(&format!(
            "workloads: {{listen: 127.0.0.1:8445}}\nclusters: [{twice}]"
        ));
        assert!(message.contains("no account is both"), "{message}");
    }

    #[test]
    fn clusters_need_a_port() {
        let message = error(&format!("clusters: [{EAST}]"));
        assert!(message.contains("set workloads.listen"), "{message}");
    }

    #[test]
    fn two_clusters_of_one_name_are_refused() {
        let message = error(&format!(
            "workloads: {{listen: 127.0.0.1:8445}}\nclusters: [{EAST}, {EAST}]"
        ));
        assert!(message.contains("each has a name of its own"), "{message}");
    }

    #[test]
    fn the_port_is_nobody_elses() {
        let message = error("workloads: {listen: 127.0.0.1:8443}");
        assert!(message.contains("workloads.listen: another"), "{message}");
    }

    #[test]
    fn a_name_that_is_no_dns_label_is_refused() {
        let east = EAST.replace("name: east", "name: East");
        let message = error(&format!(
            "workloads: {{listen: 127.0.0.1:8445}}\nclusters: [{east}]"
        ));
        assert!(message.contains("a name has 1 to 63"), "{message}");
    }
}
