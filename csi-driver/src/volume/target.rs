//! Where kubelet wants a volume: taken apart, checked and put together again, so that no path of a request is ever used.

use std::{fmt, path::Path};

/// The folder of a CSI volume, as kubelet lays it out below `pods`.
const VOLUMES: &str = "volumes/kubernetes.io~csi";
/// The last part of every target path.
pub(super) const MOUNT: &str = "mount";
/// A uid is a UUID, or the hash of a static pod.
const UID_BYTES_MAX: usize = 63;
/// A volume's name is a DNS label.
const NAME_BYTES_MAX: usize = 63;

/// The volume of a pod. Its text is `POD-UID/VOLUME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pod_uid: String,
    volume: String,
}

/// A path is not where kubelet publishes volumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "target_path is not KUBELET_DIR/pods/POD_UID/volumes/kubernetes.io~csi/VOLUME/mount; kubeletDir in the driver's \
     configuration must be kubelet's root directory"
)]
pub struct InvalidTarget;

impl Target {
    /// Reads a target path; `pods` is kubelet's folder of pods.
    ///
    /// # Errors
    ///
    /// When it is not exactly what kubelet would say.
    pub fn parse(path: &str, pods: &Path) -> Result<Self, InvalidTarget> {
        let pods = pods.to_str().ok_or(InvalidTarget)?;
        let rest = path.strip_prefix(pods).ok_or(InvalidTarget)?;
        let rest = rest.strip_prefix('/').ok_or(InvalidTarget)?;
        let (pod_uid, rest) = rest.split_once('/').ok_or(InvalidTarget)?;
        let rest = rest.strip_prefix(VOLUMES).ok_or(InvalidTarget)?;
        let rest = rest.strip_prefix('/').ok_or(InvalidTarget)?;
        let (volume, last) = rest.split_once('/').ok_or(InvalidTarget)?;
        let is_word = |text: &str, longest: usize| {
            (1..=longest).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if last != MOUNT || !is_word(pod_uid, UID_BYTES_MAX) || !is_word(volume, NAME_BYTES_MAX) {
            return Err(InvalidTarget);
        }
        Ok(Self {
            pod_uid: pod_uid.to_owned(),
            volume: volume.to_owned(),
        })
    }

    /// The pod's uid.
    pub fn pod_uid(&self) -> &str {
        &self.pod_uid
    }

    /// The folder that holds the mount point, relative to kubelet's folder of pods.
    pub(super) fn folder(&self) -> String {
        let Self { pod_uid, volume } = self;
        format!("{pod_uid}/{VOLUMES}/{volume}")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pod_uid, self.volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0b5a6fa4-9d0c-4d1f-8a39-5d6f0c7f4d11";

    fn parse(path: &str) -> Result<Target, InvalidTarget> {
        Target::parse(path, Path::new("/var/lib/kubelet/pods"))
    }

    #[test]
    fn what_kubelet_says_is_taken_apart_and_put_together_again() {
        let path = format!("/var/lib/kubelet/pods/{UID}/volumes/kubernetes.io~csi/secrets/mount");
        let target = parse(&path).unwrap();
        assert_eq!(target.pod_uid(), UID);
        assert_eq!(target.to_string(), format!("{UID}/secrets"));
        assert_eq!(
            format!("/var/lib/kubelet/pods/{}/mount", target.folder()),
            path
        );
    }

    #[test]
    fn nothing_else_is_a_target() {
        for path in [
            "",
            "some/path",
            "/var/lib/kubelet/pods",
            "/var/lib/kubelet/pods//volumes/kubernetes.io~csi/secrets/mount",
            "/var/lib/kubelet/pods/../volumes/kubernetes.io~csi/secrets/mount",
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~csi/../mount",
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~csi/secrets/mount/",
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~csi/secrets/mount/..",
            "/var/lib/kubelet/pods/uid/volumes/kubernetes.io~secret/secrets/mount",
            "/var/lib/kubelet/pods-of-others/uid/volumes/kubernetes.io~csi/secrets/mount",
            "/etc/uid/volumes/kubernetes.io~csi/secrets/mount",
        ] {
            assert_eq!(parse(path), Err(InvalidTarget), "{path:?}");
        }
    }
}
