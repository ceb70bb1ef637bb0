//! Where things lie: the checkout, the cache that survives it, and the folder of running clusters.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Returns the root of the checkout that this program was built from.
pub fn checkout() -> &'static Path {
    let hack = Path::new(env!("CARGO_MANIFEST_DIR"));
    hack.parent().unwrap_or(hack)
}

/// Returns the cache folder of the project: outside the checkout, so that a fresh clone starts warm.
pub fn cache() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => PathBuf::from(env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?)
            .join(".cache"),
    };
    Ok(base.join("strongroom"))
}

/// Returns the folder that holds one folder for each running cluster of this user.
///
/// It is short on purpose: paths of Unix sockets below it must stay under 108 bytes.
pub fn clusters() -> PathBuf {
    let user = rustix::process::getuid().as_raw();
    env::temp_dir().join(format!("strongroom-{user}"))
}
