//! SoftHSM's folder and configuration, both made by the agent, and the environment in which a module runs.
#![forbid(unsafe_code)]

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{
    config::{Config, MakeBy, TokenType},
    files, kept,
};

/// Why SoftHSM cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare {} for SoftHSM", path.display())]
pub(crate) struct PrepareError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Why SoftHSM is not loaded yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadyError {
    /// Only `init` makes the folder of tokens: made at a start, it would be hidden by the volume that is mounted later.
    #[error(
        "the folder of tokens {} is not there: mount its volume; only a new installation runs `hsm-agent init`",
        path.display()
    )]
    Late {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Nothing of a token is there, or one that was begun: the key service says when it is made.
    #[error("there is no token yet; it is made when the key service is initialised")]
    NotMade,
    /// The configuration of SoftHSM cannot be written.
    #[error(transparent)]
    Prepare(#[from] PrepareError),
}

/// Gives the folder of SoftHSM's tokens; `None` for another module.
pub(crate) fn files(config: &Config) -> Option<PathBuf> {
    match config.token.kind {
        TokenType::SoftHSM => Some(config.data_dir.join("tokens")),
        TokenType::PKCS11 => None,
    }
}

/// Puts a token back that a killed process tore, or keeps a copy of it. Nothing to do for another module.
pub(crate) fn keep_tokens(config: &Config) -> Result<(), PrepareError> {
    let Some(tokens) = files(config) else {
        return Ok(());
    };
    let path = kept_tokens(config);
    kept::keep(&tokens, &path).map_err(|source| PrepareError { path, source })
}

fn configuration_file(config: &Config) -> PathBuf {
    config.data_dir.join("softhsm2.conf")
}

/// Makes the folder and writes the configuration of SoftHSM. Nothing to do for another module.
pub(crate) fn prepare(config: &Config) -> Result<(), PrepareError> {
    let Some(tokens) = files(config) else {
        return Ok(());
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PrepareError { path, source }
    };
    match DirBuilder::new().mode(0o700).create(&tokens) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        outcome => outcome.map_err(failed(&tokens))?,
    }
    configure(config, &tokens)
}

/// Tells whether the folder that `prepare` made is there, and brings the configuration beside it up to date. Nothing to do
/// for another module.
pub(crate) fn ready(config: &Config) -> Result<(), ReadyError> {
    let Some(tokens) = files(config) else {
        return Ok(());
    };
    if config.token.make == MakeBy::Request && is_unmade(config, &tokens) {
        return Err(ReadyError::NotMade);
    }
    match fs::read_dir(&tokens) {
        Ok(_) => Ok(configure(config, &tokens)?),
        Err(source) => Err(ReadyError::Late {
            path: tokens,
            source,
        }),
    }
}

/// Tells whether making a token was never finished in the folder of the data, which is there. What is left of a token that was
/// finished, be it its PIN or a copy, says that one was lost.
fn is_unmade(config: &Config, tokens: &Path) -> bool {
    let is_empty = |folder: &Path| match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    config.officer_pin_file().exists()
        || config.data_dir.is_dir()
            && is_empty(tokens)
            && is_empty(&kept_tokens(config))
            && !config.pin_file().exists()
}

fn kept_tokens(config: &Config) -> PathBuf {
    config.data_dir.join("kept")
}

fn configure(config: &Config, tokens: &Path) -> Result<(), PrepareError> {
    let path = configuration_file(config);
    let text = configuration(tokens);
    if fs::read(&path).is_ok_and(|current| current == text.as_bytes()) {
        return Ok(());
    }
    files::replace(&path, text.as_bytes(), 0o600).map_err(|source| PrepareError { path, source })
}

fn configuration(tokens: &Path) -> String {
    format!(
        "# Written by hsm-agent; changes are overwritten.\n\
         directories.tokendir = {}\n\
         objectstore.backend = file\n\
         objectstore.umask = 0077\n\
         log.level = ERROR\n\
         slots.removable = false\n\
         slots.mechanisms = ALL\n",
        tokens.display()
    )
}

/// Gives all that a module's process sees of the environment, beside what logs and tests need.
pub(crate) fn environment(config: &Config) -> Vec<(String, String)> {
    match config.token.kind {
        TokenType::SoftHSM => {
            let path = configuration_file(config).display().to_string();
            vec![("SOFTHSM2_CONF".to_owned(), path)]
        }
        TokenType::PKCS11 => config.token.environment.clone().into_iter().collect(),
    }
}
