//! What this node's kube-apiserver says of itself, in its static pod, and what an EncryptionConfiguration says.

use std::{net::IpAddr, path::PathBuf};

use serde_yaml_ng::Value;

use super::layout::{API_SERVER_SOCKETS, ENCRYPTION};

/// The oldest minor version of Kubernetes 1 whose API server can talk to the plugin.
const OLDEST_MINOR: u32 = 32;

/// The static pod of kube-apiserver, as far as it matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ApiServer {
    /// The value of `--encryption-provider-config`.
    pub(super) encryption: Option<PathBuf>,
    pub(super) advertise_address: Option<IpAddr>,
    /// Version of the image, such as `v1.36.3`.
    pub(super) version: Option<String>,
    pub(super) folders: Vec<PathBuf>,
    pub(super) reloads: bool,
    /// Image of the init container that waits for the plugin.
    pub(super) waits_with: Option<String>,
}

impl ApiServer {
    /// Reads the manifest; `None` when it is not one.
    pub(super) fn parse(manifest: &str) -> Option<Self> {
        let pod: Value = serde_yaml_ng::from_str(manifest).ok()?;
        let container = pod.get("spec")?.get("containers")?.get(0)?;
        let words: Vec<&str> = ["command", "args"]
            .iter()
            .filter_map(|field| container.get(field)?.as_sequence())
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let flag = |name: &str| {
            words.iter().find_map(|word| {
                word.strip_prefix("--")?
                    .strip_prefix(name)?
                    .strip_prefix('=')
            })
        };
        let volumes = pod.get("spec")?.get("volumes").and_then(Value::as_sequence);
        let folders = volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| volume.get("hostPath")?.get("path")?.as_str())
            .map(PathBuf::from);
        let image = container.get("image").and_then(Value::as_str);
        Some(Self {
            encryption: flag("encryption-provider-config").map(PathBuf::from),
            advertise_address: flag("advertise-address").and_then(|text| text.parse().ok()),
            version: image.and_then(version),
            folders: folders.collect(),
            reloads: flag("encryption-provider-config-automatic-reload") == Some("true"),
            waits_with: waits_with(&pod),
        })
    }

    pub(super) fn is_too_old(&self) -> bool {
        let minor = self.version.as_deref().and_then(|version| {
            let rest = version.strip_prefix("v1.")?;
            rest.split('.').next()?.parse::<u32>().ok()
        });
        minor.is_some_and(|minor| minor < OLDEST_MINOR)
    }

    /// The flags that it does not have yet.
    pub(super) fn missing_flags(&self) -> Vec<String> {
        let mut flags = Vec::new();
        if self.encryption.is_none() {
            flags.push(format!("--encryption-provider-config={ENCRYPTION}"));
        }
        if !self.reloads {
            flags.push("--encryption-provider-config-automatic-reload=true".to_owned());
        }
        flags
    }

    /// The folders that its pod does not mount yet.
    pub(super) fn missing_folders(&self) -> Vec<PathBuf> {
        let configuration = PathBuf::from(ENCRYPTION);
        [configuration.parent(), Some(API_SERVER_SOCKETS.as_ref())]
            .into_iter()
            .flatten()
            .filter(|folder| {
                !self
                    .folders
                    .iter()
                    .any(|mounted| folder.starts_with(mounted))
            })
            .map(PathBuf::from)
            .collect()
    }
}

/// The image of the init container that runs `kms-plugin wait`.
fn waits_with(pod: &Value) -> Option<String> {
    let containers = pod.get("spec")?.get("initContainers")?.as_sequence()?;
    containers.iter().find_map(|container| {
        let image = container.get("image")?.as_str()?;
        let first = container.get("args")?.get(0)?.as_str()?;
        (image.contains("kms-plugin") && first == "wait").then(|| image.to_owned())
    })
}

/// The version in an image's tag.
fn version(image: &str) -> Option<String> {
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit_once(':')?;
    tag.starts_with("v1.").then(|| tag.to_owned())
}

/// Tells whether an EncryptionConfiguration writes some resource in the clear although it names our provider for it.
pub(super) fn identity_is_first(configuration: &str) -> bool {
    let Ok(value) = serde_yaml_ng::from_str::<Value>(configuration) else {
        return false;
    };
    let resources = value.get("resources").and_then(Value::as_sequence);
    resources.into_iter().flatten().any(|resource| {
        let providers = resource.get("providers").and_then(Value::as_sequence);
        let first = providers.and_then(|providers| providers.first());
        first.is_some_and(|provider| provider.get("identity").is_some())
    })
}

/// Tells whether a plugin's configuration names key services on other nodes.
pub(super) fn is_remote(plugin_configuration: &str) -> bool {
    serde_yaml_ng::from_str::<Value>(plugin_configuration)
        .ok()
        .and_then(|value| Some(value.get("keyService")?.get("endpoints").is_some()))
        .unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "\
apiVersion: v1
kind: Pod
spec:
  containers:
  - command:
    - kube-apiserver
    - --advertise-address=192.0.2.10
    - --encryption-provider-config=/etc/kubernetes/encryption.yaml
    image: registry.example/kube-apiserver:v1.31.4
  volumes:
  - hostPath: {path: /etc/kubernetes/pki}
";

    #[test]
    fn manifest_tells_version_address_and_configuration() {
        let server = ApiServer::parse(MANIFEST).unwrap();
        assert_eq!(server.advertise_address, Some([192, 0, 2, 10].into()));
        assert_eq!(
            server.encryption,
            Some("/etc/kubernetes/encryption.yaml".into())
        );
        assert!(server.is_too_old());
        let newer = ApiServer::parse(&MANIFEST.replace("v1.31.4", "v1.32.0")).unwrap();
        assert!(!newer.is_too_old());
    }

    #[test]
    fn only_what_is_missing_is_asked_for() {
        let server = ApiServer::parse(MANIFEST).unwrap();
        assert_eq!(
            server.missing_flags(),
            ["--encryption-provider-config-automatic-reload=true"]
        );
        assert_eq!(server.missing_folders().len(), 2);
        let mounted = MANIFEST.replace("/etc/kubernetes/pki", "/etc/strongroom/apiserver");
        let server = ApiServer::parse(&mounted).unwrap();
        assert_eq!(
            server.missing_folders(),
            [PathBuf::from(API_SERVER_SOCKETS)]
        );
        assert_eq!(ApiServer::parse("just text"), None);
    }

    #[test]
    fn only_an_init_container_that_waits_for_the_plugin_counts() {
        let image_of = |container: &str| {
            let more = format!("  initContainers:\n  - {container}\n");
            ApiServer::parse(&format!("{MANIFEST}{more}"))
                .unwrap()
                .waits_with
        };
        let image = "registry.example/kms-plugin:1";
        assert_eq!(
            image_of(&format!("{{image: '{image}', args: [wait, --socket=/s]}}")),
            Some(image.to_owned())
        );
        assert_eq!(
            image_of(&format!("{{image: '{image}', args: [serve]}}")),
            None
        );
        assert_eq!(image_of("{image: busybox, args: [wait]}"), None);
        assert_eq!(ApiServer::parse(MANIFEST).unwrap().waits_with, None);
    }

    #[test]
    fn identity_first_is_seen_in_any_entry() {
        let entry = |providers: &str| {
            format!("resources:\n- resources: [secrets]\n  providers: [{providers}]\n")
        };
        assert!(!identity_is_first(&entry(
            "{kms: {name: strongroom}}, {identity: {}}"
        )));
        assert!(identity_is_first(&entry(
            "{identity: {}}, {kms: {name: strongroom}}"
        )));
        assert!(!identity_is_first("nothing"));
    }

    #[test]
    fn plugin_with_endpoints_asks_another_node() {
        assert!(is_remote("keyService: {endpoints: [192.0.2.1:8444]}"));
        assert!(!is_remote("keyService: {socket: /a, uid: 2001}"));
    }
}
