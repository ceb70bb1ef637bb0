//! `init`: makes SoftHSM's token and its PINs. The PINs are on disk before the token is made, so that a crash at any point
//! is finished by the next `init`; the security officer's PIN is only kept until then.
#![forbid(unsafe_code)]

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::process::{Signal, set_parent_process_death_signal};
use strongroom_runtime::{Program, fault};
use zeroize::Zeroizing;

use crate::{
    args::MakeToken,
    child,
    config::{Config, TokenType},
    files,
    pkcs11::{CallError, LoadError, Module, Slot, TokenInfo, User},
    softhsm::{self, PrepareError},
    token::{self, AttachError},
};

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeTokenError {
    /// Somebody else's hardware is not ours to empty.
    #[error("token.type is PKCS11: make the token with its maker's tools; init is for SoftHSM")]
    NotSoftHsm,
    /// SoftHSM has no place.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// The process that loads the module did not start.
    #[error("the process that loads the module cannot be started")]
    Spawn(#[source] io::Error),
    /// The kernel does not tell when the parent ends.
    #[error("the end of the parent cannot be watched")]
    Parent(#[source] io::Error),
    /// The process that loads the module failed, and has said why.
    #[error("no token was made")]
    Child,
    /// The module cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is one.
    #[error("there is a token with the label {label} already")]
    AlreadyThere {
        /// The label.
        label: String,
    },
    /// There is a PIN and no token: most likely the wrong volume.
    #[error("there is a PIN file {} and no token with the label {label}: a token may be lost", path.display())]
    PinWithoutToken {
        /// The PIN file.
        path: PathBuf,
        /// The label.
        label: String,
    },
    /// A PIN cannot be kept.
    #[error("cannot keep a PIN in {}", path.display())]
    Pin {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// SoftHSM always has an empty slot.
    #[error("the module has no empty slot")]
    NoSlot,
    /// The files of the token cannot be synced.
    #[error("the files of the token cannot be synced")]
    Sync(#[source] io::Error),
    /// The token cannot be found.
    #[error(transparent)]
    Find(#[from] AttachError),
    /// The module failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Runs `init`: prepares SoftHSM's place and lets a child load the module.
pub(crate) fn run(make: MakeToken, config: Config, program: Program) -> ExitCode {
    strongroom_runtime::run(program, |handle| async move {
        let outcome = make_token(&make.file.config, &config, make.if_missing);
        handle.tasks.stop();
        outcome
    })
}

/// Prepares SoftHSM's place and lets a child load the module and make the token. Blocks.
pub(crate) fn make_token(
    config_path: &Path,
    config: &Config,
    if_missing: bool,
) -> Result<(), MakeTokenError> {
    if config.token.kind != TokenType::SoftHSM {
        return Err(MakeTokenError::NotSoftHsm);
    }
    softhsm::prepare(config)?;
    let mut command = child::command("make-token", config_path, config);
    if if_missing {
        command.arg("--if-missing");
    }
    let status = command.status();
    match status.map_err(MakeTokenError::Spawn)?.success() {
        true => Ok(()),
        false => Err(MakeTokenError::Child),
    }
}

/// Runs the child of `init`.
pub(crate) fn run_child(config: Config, if_missing: bool, program: Program) -> ExitCode {
    strongroom_runtime::run(program, |handle| async move {
        // The agent that comes after one that was killed starts a child of its own.
        set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(|errno| MakeTokenError::Parent(errno.into()))?;
        let outcome = match Making::new(&config).make() {
            Err(MakeTokenError::AlreadyThere { label }) if if_missing => {
                tracing::info!(label, "there is a token already");
                Ok(())
            }
            outcome => outcome,
        };
        handle.tasks.stop();
        outcome
    })
}

struct Making<'a> {
    config: &'a Config,
    label: &'a str,
    /// The user's PIN.
    pin: PathBuf,
    /// The security officer's PIN, there from the beginning to the end of `init`.
    officer_pin: PathBuf,
}

impl<'a> Making<'a> {
    fn new(config: &'a Config) -> Self {
        Self {
            config,
            label: &config.token.label,
            pin: config.pin_file(),
            officer_pin: config.officer_pin_file(),
        }
    }

    fn make(&self) -> Result<(), MakeTokenError> {
        softhsm::keep_tokens(self.config)?;
        let module = Module::load(&self.config.token.module)?;
        let there = match token::find_slot(module, self.label) {
            Ok(found) => Some(found),
            Err(AttachError::Missing { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let begun = self.officer_pin.exists();
        match &there {
            Some(_) if !begun => {
                return Err(MakeTokenError::AlreadyThere {
                    label: self.label.to_owned(),
                });
            }
            None if !begun && self.pin.exists() => {
                let (path, label) = (self.pin.clone(), self.label.to_owned());
                return Err(MakeTokenError::PinWithoutToken { path, label });
            }
            _ => {}
        }
        let officer = pin_in(&self.officer_pin, 0o400)?;
        let user = pin_in(&self.pin, 0o400)?;
        fault::point!("hsm.make-token.pins-written");
        let (slot, info) = match there {
            Some(found) => found,
            None => self.init_token(module, &officer)?,
        };
        self.set_user_pin(module, slot, &info, &officer, &user)
    }

    fn init_token(&self, module: Module, pin: &[u8]) -> Result<(Slot, TokenInfo), MakeTokenError> {
        module.init_token(empty_slot(module)?, pin, self.label)?;
        self.sync()?;
        fault::point!("hsm.make-token.token-made");
        // The token may have moved to another slot.
        module.restart()?;
        Ok(token::find_slot(module, self.label)?)
    }

    fn set_user_pin(
        &self,
        module: Module,
        slot: Slot,
        info: &TokenInfo,
        officer: &[u8],
        user: &[u8],
    ) -> Result<(), MakeTokenError> {
        let session = module.open_session(slot)?;
        if info.user_pin_set {
            session.login(User::User, user)?;
        } else {
            session.login(User::SecurityOfficer, officer)?;
            session.init_pin(user)?;
            self.sync()?;
            fault::point!("hsm.make-token.user-pin-set");
        }
        // From the first login of a worker on, a kill may tear it.
        softhsm::keep_tokens(self.config)?;
        let removed = files::remove_if_there(&self.officer_pin);
        removed.map_err(|source| MakeTokenError::Pin {
            path: self.officer_pin.clone(),
            source,
        })?;
        tracing::info!(label = info.label, serial = info.serial, pin = %self.pin.display(), "token made");
        Ok(())
    }

    /// SoftHSM writes files and does not sync them.
    fn sync(&self) -> Result<(), MakeTokenError> {
        match softhsm::files(self.config) {
            Some(folder) => files::sync_below(&folder).map_err(MakeTokenError::Sync),
            None => Ok(()),
        }
    }
}

fn empty_slot(module: Module) -> Result<Slot, MakeTokenError> {
    for slot in module.slots()? {
        if !module.token(slot)?.initialized {
            return Ok(slot);
        }
    }
    Err(MakeTokenError::NoSlot)
}

/// Reads the PIN that an `init` before this one made, or makes one.
fn pin_in(path: &Path, mode: u32) -> Result<Zeroizing<Vec<u8>>, MakeTokenError> {
    let failed = |source| MakeTokenError::Pin {
        path: path.to_owned(),
        source,
    };
    match fs::read(path).map(Zeroizing::new) {
        Ok(pin) if pin.len() == PIN_LEN => Ok(pin),
        // Half of a PIN was never a PIN: it is synced before the token hears of it.
        Ok(_) => {
            files::remove_if_there(path).map_err(failed)?;
            new_pin(path, mode).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            new_pin(path, mode).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

const PIN_LEN: usize = 32;

fn new_pin(path: &Path, mode: u32) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut random = Zeroizing::new([0; PIN_LEN / 2]);
    strongroom_crypto::random::fill(&mut *random);
    let mut pin = Zeroizing::new(vec![0; PIN_LEN]);
    hex::encode_to_slice(random.as_slice(), &mut pin).expect("two digits for each byte fit");
    files::create(path, &pin, mode)?;
    Ok(pin)
}
