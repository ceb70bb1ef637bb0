//! An installation whose key service is stopped, so that its folders can be changed behind its back, case by case.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use strongroom_e2e::{
    native::Native,
    world::{installation, run, wait},
};
use strongroom_hack::installation::{Installation, KEY_SERVICE_UID, Program};

/// Whatever is refused is refused long before this; a service that serves is ended then, and the case has failed.
const LIMIT: Duration = Duration::from_secs(60);
/// Some looks of a program that waits.
const LOOKS: Duration = Duration::from_secs(2);
/// What nothing may be written to.
pub(crate) const FOLDERS: [&str; 4] = ["service", "audit", "agent", "plugin"];

/// An installation with a running agent and a key service that runs only when a case says so.
pub(crate) struct Place {
    pub(crate) installation: Installation,
}

impl Place {
    /// A token and a running agent, and nothing else.
    pub(crate) fn with_empty_token(name: &str, first_port: u16) -> Result<Self> {
        let mut installation = installation(name, first_port)?;
        installation.init(Program::HsmAgent)?;
        installation.start(Program::HsmAgent, &[])?;
        installation.wait_answering(Program::HsmAgent)?;
        Ok(Self { installation })
    }

    /// An instance that has not served yet.
    pub(crate) fn initialised(name: &str, first_port: u16) -> Result<Self> {
        let place = Self::with_empty_token(name, first_port)?;
        place.installation.init(Program::KeyService)?;
        Ok(place)
    }

    /// Lets the key service serve for as long as an administrator does something, then stops it.
    pub(crate) fn serve_during<T>(
        &mut self,
        act: impl AsyncFnOnce(Native) -> Result<T>,
    ) -> Result<T> {
        self.installation.start(Program::KeyService, &[])?;
        self.installation.wait_ready(Program::KeyService)?;
        self.installation.administrator("administrator")?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(async {
            act(Native::connect(&self.installation, "administrator").await?).await
        });
        self.installation.stop(Program::KeyService)?;
        outcome
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.installation.path(relative)
    }

    /// The instance, as it is pinned.
    pub(crate) fn instance(&self) -> Result<String> {
        let pin: serde_json::Value =
            serde_json::from_slice(&fs::read(self.path("service/pin.json"))?)?;
        Ok(pin["instanceId"].as_str().unwrap_or_default().to_owned())
    }

    /// Keeps the folders of the key service under a name.
    pub(crate) fn save(&self, name: &str) -> Result<()> {
        let saved = self.path(name);
        fs::create_dir(&saved)?;
        copy(&self.path("service"), &saved.join("service"))?;
        copy(&self.path("audit"), &saved.join("audit"))
    }

    /// Puts the folders and the configuration back as they were saved.
    pub(crate) fn restore(&self, name: &str) -> Result<()> {
        for folder in ["service", "audit"] {
            fs::remove_dir_all(self.path(folder))?;
            copy(&self.path(name).join(folder), &self.path(folder))?;
        }
        self.installation.write_configuration()
    }

    /// Puts a file of the key service into its folder.
    pub(crate) fn put(&self, relative: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(relative);
        fs::write(&path, bytes)?;
        chown(&path, Some(KEY_SERVICE_UID), Some(KEY_SERVICE_UID))?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(0o600),
        )?)
    }

    /// Replaces a part of the key service's configuration.
    pub(crate) fn configure(&self, part: &str, other: &str) -> Result<()> {
        let path = self.installation.config(Program::KeyService);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(part), "no {part} in {text}");
        Ok(fs::write(&path, text.replace(part, other))?)
    }

    /// Runs `serve` or `init`, which must end with this sentence and leave every byte as it was.
    pub(crate) fn refuses(&self, subcommand: &str, sentence: &str) -> Result<String> {
        let before = self.bytes()?;
        let output = self.run(subcommand)?;
        // The log of `serve` is JSON, which quotes the quotes of paths.
        let said = (String::from_utf8(output.stderr)? + &String::from_utf8(output.stdout)?)
            .replace("\\\"", "\"");
        ensure!(
            output.status.code() == Some(1),
            "{subcommand} ended with {}, expected: {sentence}; it said: {said}",
            output.status
        );
        ensure!(said.contains(sentence), "expected: {sentence}; got: {said}");
        let changed = difference(&before, &self.bytes()?);
        ensure!(
            changed.is_empty(),
            "{sentence}: but {changed:?} were written"
        );
        Ok(said)
    }

    /// Starts `serve`, which must live on, say this of a condition in `/readyz`, and leave every byte as it was.
    pub(crate) fn waits(&mut self, condition: &str, sentence: &str) -> Result<()> {
        let before = self.bytes()?;
        self.installation.start(Program::KeyService, &[])?;
        self.says(Program::KeyService, &format!("{condition}: {sentence}"))?;
        // It looks twice a second.
        thread::sleep(LOOKS);
        self.says(Program::KeyService, &format!("{condition}: {sentence}"))?;
        self.installation.stop(Program::KeyService)?;
        let changed = difference(&before, &self.bytes()?);
        ensure!(
            changed.is_empty(),
            "{sentence}: but {changed:?} were written"
        );
        Ok(())
    }

    /// Waits until `/readyz` of a program that lives on says a sentence; `/healthz` says yes all the while.
    pub(crate) fn says(&self, program: Program, sentence: &str) -> Result<()> {
        let what = format!("{} says {sentence}", program.name());
        wait(LIMIT, &what, || {
            let answer = self.installation.probe(program, "/readyz")?;
            ensure!(answer.body.contains(sentence), "{}", answer.body);
            Ok(answer.status == 503)
        })?;
        let live = self.installation.probe(program, "/healthz")?;
        ensure!(live.status == 200, "{}: {}", program.name(), live.body);
        ensure!(
            self.installation.process(program)?.is_alive(),
            "{} ended",
            program.name()
        );
        Ok(())
    }

    /// Runs a command of the key service to its end.
    pub(crate) fn run(&self, subcommand: &str) -> Result<Output> {
        let mut child = self
            .installation
            .command(Program::KeyService, subcommand)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let start = Instant::now();
        while child.try_wait()?.is_none() {
            if start.elapsed() > LIMIT {
                child.kill()?;
                let said = String::from_utf8(child.wait_with_output()?.stderr)?;
                bail!("{subcommand} was not refused: {said}");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(child.wait_with_output()?)
    }

    /// Every file of the folders with its bytes, and every folder in them with none.
    pub(crate) fn bytes(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for folder in FOLDERS {
            read_folder(&self.path(folder), &mut files)?;
        }
        Ok(files)
    }

    pub(crate) fn clean_up(mut self) -> Result<()> {
        self.installation.stop_all()?;
        Ok(fs::remove_dir_all(self.path(""))?)
    }
}

/// Copies a folder with owners and modes.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    run(Command::new("cp").arg("-a").arg(from).arg(to)).map(drop)
}

/// The paths that two readings do not agree on.
pub(crate) fn difference(
    before: &BTreeMap<PathBuf, Vec<u8>>,
    after: &BTreeMap<PathBuf, Vec<u8>>,
) -> Vec<PathBuf> {
    let mut paths: Vec<_> = before.keys().chain(after.keys()).cloned().collect();
    paths.retain(|path| before.get(path) != after.get(path));
    paths.sort();
    paths.dedup();
    paths
}

fn read_folder(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kind = fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            files.insert(path.clone(), Vec::new());
            read_folder(&path, files)?;
        } else if kind.is_file() {
            files.insert(path.clone(), fs::read(&path)?);
        }
    }
    Ok(())
}
