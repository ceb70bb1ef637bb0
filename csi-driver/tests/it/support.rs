//! A mount namespace for each test, and a folder of pods in it.

pub(crate) mod fake;
pub(crate) mod stage;

use std::{
    any::type_name,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use strongroom_core::SecretBytes;
use strongroom_csi_driver::volume::{File, FileSet, MountTable, Place, Pods, Room, Target, Tmpfs};
use tempfile::TempDir;

/// Says to a copy of the test program that it is already in its own namespace.
const INSIDE: &str = "STRONGROOM_TEST_OWN_MOUNTS";

/// A pod's uid.
pub(crate) const UID: &str = "0b5a6fa4-9d0c-4d1f-8a39-5d6f0c7f4d11";

/// How volumes are made here.
pub(crate) const TMPFS: Tmpfs = Tmpfs {
    room: Room {
        bytes: 1 << 20,
        inodes: 256,
    },
    noswap: true,
};

/// Runs a test in a mount namespace of its own: in a copy of this program that runs this test alone.
pub(crate) fn in_own_mounts<F: FnOnce()>(test: F) {
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let output = again::<F>()
        .env(INSIDE, "1")
        .output()
        .expect("unshare can be run");
    let (said, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{}\n{said}\n{errors}", output.status);
}

/// Runs what waits, on a runtime of two threads as the driver has.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test);
}

/// A command that runs the test that a closure is in, in another mount namespace.
fn again<F>() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]);
    command.arg(env::current_exe().expect("the test is a program"));
    command.args(["--exact", &name::<F>(), "--nocapture"]);
    command
}

/// The same test in this namespace.
#[cfg(feature = "fault-points")]
pub(crate) fn once_more<F>(_: &F) -> Command {
    let mut command = Command::new(env::current_exe().expect("the test is a program"));
    command.args(["--exact", &name::<F>(), "--nocapture"]);
    command
}

/// `it::module::test::{{closure}}` without its ends.
fn name<F>() -> String {
    let closure = type_name::<F>();
    let test = closure.split("::{{closure}}").next().unwrap_or(closure);
    let (_, name) = test.split_once("::").expect("a test is in a module");
    name.to_owned()
}

/// A folder as kubelet has it, with the folder of one volume.
pub(crate) struct Kubelet {
    pub(crate) folder: TempDir,
    pub(crate) pods: Pods,
}

impl Kubelet {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pods");
        fs::create_dir(&path).unwrap();
        let kubelet = Self {
            pods: Pods::open(&path).unwrap(),
            folder,
        };
        let volume = kubelet.mount("secrets").parent().unwrap().to_owned();
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join("vol_data.json"), "{}").unwrap();
        kubelet
    }

    /// The mount point of a volume of the pod.
    pub(crate) fn mount(&self, volume: &str) -> PathBuf {
        let path = format!("pods/{UID}/volumes/kubernetes.io~csi/{volume}/mount");
        self.folder.path().join(path)
    }

    pub(crate) fn target(&self, volume: &str) -> Target {
        Target::parse(self.mount(volume).to_str().unwrap(), self.pods.path()).unwrap()
    }

    pub(crate) fn place(&self) -> Place {
        self.pods.place(&self.target("secrets")).unwrap().unwrap()
    }

    /// Publishes files as the driver does, and returns where.
    pub(crate) fn publish(&self, files: &FileSet) -> PathBuf {
        let volume = TMPFS.create().unwrap();
        strongroom_csi_driver::volume::write(volume.root().unwrap(), files).unwrap();
        self.place().publish(volume, &TMPFS).unwrap();
        self.mount("secrets")
    }
}

/// Files with the default mode, of root and a group.
pub(crate) fn files(contents: &[(&str, &str)]) -> FileSet {
    let mut files = FileSet::default();
    for (path, content) in contents {
        files.add(path, file(0o440, 0, 1000, content)).unwrap();
    }
    files
}

pub(crate) fn file(mode: u32, uid: u32, gid: u32, content: &str) -> File {
    File {
        mode,
        uid,
        gid,
        content: SecretBytes::copy_from(content.as_bytes()),
    }
}

/// Mode, owner and group of what is at a path itself.
pub(crate) fn place_of(path: &Path) -> (u32, u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    (mode, metadata.uid(), metadata.gid())
}

/// How many volumes are mounted below a path.
pub(crate) fn mounts_below(path: &Path) -> usize {
    let table = MountTable::load().unwrap();
    table
        .ours()
        .filter(|mounted| Path::new(&mounted.point).starts_with(path))
        .count()
}

/// The names in a folder, sorted.
pub(crate) fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
