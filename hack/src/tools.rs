//! Programs that the tests run but that we do not write, built from pinned Go modules under `hack/tools`.
//! Each is built once into a cache folder named after the hash of its module files, so an unchanged module
//! is never built again and a changed one never meets a stale binary.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use aws_lc_rs::digest::{self, SHA256};

use crate::{paths, progress};

/// A pinned Go module and the programs that are built from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Module {
    /// The newest Kubernetes that is supported: API server and `kubectl`.
    Kubernetes,
    /// What the newest Kubernetes runs beside the API server when there are nodes.
    KubernetesNode,
    /// The oldest Kubernetes that is supported: API server only.
    KubernetesOldest,
    /// etcd and `etcdctl`.
    Etcd,
    /// The container runtime of nodes.
    Containerd,
    /// The name server of clusters with nodes.
    CoreDns,
    /// What installs our charts.
    Helm,
    /// What asks a CSI driver all that the specification says.
    CsiSanity,
}

/// The Go module of everything that is Kubernetes itself.
const KUBERNETES: &str = "k8s.io/kubernetes";

/// The files of a module that decide what is built.
const MODULE_FILES: [&str; 3] = ["go.mod", "go.sum", "tools.go"];

impl Module {
    /// Every module, quickest to build first.
    pub const ALL: [Self; 8] = [
        Self::CsiSanity,
        Self::Etcd,
        Self::Containerd,
        Self::CoreDns,
        Self::Helm,
        Self::Kubernetes,
        Self::KubernetesNode,
        Self::KubernetesOldest,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::KubernetesNode => "kubernetes-node",
            other => other.folder_name(),
        }
    }

    /// Names the folder of the module files. Programs that are wanted at different times share one.
    fn folder_name(self) -> &'static str {
        match self {
            Self::Kubernetes | Self::KubernetesNode => "kubernetes",
            Self::KubernetesOldest => "kubernetes-oldest",
            Self::Etcd => "etcd",
            Self::Containerd => "containerd",
            Self::CoreDns => "coredns",
            Self::Helm => "helm",
            Self::CsiSanity => "csi-sanity",
        }
    }

    fn is_kubernetes(self) -> bool {
        self.source() == KUBERNETES
    }

    /// The Go module whose version is the version of the programs.
    fn source(self) -> &'static str {
        match self {
            Self::Kubernetes | Self::KubernetesNode | Self::KubernetesOldest => KUBERNETES,
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::Containerd => "github.com/containerd/containerd/v2",
            Self::CoreDns => "github.com/coredns/coredns",
            Self::Helm => "helm.sh/helm/v4",
            Self::CsiSanity => "github.com/kubernetes-csi/csi-test/v5",
        }
    }

    /// The programs, each with its Go package.
    fn programs(self) -> &'static [(&'static str, &'static str)] {
        const API_SERVER: (&str, &str) = ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver");
        match self {
            Self::Kubernetes => &[API_SERVER, ("kubectl", "k8s.io/kubernetes/cmd/kubectl")],
            Self::KubernetesNode => &[
                ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
                ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
                ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
                (
                    "kube-controller-manager",
                    "k8s.io/kubernetes/cmd/kube-controller-manager",
                ),
            ],
            Self::KubernetesOldest => &[API_SERVER],
            // The last part of the package path is `v3`, hence the names.
            Self::Etcd => &[
                ("etcd", "go.etcd.io/etcd/server/v3"),
                ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
            ],
            Self::Containerd => &[
                (
                    "containerd",
                    "github.com/containerd/containerd/v2/cmd/containerd",
                ),
                (
                    "containerd-shim-runc-v2",
                    "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                ),
                ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ],
            // A program of our own: CoreDNS with few of its plugins.
            Self::CoreDns => &[("coredns", ".")],
            Self::CsiSanity => &[(
                "csi-sanity",
                "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity",
            )],
            Self::Helm => &[("helm", "helm.sh/helm/v4/cmd/helm")],
        }
    }

    fn folder(self) -> PathBuf {
        paths::checkout()
            .join("hack/tools")
            .join(self.folder_name())
    }

    /// Returns the version that `go.mod` pins, such as `v1.36.3`.
    pub fn version(self) -> Result<String> {
        let file = self.folder().join("go.mod");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file:?}"))?;
        pinned_version(&text, self.source())
            .with_context(|| format!("{file:?} does not require {}", self.source()))
    }

    /// Stamps that Go's build of a module leaves out. Clients misread a Kubernetes server without them.
    fn linker_flags(self, version: &str) -> String {
        let mut flags = "-s -w".to_owned();
        let parts: Vec<&str> = version.trim_start_matches('v').split('.').collect();
        if let (true, [major, minor, _]) = (self.is_kubernetes(), parts.as_slice()) {
            let package = "k8s.io/component-base/version";
            for (name, value) in [
                ("gitVersion", version),
                ("gitMajor", major),
                ("gitMinor", minor),
            ] {
                flags.push_str(&format!(" -X {package}.{name}={value}"));
            }
        }
        flags
    }

    /// Returns the folder for the binaries of exactly these module files.
    pub(crate) fn target(self) -> Result<PathBuf> {
        let mut hash = digest::Context::new(&SHA256);
        for name in MODULE_FILES {
            let file = self.folder().join(name);
            let bytes = fs::read(&file).with_context(|| format!("cannot read {file:?}"))?;
            hash.update(&(bytes.len() as u64).to_be_bytes());
            hash.update(&bytes);
        }
        let hash = hex::encode(&hash.finish().as_ref()[..8]);
        Ok(paths::cache()?
            .join("tools")
            .join(format!("{}-{hash}", self.name())))
    }
}

/// Returns the folder with the module's programs and builds them when they are not there yet.
pub fn ensure_built(module: Module) -> Result<PathBuf> {
    let target = module.target()?;
    if target.is_dir() {
        return Ok(target);
    }
    let _lock = lock(&target.with_extension("lock"))?;
    if target.is_dir() {
        return Ok(target);
    }
    let version = module.version()?;
    let names: Vec<&str> = module.programs().iter().map(|(name, _)| *name).collect();
    let what = format!("building {} {version}: {}", module.name(), names.join(", "));
    progress::step(&what, || build(module, &version, &target))?;
    Ok(target)
}

/// Builds into a folder beside the target and renames it, so that a half-built folder never counts.
fn build(module: Module, version: &str, target: &Path) -> Result<()> {
    let partial = target.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    for (name, package) in module.programs() {
        let output = Command::new("go")
            .current_dir(module.folder())
            .args(["build", "-trimpath", "-mod=readonly", "-ldflags"])
            .arg(module.linker_flags(version))
            .arg("-o")
            .arg(partial.join(name))
            .arg(package)
            .envs([("CGO_ENABLED", "0"), ("GOWORK", "off"), ("GOFLAGS", "")])
            .output()
            .context("cannot run `go`; install Go 1.26 or later and put it on PATH")?;
        if !output.status.success() {
            bail!(
                "`go build {package}` failed:\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
    }
    fs::rename(&partial, target).with_context(|| format!("cannot move {partial:?} to {target:?}"))
}

/// Waits until no other process builds the same thing. The lock ends with the returned file.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let folder = path.parent().context("a lock needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create {folder:?}"))?;
    let file = File::create(path).with_context(|| format!("cannot create {path:?}"))?;
    if file.try_lock().is_err() {
        progress::say(format_args!(
            "waiting for another process that holds {}",
            path.display()
        ));
        file.lock()?;
    }
    Ok(file)
}

/// Finds `<module> <version>` in the require lines of a go.mod.
fn pinned_version(go_mod: &str, module: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line
            .trim_start()
            .trim_start_matches("require ")
            .split_whitespace();
        (words.next() == Some(module)).then(|| words.next().map(str::to_owned))?
    })
}

/// Builds every module that is not in the cache.
pub fn ensure_all_built() -> Result<()> {
    ensure_go()?;
    for module in Module::ALL {
        ensure_built(module)?;
    }
    Ok(())
}

fn ensure_go() -> Result<()> {
    let found = Command::new("go")
        .arg("version")
        .output()
        .is_ok_and(|o| o.status.success());
    ensure!(found, "`go` is not on PATH; install Go 1.26 or later");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_is_read_from_a_single_line_and_from_a_block() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(
                pinned_version(text, "k8s.io/kubernetes").as_deref(),
                expected,
                "{text}"
            );
        };
        check(
            "module x\n\nrequire k8s.io/kubernetes v1.36.3\n",
            Some("v1.36.3"),
        );
        check(
            "require (\n\tk8s.io/api v0.1.0\n\tk8s.io/kubernetes v1.32.2\n)\n",
            Some("v1.32.2"),
        );
        check("require k8s.io/kubernetes-more v9.9.9\n", None);
    }

    #[test]
    fn kubernetes_is_stamped_with_its_version_and_etcd_is_not() {
        let flags = Module::KubernetesOldest.linker_flags("v1.32.2");
        for stamp in ["gitVersion=v1.32.2", "gitMajor=1", "gitMinor=32"] {
            assert!(flags.contains(stamp), "{flags}");
        }
        assert_eq!(Module::Etcd.linker_flags("v3.7.3"), "-s -w");
    }

    #[test]
    fn every_module_is_pinned_to_one_version() {
        for module in Module::ALL {
            assert!(module.version().unwrap().starts_with('v'), "{module:?}");
        }
    }
}
