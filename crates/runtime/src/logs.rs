//! JSON logs on stderr. `RUST_LOG` wins over the configured filter. A panic becomes one line that holds no formatted
//! message, because such messages can carry the values that were formatted.

use std::panic::PanicHookInfo;

use tracing_subscriber::{EnvFilter, filter::ParseError};

/// Installs the subscriber and the panic hook, once for each process.
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
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn log_panic(info: &PanicHookInfo<'_>) {
    // A literal cannot hold a value; a `String` can.
    let literal = info.payload().downcast_ref::<&'static str>().copied();
    let location = info.location().map(ToString::to_string);
    tracing::error!(location, literal, "panicked");
}
