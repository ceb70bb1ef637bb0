//! JSON logs on stderr. `RUST_LOG` wins over the configured filter.

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Installs the subscriber, once for each process.
pub(crate) fn install(filter: &str) -> Result<(), ParseError> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(from_environment) => EnvFilter::try_new(from_environment)?,
        Err(_) => EnvFilter::try_new(filter)?,
    };
    // Fails only when a test has installed a subscriber before, which then sees our events.
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
    Ok(())
}
