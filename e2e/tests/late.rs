//! Volumes that are mounted late, and an agent that comes late: the programs that need them live on and name them, write
//! nothing into the folder below the mount, and go on by themselves.
#![forbid(unsafe_code)]

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::PathBuf,
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use strongroom_api::kubernetes::kms::v2::EncryptResponse;
use strongroom_e2e::{
    plugin::Plugin,
    world::{installation, run, wait},
};
use strongroom_hack::installation::{Installation, Program};

/// On a machine that also compiles.
const LIMIT: Duration = Duration::from_secs(60);
/// Some looks of a program that waits.
const LOOKS: Duration = Duration::from_secs(2);
const SEED: &[u8] = b"a seed of before";

#[test]
fn late_volumes_and_agents_are_waited_for_by_name() -> Result<()> {
    let mut installation = installation("late", 28600)?;
    installation.bring_up()?;
    let plugin = Plugin::new(&installation)?;
    let sealed = plugin.encrypt(SEED)?;
    let mut story = Story {
        installation,
        plugin,
        sealed,
    };
    use Program::{HsmAgent, KeyService, KmsPlugin};
    let names = |program, condition, sentence| Named {
        program,
        condition,
        sentence,
    };
    let no_store = names(KeyService, "store", "holds nothing of an instance");
    let no_log = names(KeyService, "audit", "holds no audit log: mount its disk");
    let no_tokens = names(HsmAgent, "token", "the folder of tokens");
    let no_token = names(KeyService, "hsm", "TokenMissing: the folder of tokens");
    let no_state = names(KmsPlugin, "state", "mount the volume of the state");

    story.volumes_are_late(&["service"], &[no_store])?;
    story.volumes_are_late(&["audit"], &[no_log])?;
    story.volumes_are_late(&["agent"], &[no_tokens, no_token])?;
    // Each is named at once, and not one after the other.
    story.volumes_are_late(&["agent", "audit"], &[no_tokens, no_token, no_log])?;
    story.volumes_are_late(&["plugin"], &[no_state])?;
    let all = ["agent", "audit", "plugin", "service"];
    story.volumes_are_late(&all, &[no_tokens, no_store, no_state])?;
    story.agent_is_late()?;
    story.pin_is_late()?;
    story.clean_up()
}

/// What a program says while it waits.
#[derive(Clone, Copy, Debug)]
struct Named {
    program: Program,
    condition: &'static str,
    sentence: &'static str,
}

struct Story {
    installation: Installation,
    plugin: Plugin,
    sealed: EncryptResponse,
}

impl Story {
    /// Starts everything without some volumes, and mounts them when what is missing was named.
    fn volumes_are_late(&mut self, folders: &[&str], named: &[Named]) -> Result<()> {
        self.installation.stop_all()?;
        let volumes: Result<Vec<Volume>> = folders
            .iter()
            .map(|folder| Volume::away(&self.installation, folder))
            .collect();
        let volumes = volumes?;
        self.start(&Program::ALL)?;
        self.check_waiting(named)
            .with_context(|| format!("{folders:?} are late"))?;
        for volume in &volumes {
            volume.check_empty()?;
        }
        for volume in &volumes {
            volume.mount()?;
        }
        self.check_goes_on(&Program::ALL)
            .with_context(|| format!("{folders:?} are here"))?;
        self.installation.stop_all()?;
        for volume in volumes {
            volume.put_back()?;
        }
        Ok(())
    }

    fn agent_is_late(&mut self) -> Result<()> {
        self.installation.stop_all()?;
        self.start(&[Program::KeyService, Program::KmsPlugin])?;
        let named = Named {
            program: Program::KeyService,
            condition: "hsm",
            sentence: "nobody answers on",
        };
        self.check_waiting(&[named])?;
        self.start(&[Program::HsmAgent])?;
        self.check_goes_on(&Program::ALL)
    }

    fn pin_is_late(&mut self) -> Result<()> {
        self.installation.stop_all()?;
        let pin = self.installation.path("agent/pin");
        let away = self.installation.path("agent/pin.away");
        fs::rename(&pin, &away)?;
        self.start(&Program::ALL)?;
        let named = |program, condition| Named {
            program,
            condition,
            sentence: "the PIN file",
        };
        self.check_waiting(&[
            named(Program::HsmAgent, "token"),
            named(Program::KeyService, "hsm"),
        ])?;
        fs::rename(&away, &pin)?;
        self.check_goes_on(&Program::ALL)
    }

    fn start(&mut self, programs: &[Program]) -> Result<()> {
        for program in programs {
            self.installation.start(*program, &[])?;
        }
        Ok(())
    }

    fn check_waiting(&self, named: &[Named]) -> Result<()> {
        for named in named {
            self.says(named)?;
        }
        thread::sleep(LOOKS);
        for named in named {
            self.says(named)?;
        }
        ensure!(
            self.plugin.status().is_err(),
            "the API server hears of a key that cannot be used"
        );
        Ok(())
    }

    /// Waits until a program says a sentence of a condition. It is alive, and not ready.
    fn says(&self, named: &Named) -> Result<()> {
        let Named {
            program,
            condition,
            sentence,
        } = *named;
        wait(LIMIT, &format!("{named:?}"), || {
            let answer = self.installation.probe(program, "/readyz")?;
            let mut lines = answer.body.lines();
            let line = lines.find(|line| line.starts_with(&format!("{condition}: ")));
            let line = line.with_context(|| answer.body.clone())?;
            ensure!(line.contains(sentence), "{line}");
            Ok(answer.status == 503)
        })?;
        let live = self.installation.probe(program, "/healthz")?;
        ensure!(live.status == 200, "{}", live.body);
        Ok(())
    }

    /// Nothing was restarted, and what was sealed before opens.
    fn check_goes_on(&self, programs: &[Program]) -> Result<()> {
        for program in programs {
            self.installation.wait_ready(*program)?;
        }
        wait(LIMIT, "the plugin opens", || {
            Ok(self.plugin.decrypt(&self.sealed)? == SEED)
        })?;
        let key_id = self.plugin.encrypt(b"a seed of after")?.key_id;
        ensure!(key_id == self.sealed.key_id, "another key: {key_id}");
        Ok(())
    }

    fn clean_up(mut self) -> Result<()> {
        self.installation.stop_all()?;
        Ok(fs::remove_dir_all(self.installation.path(""))?)
    }
}

/// A folder of the installation as a volume: taken away, an empty folder lies in its place.
struct Volume {
    at: PathBuf,
    kept: PathBuf,
}

impl Volume {
    fn away(installation: &Installation, folder: &str) -> Result<Self> {
        let volume = Self {
            at: installation.path(folder),
            kept: installation.path(&format!("{folder}.volume")),
        };
        fs::rename(&volume.at, &volume.kept)?;
        fs::create_dir(&volume.at)?;
        // Where the program may write, nothing but its care keeps it from doing so. The plugin's folder stays root's: an empty
        // one of its own is a first start.
        if folder != "plugin" {
            let owner = fs::metadata(&volume.kept)?;
            chown(&volume.at, Some(owner.uid()), Some(owner.gid()))?;
            fs::set_permissions(&volume.at, owner.permissions())?;
        }
        Ok(volume)
    }

    fn check_empty(&self) -> Result<()> {
        let written = fs::read_dir(&self.at)?.count();
        ensure!(written == 0, "something was written into {:?}", self.at);
        Ok(())
    }

    fn mount(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        run(mount.arg("--bind").args([&self.kept, &self.at])).map(drop)
    }

    /// Undoes both, so that the folder is an ordinary one again. What lies below must be as empty as it was.
    fn put_back(self) -> Result<()> {
        run(Command::new("umount").arg(&self.at))?;
        self.check_empty()?;
        fs::remove_dir(&self.at)?;
        Ok(fs::rename(&self.kept, &self.at)?)
    }
}
