//! Which API server the service asks, and for what. All of it is optional for serving.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, de};
use strongroom_core::Name;
use strongroom_runtime::configuration;

/// The API server of the cluster in which, or beside which, the service runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct KubernetesConfig {
    /// A kubeconfig. None: the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Which of `clusters` it is; the keys and the issuer of its tokens are asked for then.
    #[serde(default, deserialize_with = "configuration::parsed_if_there")]
    pub cluster: Option<Name>,
    /// Namespace of the ConfigMaps `strongroom-witness`, `strongroom-ca` and `strongroom-init`.
    #[serde(
        default = "default_namespace",
        deserialize_with = "configuration::parsed"
    )]
    pub namespace: Name,
    /// Further namespaces that get a copy of `strongroom-ca`.
    #[serde(default, deserialize_with = "names")]
    pub ca_namespaces: Vec<Name>,
    /// Who makes the instance.
    #[serde(default)]
    pub init: InitBy,
}

/// Who makes the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum InitBy {
    /// Whoever runs `key-service init`.
    #[default]
    Command,
    /// `serve` itself, when the ConfigMap `strongroom-init` asks for it and nothing of an instance is anywhere.
    Request,
}

impl KubernetesConfig {
    /// The namespaces of `strongroom-ca`, each once.
    #[must_use]
    pub fn authority_namespaces(&self) -> Vec<Name> {
        let mut namespaces = vec![self.namespace.clone()];
        for name in &self.ca_namespaces {
            if !namespaces.contains(name) {
                namespaces.push(name.clone());
            }
        }
        namespaces
    }
}

fn default_namespace() -> Name {
    "strongroom-system".parse().expect("a DNS label")
}

fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Name>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let names = names.iter().map(|name| name.parse());
    names.collect::<Result<_, _>>().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const SAMPLE: &str = include_str!("../../../config/key-service-incluster.yaml");

    fn refusal(text: &str) -> String {
        let error = Config::parse(text).expect_err("is refused");
        strongroom_runtime::Chain(&error).to_string()
    }

    #[test]
    fn sample_of_a_pod_is_valid() {
        let config = Config::parse(SAMPLE).expect("is valid");
        let kubernetes = config.kubernetes.expect("is there");
        assert_eq!(kubernetes.init, InitBy::Request);
        assert_eq!(kubernetes.kubeconfig, None);
        let namespaces = kubernetes.authority_namespaces();
        let namespaces: Vec<_> = namespaces.iter().map(Name::as_str).collect();
        assert_eq!(namespaces, ["strongroom-system", "strongroom-csi"]);
    }

    #[test]
    fn keys_that_nobody_knows_are_refused() {
        let text = SAMPLE.replace("  cluster: main\n", "");
        assert_ne!(text, SAMPLE);
        let message = refusal(&text);
        assert!(message.contains("keysFile and issuer"), "{message}");
    }

    #[test]
    fn cluster_that_is_not_registered_is_refused() {
        let message = refusal(&SAMPLE.replace("  cluster: main\n", "  cluster: west\n"));
        assert!(message.contains("kubernetes.cluster"), "{message}");
    }
}
