//! Which state behind the plugin gives kube-apiserver which answer: brought about with the real programs, one after the
//! other, and compared with the table that people read.
#![forbid(unsafe_code)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use strongroom_api::{kubernetes::kms::v2::EncryptResponse, strongroom::v1::ChangeVersionRequest};
use strongroom_e2e::{mtls::StoryClock, stage::Stage, world::wait};
use strongroom_hack::{
    installation::Program,
    paths,
    programs::Build,
    shim::{Call, Shim},
};
use tonic::Status;

const TABLE: &str = "docs/reference/kms-plugin-answers.md";
/// `CKR_DEVICE_REMOVED`.
const DEVICE_REMOVED: u64 = 0x32;
const LIMIT: Duration = Duration::from_secs(60);
const END_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn each_state_has_the_answers_of_the_table() -> Result<()> {
    let mut story = Story::begin()?;
    let mut shown = Vec::new();
    for (state, bring_about) in STATES {
        bring_about(&mut story).with_context(|| format!("bringing about: {state}"))?;
        let expected = expected(state)?;
        // A state is there a moment after what causes it.
        let start = Instant::now();
        while story.answers() != expected {
            ensure!(
                start.elapsed() < LIMIT,
                "{state}: {:?} instead of {expected:?}",
                story.answers()
            );
            thread::sleep(Duration::from_millis(200));
        }
        shown.push((*state).to_owned());
    }
    ensure!(
        shown == states()?,
        "the table has states that are not shown"
    );
    story.clock.remove()?;
    story.stage.clean_up()
}

type BringAbout = fn(&mut Story) -> Result<()>;

/// The states in the order of the table; each begins where the one before has ended.
const STATES: &[(&str, BringAbout)] = &[
    ("everything works", |_| Ok(())),
    ("the machine's clock has jumped", |story| {
        story.clock.turn(7200)?;
        story.wait_jumped()
    }),
    ("the HSM takes 2 s for each call", |story| {
        story.clock.turn(0)?;
        for call in [Call::Decrypt, Call::Sign, Call::GetTokenInfo] {
            story.shim.steering.delay(call, Duration::from_secs(2))?;
        }
        story.wait_asked()
    }),
    ("the token is gone, the KEK within its bound", |story| {
        for call in Call::ALL {
            story.shim.steering.delay(*call, Duration::ZERO)?;
        }
        // Given anew just now, so that most of the bound is left.
        story.wait_asked()?;
        story.token(DEVICE_REMOVED)
    }),
    ("the token is gone, the KEK past its bound", |_| Ok(())),
    ("hsm-agent is away, the KEK within its bound", |story| {
        story.token(0)?;
        story.wait_usable()?;
        story.end(Program::HsmAgent)
    }),
    ("the etcd key's version is disabled", |story| {
        story.stage.recover()?;
        story.change_version(false)
    }),
    (
        "the key service is away for less than `status.maxAge`",
        |story| {
            story.change_version(true)?;
            story.wait_usable()?;
            story.end(Program::KeyService)
        },
    ),
    ("the key service is away for longer", |_| Ok(())),
    (
        "the plugin has started and the key service has not",
        |story| {
            story.end(Program::KmsPlugin)?;
            story.stage.start(Program::KmsPlugin, "")
        },
    ),
    ("the volume of the plugin's state is not mounted", |story| {
        story.stage.recover()?;
        story.end(Program::KmsPlugin)?;
        let folder = story.stage.installation.path("plugin");
        fs::rename(&folder, folder.with_extension("away"))?;
        story.stage.start(Program::KmsPlugin, "")
    }),
    (
        "another instance answers than the plugin is pinned to",
        |story| {
            let folder = story.stage.installation.path("plugin");
            fs::rename(folder.with_extension("away"), &folder)?;
            story.stage.recover()?;
            story.edit_state(|state| state["instanceId"] = "0f".repeat(16).into())
        },
    ),
    ("the store is older than the plugin has seen", |story| {
        story.edit_state(|state| state["storeEpoch"] = 9.into())
    }),
    (
        "the audit log is full up to the plugin's reserve",
        |story| {
            story.restore_state()?;
            story.stage.recover()?;
            story.fill(|story| story.stage.describe().is_err())
        },
    ),
    ("the audit log is full, the reserve too", |story| {
        story.fill(|story| story.stage.plugin.encrypt(&[7; 32]).is_err())
    }),
];

struct Story {
    stage: Stage,
    clock: StoryClock,
    shim: Shim,
    sealed: EncryptResponse,
    /// The plugin's state before a story changed it.
    state: String,
}

impl Story {
    fn begin() -> Result<Self> {
        let mut clock = None;
        let mut stage = Stage::lay_out("answers", 27500, Build::FaultPoints, |settings| {
            clock = Some(StoryClock::of(settings));
            settings.module = settings.root.join("etc/pkcs11-shim.so");
            settings.kek_cache_ttl = "10s".to_owned();
            settings.audit_capacity_mib = 2;
        })?;
        let clock = clock.context("the settings were changed")?;
        clock.start()?;
        let shim = Shim::place(&stage.installation.path("etc"))?;
        stage.bring_up()?;
        let sealed = stage.plugin.encrypt(&[9; 32])?;
        Ok(Self {
            stage,
            clock,
            shim,
            sealed,
            state: String::new(),
        })
    }

    /// What the API server gets for Status, Encrypt and Decrypt.
    fn answers(&self) -> [String; 3] {
        let plugin = &self.stage.plugin;
        let status = plugin
            .status()
            .and_then(|status| match status.healthz.as_str() {
                "ok" if !status.key_id.is_empty() => Ok(()),
                text => Err(Status::ok(text)),
            });
        let opened = plugin.decrypt(&self.sealed).map(drop);
        [status, plugin.encrypt(&[7; 32]).map(drop), opened].map(name)
    }

    fn wait_jumped(&self) -> Result<()> {
        wait(LIMIT, "the jump is noticed", || {
            let metrics = self
                .stage
                .installation
                .probe(Program::KeyService, "/metrics")?;
            Ok(metrics.body.contains("strongroom_clock_jumped 1"))
        })
    }

    /// Waits until the key service has asked the token once more.
    fn wait_asked(&self) -> Result<()> {
        let before = self.shim.steering.count(Call::Decrypt)?;
        // Two copies are unwrapped.
        wait(LIMIT, "the token is asked", || {
            Ok(self.shim.steering.count(Call::Decrypt)? >= before + 2)
        })
    }

    fn token(&self, answer: u64) -> Result<()> {
        for call in [Call::OpenSession, Call::DecryptInit, Call::GetTokenInfo] {
            self.shim.steering.answer(call, answer)?;
        }
        Ok(())
    }

    fn wait_usable(&self) -> Result<()> {
        wait(LIMIT, "everything works", || {
            Ok(self.answers().iter().all(|answer| answer == "ok"))
        })
    }

    fn end(&mut self, program: Program) -> Result<()> {
        self.stage.process(program)?.end(Signal::KILL, END_LIMIT)?;
        Ok(())
    }

    fn change_version(&self, enabled: bool) -> Result<()> {
        let version = self.stage.describe()?.primary_version;
        self.stage.native(async |native, ring_id, key| {
            let request = ChangeVersionRequest {
                ring_id,
                key,
                version,
                ..ChangeVersionRequest::default()
            };
            match enabled {
                true => native.keys().enable_version(request).await?,
                false => native.keys().disable_version(request).await?,
            };
            Ok(())
        })
    }

    /// Starts the plugin with another memory of what it has seen.
    fn edit_state(&mut self, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
        self.end(Program::KmsPlugin)?;
        let path = self.stage.installation.path("plugin/state.json");
        if self.state.is_empty() {
            self.state = fs::read_to_string(&path)?;
        }
        let mut state = serde_json::from_str(&self.state)?;
        change(&mut state);
        fs::write(&path, state.to_string())?;
        self.stage.start(Program::KmsPlugin, "")
    }

    fn restore_state(&mut self) -> Result<()> {
        self.end(Program::KmsPlugin)?;
        let path = self.stage.installation.path("plugin/state.json");
        Ok(fs::write(path, &self.state)?)
    }

    /// Uses the key until the log is as full as wanted.
    fn fill(&self, enough: impl Fn(&Self) -> bool) -> Result<()> {
        for _ in 0..2_000 {
            if enough(self) {
                return Ok(());
            }
            for _ in 0..20 {
                // Refused once the reserve is used up.
                let _ = self.stage.plugin.encrypt(&[7; 32]);
            }
        }
        bail!("the log never fills")
    }
}

fn name(outcome: Result<(), Status>) -> String {
    match outcome {
        Ok(()) => "ok".to_owned(),
        Err(error) => screaming(&format!("{:?}", error.code())),
    }
}

/// `FailedPrecondition` as gRPC writes it: `FAILED_PRECONDITION`.
fn screaming(code: &str) -> String {
    let mut name = String::new();
    for letter in code.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_uppercase());
    }
    name
}

/// The cells of the table, row by row.
fn rows() -> Result<Vec<Vec<String>>> {
    let page = fs::read_to_string(paths::checkout().join(TABLE))?;
    let cells = |line: &str| {
        line.trim_matches('|')
            .split('|')
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let lines = page.lines().filter(|line| line.starts_with('|'));
    Ok(lines.skip(2).map(cells).collect())
}

fn states() -> Result<Vec<String>> {
    Ok(rows()?
        .into_iter()
        .filter_map(|row| row.into_iter().next())
        .collect())
}

fn expected(state: &str) -> Result<[String; 3]> {
    let row = rows()?.into_iter().find(|row| row[0] == state);
    let row = row.with_context(|| format!("{TABLE} does not have: {state}"))?;
    row[1..]
        .to_vec()
        .try_into()
        .map_err(|_| anyhow::anyhow!("four columns"))
}
