//! The three programs without a cluster, for stories that kill them: what they sealed and what they acknowledged is
//! remembered, and compared after every end.

use std::{fs, future::Future, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use strongroom_api::{
    kubernetes::kms::v2::EncryptResponse,
    strongroom::v1::{DescribeInstanceRequest, DescribeKeyRequest, Key, RotateKeyRequest},
};
use strongroom_hack::{
    installation::{Installation, Program, Settings},
    programs::{Build, Programs},
};
use tokio::runtime::Runtime;

use crate::{dump::Dump, native::Native, plugin::Plugin, watched::Watched, world::wait};

/// `audit verify`: the log is consistent, but nobody witnessed its end.
const TAIL_UNPROVEN: i32 = 3;
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// An installation whose programs come and go.
pub struct Stage {
    /// Folders and configuration.
    pub installation: Installation,
    /// The API server's place.
    pub plugin: Plugin,
    running: Vec<(Program, Watched)>,
    fingerprint: String,
    runtime: Runtime,
    root: PathBuf,
    seeds: Vec<(Vec<u8>, EncryptResponse)>,
}

impl Stage {
    /// Lays an installation out; nothing is initialised or started.
    ///
    /// # Errors
    /// When the programs do not compile or the folders cannot be made.
    pub fn lay_out(
        name: &str,
        first_port: u16,
        build: Build,
        change: impl FnOnce(&mut Settings),
    ) -> Result<Self> {
        let root = PathBuf::from("/var/lib/strongroom-test")
            .join(format!("{name}-{}", std::process::id()));
        let programs = Programs::ensure_built(build)?;
        let mut settings = Settings::new(&root, programs.folder(), first_port);
        change(&mut settings);
        let installation = Installation::lay_out(settings)?;
        Ok(Self {
            plugin: Plugin::new(&installation)?,
            installation,
            running: Vec::new(),
            fingerprint: String::new(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            root,
            seeds: Vec::new(),
        })
    }

    /// Initialises token and instance, starts everything and seals a first seed.
    ///
    /// # Errors
    /// With what did not come up.
    pub fn bring_up(&mut self) -> Result<()> {
        self.installation.init(Program::HsmAgent)?;
        self.bring_up_made()
    }

    /// The same beside a token that was made already.
    ///
    /// # Errors
    /// As `bring_up`.
    pub fn bring_up_made(&mut self) -> Result<()> {
        self.start(Program::HsmAgent, "")?;
        self.wait_answering(Program::HsmAgent)?;
        // It answers its probes before it has its socket.
        let socket = self.installation.path("run/hsm/agent.sock");
        wait(ANSWER_LIMIT, "the agent listens", || Ok(socket.exists()))?;
        self.open()
    }

    /// Finishes `init` of the key service beside a running agent, starts the rest and seals a first seed.
    ///
    /// # Errors
    /// With what did not come up.
    pub fn open(&mut self) -> Result<()> {
        let summary = self.installation.init(Program::KeyService)?;
        let fingerprint = summary
            .lines()
            .find_map(|line| line.strip_prefix("audit fingerprint: "));
        fingerprint
            .context("init printed no fingerprint")?
            .trim()
            .clone_into(&mut self.fingerprint);
        self.recover()?;
        self.installation.administrator("administrator")?;
        self.seal()
    }

    /// Starts a program with fault points; an empty text sets none.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, program: Program, faults: &str) -> Result<()> {
        // Two processes of one program would fight for its folder.
        self.running.retain(|(running, _)| *running != program);
        let watched = Watched::start(&self.installation, program, faults)?;
        self.running.push((program, watched));
        Ok(())
    }

    /// The running process of a program.
    ///
    /// # Errors
    /// When it was not started.
    pub fn process(&mut self, program: Program) -> Result<&mut Watched> {
        find(&mut self.running, program)
    }

    /// Waits until a program is ready.
    ///
    /// # Errors
    /// When it ends or takes too long.
    pub fn wait_ready(&mut self, program: Program) -> Result<()> {
        find(&mut self.running, program)?.wait_ready(&self.installation)
    }

    /// Waits until a program answers its probes, ready or not.
    ///
    /// # Errors
    /// As `wait_ready`.
    pub fn wait_answering(&mut self, program: Program) -> Result<()> {
        find(&mut self.running, program)?.wait_answering(&self.installation)
    }

    /// Does what a kubelet does: starts what has ended, and waits until everything is ready.
    ///
    /// # Errors
    /// When a program needs more than that.
    pub fn recover(&mut self) -> Result<()> {
        for program in Program::ALL {
            let runs = match self.process(program) {
                Ok(watched) => watched.is_alive()?,
                Err(_) => false,
            };
            if !runs {
                self.start(program, "")?;
            }
        }
        for program in Program::ALL {
            self.wait_ready(program)?;
        }
        // The plugin is ready on the word of its last probe; its connection may still be that of a process now gone.
        wait(ANSWER_LIMIT, "the plugin seals", || {
            Ok(self.plugin.encrypt(&[0; 32]).map(|_| true)?)
        })
    }

    /// Seals a random seed and remembers both.
    ///
    /// # Errors
    /// As the plugin.
    pub fn seal(&mut self) -> Result<()> {
        let mut seed = vec![0; 32];
        aws_lc_rs::rand::fill(&mut seed)?;
        let sealed = self.plugin.encrypt(&seed)?;
        self.seeds.push((seed, sealed));
        Ok(())
    }

    /// Opens every seed that was ever sealed.
    ///
    /// # Errors
    /// When one does not open, or to something else.
    pub fn check_seeds(&self) -> Result<()> {
        for (seed, sealed) in &self.seeds {
            let opened = self.plugin.decrypt(sealed)?;
            ensure!(opened == *seed, "a seed opens to another one");
        }
        Ok(())
    }

    /// What the store holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn dump(&self) -> Result<Dump> {
        Dump::of(&self.installation)
    }

    /// Rotates etcd's key.
    ///
    /// # Errors
    /// As the key service.
    pub fn rotate(&self) -> Result<Key> {
        self.native(async |native, ring_id, key| {
            let request = RotateKeyRequest {
                ring_id,
                key,
                etag: String::new(),
            };
            Ok(native.keys().rotate_key(request).await?.into_inner())
        })
    }

    /// Etcd's key as administrators see it.
    ///
    /// # Errors
    /// As the key service.
    pub fn describe(&self) -> Result<Key> {
        self.native(async |native, ring_id, key| {
            let request = DescribeKeyRequest { ring_id, key };
            Ok(native.keys().describe_key(request).await?.into_inner())
        })
    }

    /// Asks the key service as an administrator; the call gets the ids of the system ring and of etcd's key.
    ///
    /// # Errors
    /// As the key service.
    pub fn native<T>(
        &self,
        act: impl AsyncFnOnce(Native, String, String) -> Result<T>,
    ) -> Result<T> {
        self.runtime.block_on(async {
            let native = Native::connect(&self.installation, "administrator").await?;
            let instance = native
                .instance()
                .describe(DescribeInstanceRequest {})
                .await?;
            let instance = instance.into_inner();
            act(native, instance.system_ring_id, instance.etcd_key_id).await
        })
    }

    /// Runs calls of one's own to their end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Verifies the audit log as an auditor would.
    ///
    /// # Errors
    /// When the log is called tampered with, or cannot be read.
    pub fn verify_audit(&self) -> Result<()> {
        let configuration = self.installation.path("etc/administrator.yaml");
        let output = self
            .installation
            .kubectl_strongroom(&configuration)
            .args(["audit", "verify"])
            .arg(self.installation.audit_dir())
            .args(["--fingerprint", &self.fingerprint])
            .output()?;
        match output.status.code() {
            Some(0 | TAIL_UNPROVEN) => Ok(()),
            _ => bail!(
                "{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    }

    /// Removes everything; the last step, so that a failed story leaves its debris.
    ///
    /// # Errors
    /// When the folder cannot be removed.
    pub fn clean_up(mut self) -> Result<()> {
        self.running.clear();
        fs::remove_dir_all(&self.root)?;
        Ok(())
    }
}

fn find(running: &mut [(Program, Watched)], program: Program) -> Result<&mut Watched> {
    let found = running.iter_mut().find(|(running, _)| *running == program);
    found
        .map(|(_, watched)| watched)
        .with_context(|| format!("{} was not started", program.name()))
}
