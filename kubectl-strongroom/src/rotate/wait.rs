//! Waiting until everybody reports the new key id, with progress on stderr.

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use jiff::SignedDuration;
use tokio::time::Instant;

use super::{
    kubectl::{ApiServers, KubectlError},
    plugins::{PluginError, PluginUrl, Plugins},
    servers::Servers,
};
use crate::{args::ClusterArgs, environment::Environment, output::plain};

/// How long to wait: more than nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeout(Duration);

/// The text is not a duration, or not a positive one.
#[derive(Debug, thiserror::Error)]
#[error("a timeout is a positive duration such as 90s, 5m or 1h30m")]
pub(crate) struct ParseTimeoutError;

impl FromStr for Timeout {
    type Err = ParseTimeoutError;

    fn from_str(text: &str) -> Result<Self, ParseTimeoutError> {
        let duration = text
            .parse::<SignedDuration>()
            .map_err(|_| ParseTimeoutError)?;
        match Duration::try_from(duration) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(ParseTimeoutError),
        }
    }
}

impl Timeout {
    pub(crate) const fn duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    #[error(transparent)]
    Kubectl(#[from] KubectlError),
    #[error(transparent)]
    Plugin(#[from] PluginError),
}

/// Asks everybody who must take the new key over.
pub(super) struct Observer {
    api_servers: Option<ApiServers>,
    plugins: Plugins,
}

impl Observer {
    /// API servers are asked unless plugins are named and no cluster is.
    pub(super) fn new(
        environment: &Environment,
        kubectl: ClusterArgs,
        plugins: Vec<PluginUrl>,
    ) -> Self {
        let cluster_is_named = kubectl.kubeconfig.is_some() || kubectl.context.is_some();
        let program: PathBuf = environment.kubectl.clone();
        let api_servers =
            (plugins.is_empty() || cluster_is_named).then(|| ApiServers::new(program, kubectl));
        Self {
            api_servers,
            plugins: Plugins::new(plugins),
        }
    }

    /// Asks everybody once.
    pub(super) async fn observe(&mut self) -> Result<Servers, ObserveError> {
        let mut servers = Vec::new();
        if let Some(api_servers) = &mut self.api_servers {
            servers.extend(api_servers.observe().await?);
        }
        servers.extend(self.plugins.observe().await?);
        Ok(Servers(servers))
    }
}

/// One wait.
pub(super) struct Waiting {
    pub(super) observer: Observer,
    pub(super) wanted: String,
    pub(super) timeout: Timeout,
    pub(super) pause: Duration,
}

impl Waiting {
    /// Looks until everybody reports the wanted key id or the time is over, and gives what it saw last.
    ///
    /// A look that fails is told and tried again: an API server that restarts must not end the wait.
    pub(super) async fn run(mut self, err: &mut dyn Write) -> io::Result<Servers> {
        let end = Instant::now() + self.timeout.0;
        let mut servers = Servers::default();
        let mut told = String::new();
        loop {
            let news = match tokio::time::timeout_at(end, self.observer.observe()).await {
                Err(_) => return Ok(servers),
                Ok(Err(error)) => plain(&format!("cannot look, trying again: {error}")),
                Ok(Ok(seen)) => {
                    servers = seen;
                    match servers.converged(&self.wanted) {
                        Ok(()) => return Ok(servers),
                        Err(missing) => format!("waiting: {missing}"),
                    }
                }
            };
            if news != told {
                writeln!(err, "{news}")?;
                told = news;
            }
            if end.saturating_duration_since(Instant::now()) <= self.pause {
                return Ok(servers);
            }
            tokio::time::sleep(self.pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, seconds: Option<u64>) {
        let timeout = text
            .parse::<Timeout>()
            .ok()
            .map(|timeout| timeout.0.as_secs());
        assert_eq!(timeout, seconds, "{text}");
    }

    #[test]
    fn timeouts_are_positive_durations() {
        check("90s", Some(90));
        check("5m", Some(300));
        check("1h30m", Some(5400));
        check("0s", None);
        check("-5m", None);
        check("5", None);
        check("soon", None);
    }
}
