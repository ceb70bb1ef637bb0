//! The commands of the how-to, as they stand on the page, on a control plane that really runs.
//!
//! They write to `/etc`, `/run` and `/var`, so these are covered by folders of the test, which only the
//! namespace of the cluster sees.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder, File, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use strongroom_e2e::{envelope, page, world::secret_path};
use strongroom_hack::{
    cluster::{Health, Options, ScopedCluster},
    paths,
    programs::{Build, Programs},
};

const PAGE: &str = include_str!("../../docs/how-to/encrypt-etcd-by-hand.md");

/// The API server asks for the key in use sooner while its readiness is probed, as a kubelet does.
const PROBE: &str =
    "while sleep 1; do kubectl get --raw /readyz/kms-providers; done >/dev/null 2>&1 & probe=$!";

#[test]
fn commands_of_the_how_to_work_as_they_stand_there() -> Result<()> {
    let node = Node::start()?;
    let create = ["create", "secret", "generic", "one", "--from-literal=a=b"];
    node.cluster.kubectl(&create)?;
    assert!(envelope::parse(&node.raw()?).is_err());

    for number in 1..=5 {
        node.run(&blocks(number)?.join("\n"))?;
    }
    let [configuration, write_all] = &blocks(6)?[..] else {
        panic!("section 6 has two blocks of commands");
    };
    node.run(configuration)?;
    let encryption = node.run("cat /etc/strongroom/encryption.yaml")?;
    node.cluster.replace_encryption(&encryption)?;
    node.cluster.restart_api_server(Health::Ready)?;
    node.run(write_all)?;
    let before = envelope::parse(&node.raw()?)?;

    let [rotate, verify] = &blocks(7)?[..] else {
        panic!("section 7 has two blocks of commands");
    };
    node.run(&format!("{PROBE}\n{rotate}\nkill $probe"))?;
    assert_ne!(envelope::parse(&node.raw()?)?.key_id, before.key_id);
    let said = node.run(verify)?;
    assert!(said.contains("Complete up to the witness."), "{said}");
    Ok(())
}

fn blocks(section: u32) -> Result<Vec<&'static str>> {
    page::blocks(PAGE, section)
}

/// A control-plane node with our programs in the `PATH`.
struct Node {
    cluster: ScopedCluster,
    folder: PathBuf,
}

impl Node {
    fn start() -> Result<Self> {
        let programs = Programs::ensure_built(Build::Plain)?;
        let cluster = ScopedCluster::up(Options::new("e2e-howto".parse()?))?;
        let folder = cluster.layout().root().join("node");
        let mut builder = DirBuilder::new();
        builder.mode(0o755).create(&folder)?;
        for name in ["etc", "work", "lib", "log", "home"] {
            builder.create(folder.join(name))?;
            // Whatever the mask says: the programs' users must pass.
            fs::set_permissions(folder.join(name), Permissions::from_mode(0o755))?;
        }
        let node = Self { cluster, folder };
        node.cover(programs.folder())?;
        Ok(node)
    }

    fn cover(&self, programs: &Path) -> Result<()> {
        let (folder, programs) = (self.folder.display(), programs.display());
        self.run(&format!(
            "mount -t overlay -o lowerdir=/etc,upperdir={folder}/etc,workdir={folder}/work overlay /etc\n\
             mount -t tmpfs -o mode=0755 tmpfs /run\n\
             mount --bind {folder}/lib /var/lib\n\
             mount --bind {folder}/log /var/log\n\
             mount --bind {programs} /usr/local/bin"
        ))
        .map(drop)
    }

    /// Runs commands as root, in the folder of the checkout, and returns what they print.
    ///
    /// Into a file, since programs that they start in the background would keep a pipe open.
    fn run(&self, commands: &str) -> Result<String> {
        let output = self.folder.join("output");
        let file = File::create(&output)?;
        let mut command = self.cluster.namespace().member_command("timeout");
        command.args(["120", "sh", "-euc"]);
        command.arg(format!("cd '{}'\n{commands}", paths::checkout().display()));
        command
            .env("HOME", self.folder.join("home"))
            .env("KUBECONFIG", self.cluster.layout().kubeconfig())
            .env("PATH", self.path()?)
            .stdout(file.try_clone()?)
            .stderr(file);
        let status = command.status()?;
        let said = fs::read_to_string(&output)?;
        ensure!(status.success(), "{status}: {commands}\n{said}");
        Ok(said)
    }

    fn path(&self) -> Result<String> {
        let folders = self.cluster.client_folders();
        let kubectl = folders.first().context("kubectl was built")?;
        Ok(format!(
            "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:{}",
            kubectl.display()
        ))
    }

    fn raw(&self) -> Result<Vec<u8>> {
        let entry = self.cluster.etcd_get(&secret_path("one"))?;
        Ok(entry.context("the Secret is in etcd")?.value)
    }
}
