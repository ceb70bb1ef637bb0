//! The disk of the audit log is full: administrators are refused with a typed error, and the API server still restarts
//! and reads, on space that is kept for it.
#![forbid(unsafe_code)]

use std::{
    fs::{self, File},
    io::Write,
    path::PathBuf,
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use strongroom_api::strongroom::v1::DescribeInstanceRequest;
use strongroom_e2e::{
    native::Native,
    world::{World, run, wait},
};
use strongroom_hack::cluster::{Health, Release};
use tonic::Code;

const DISK_MIB: u64 = 24;

#[test]
fn api_server_restarts_while_the_audit_disk_is_full() -> Result<()> {
    let disk = Disk::mount()?;
    let world = World::start_with("full-disk", 27100, Release::Newest, |settings| {
        settings.audit_dir = Some(disk.path.join("audit"));
    })?;
    world.encrypt_secrets()?;
    world.create_secret("one", "still-here")?;

    let filler = disk.fill()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let code = runtime.block_on(refusal(&world))?;
    ensure!(code == Code::ResourceExhausted, "a full disk gave {code:?}");
    world.cluster.restart_api_server(Health::Ready)?;
    ensure!(
        world.secret("one")? == "still-here",
        "the Secret is not read"
    );
    ensure!(
        world.plugin_calls("Decrypt")? > 0,
        "the seed was not asked for"
    );

    fs::remove_file(filler)?;
    wait(
        Duration::from_secs(30),
        "administrators are served again",
        || Ok(runtime.block_on(describe(&world))?.is_none()),
    )?;
    world.clean_up()
}

/// Asks until it is refused: what the file system had begun to give is used up first.
async fn refusal(world: &World) -> Result<Code> {
    for _ in 0..100_000 {
        if let Some(code) = describe(world).await? {
            return Ok(code);
        }
    }
    anyhow::bail!("the disk is full, and administrators are served")
}

/// The code of a refusal, or nothing.
async fn describe(world: &World) -> Result<Option<Code>> {
    let native = Native::connect(&world.installation, "administrator").await?;
    let mut instance = native.instance();
    for _ in 0..100 {
        if let Err(status) = instance.describe(DescribeInstanceRequest {}).await {
            return Ok(Some(status.code()));
        }
    }
    Ok(None)
}

/// A small file system of its own.
struct Disk {
    image: PathBuf,
    path: PathBuf,
}

impl Disk {
    fn mount() -> Result<Self> {
        let base = PathBuf::from("/var/lib/strongroom-test");
        let name = format!("disk-{}", std::process::id());
        let disk = Self {
            image: base.join(format!("{name}.img")),
            path: base.join(name),
        };
        fs::create_dir_all(&disk.path)?;
        File::create(&disk.image)?.set_len(DISK_MIB << 20)?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&disk.image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&disk.image)
            .arg(&disk.path))?;
        Ok(disk)
    }

    /// Takes all space that is left.
    fn fill(&self) -> Result<PathBuf> {
        let path = self.path.join("filler");
        let mut file = File::create(&path)?;
        for size in [1 << 20, 4096, 1] {
            let block = vec![b'x'; size];
            while file.write_all(&block).is_ok() {}
        }
        // The last write that succeeded may still be in memory only.
        let _ = file.sync_all();
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = run(Command::new("umount").arg("--lazy").arg(&self.path));
        if unmounted.is_ok() {
            let _ = fs::remove_dir(&self.path);
            let _ = fs::remove_file(&self.image);
        }
    }
}
